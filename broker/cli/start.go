package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace-io/millrace/broker/config"
)

func (a *app) startCommand() *cobra.Command {
	var file string
	var set []string
	c := &cobra.Command{
		Use: "start", Short: "Start a broker, with its sidecar", Args: cobra.NoArgs,
		Long: `Start a broker and, beside it, the sidecar that runs scripts. It stays in the foreground;
SIGTERM or SIGINT drain and close it. When it serves it prints one line on stdout:

  ready node=0 kafka=127.0.0.1:9092 admin=127.0.0.1:9644 sidecar=up

with kafka.NAME=HOST:PORT behind kafka= for each Kafka listener that has a name. All else goes to stderr. Settings come from, the later the stronger: defaults, --config FILE (YAML),
MILLRACE_* variables, flags, --set. docs/CONFIG.md describes each of them.`,
		Example: `  millrace start
  millrace start --data-dir /var/lib/millrace --kafka-addr 0.0.0.0:9092 --advertise-kafka-addr 10.0.0.5:9092
  millrace start --kafka-addr internal://10.0.0.5:9092,external://0.0.0.0:9093 --advertise-kafka-addr external://broker-0.example.com:9093
  millrace start --overprovisioned --smp 1 --memory 1G --reserve-memory 0M --node-id 0 --check=false`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.deps.Start == nil {
				return errors.New("this executable holds no broker")
			}
			node, err := config.Load(config.Sources{File: file, Env: a.nodeEnviron(), Flags: givenFlags(cmd), Set: set})
			if err != nil {
				return fmt.Errorf("start: %w", err)
			}
			return a.deps.Start(cmd.Context(), node)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&file, "config", "", "configuration file, YAML")
	f.StringArrayVar(&set, "set", nil, "any setting of node or cluster, name=value (repeatable)")
	for _, row := range config.Rows(config.ScopeNode) {
		if row.NoFlag {
			continue
		}
		v := &rowFlag{row: row, value: row.Default}
		flag := f.VarPF(v, row.Flag(), "", row.Doc)
		if row.Kind == config.KindBool {
			flag.NoOptDefVal = "true"
		}
		if len(row.Values) > 0 {
			c.RegisterFlagCompletionFunc(row.Flag(), fixed(row.Values...))
		}
	}
	return c
}

// rowFlag is a flag whose text config judges, together with all other sources.
type rowFlag struct {
	row   *config.Row
	value string
}

func (r *rowFlag) Set(v string) error { r.value = v; return nil }
func (r *rowFlag) String() string     { return r.value }

// Type is what help shows after the flag's name.
func (r *rowFlag) Type() string {
	switch {
	case r.row.Kind == config.KindBool:
		return "bool" // pflag shows none for these
	case r.row.Short != "":
		return r.row.Short
	}
	return strings.ToUpper(r.row.Kind.String())
}

func givenFlags(cmd *cobra.Command) map[string]string {
	given := map[string]string{}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if _, is := f.Value.(*rowFlag); is {
			given[f.Name] = f.Value.String()
		}
	})
	return given
}

// nodeEnviron leaves out the variables that speak to the other commands.
func (a *app) nodeEnviron() []string {
	return slices.DeleteFunc(slices.Clone(a.environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "MILLRACE_BROKERS" || name == "MILLRACE_ADMIN" || name == "MILLRACE_PROFILE"
	})
}
