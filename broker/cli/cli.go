package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/rescue"
)

// Version is set by the linker (-X). Deps.Version wins over it.
var Version = "dev"

// Deps is what the commands need from the program around them. The zero value
// works for all commands but start.
type Deps struct {
	// Start runs a broker until ctx ends; nil where none is built in.
	Start func(ctx context.Context, node config.Node) error
	// Rescue goes on with what a lost majority has left; nil where no broker is built in.
	Rescue func(rescue.Ask) (*rescue.Outcome, error)
	// Engine gives the JavaScript engine's module when it is built into the
	// executable; nil: it is looked for in ../share/millrace beside it.
	Engine  func() ([]byte, error)
	Version string // empty: the variable Version
	Commit  string

	Stdin          io.Reader // nil: the process's, as for the next two
	Stdout, Stderr io.Writer
	Environ        []string // nil: the process's
}

// app is one run of the command line.
type app struct {
	deps    Deps
	in      io.Reader
	out     io.Writer
	err     io.Writer
	environ []string
	flags   globals
}

// globals are the flags that every command takes.
type globals struct {
	format  string
	opts    []string // -X key=value
	brokers []string
	profile string
	file    string
	verbose bool
	ignore  bool // --ignore-profile
}

// New builds the command tree. The caller runs it with a context that ends at
// an interrupt, and exits with 1 when it returns an error (already printed).
func New(d Deps) *cobra.Command {
	if d.Version == "" {
		d.Version = Version
	}
	a := &app{deps: d, in: d.Stdin, out: d.Stdout, err: d.Stderr, environ: d.Environ}
	if a.in == nil {
		a.in = os.Stdin
	}
	if a.out == nil {
		a.out = os.Stdout
	}
	if a.err == nil {
		a.err = os.Stderr
	}
	if a.environ == nil {
		a.environ = os.Environ()
	}
	root := a.root()
	root.Version = d.Version
	root.AddCommand(a.startCommand(), a.topicCommand(), a.groupCommand(), a.clusterCommand(),
		a.wasmCommand(), a.profileCommand(), a.debugCommand(), a.versionCommand())
	return root
}

func (a *app) root() *cobra.Command {
	root := group("millrace", "Millrace, a Kafka-compatible broker with transforms")
	root.Long = `Millrace is a Kafka-compatible streaming broker whose topics are transformed by
WebAssembly scripts. This command starts it, and asks and steers one that runs.

Which broker is asked: --brokers or -X brokers=..., else MILLRACE_BROKERS, else the
profile, else 127.0.0.1:9092. Its admin API: -X admin.hosts=..., else
MILLRACE_ADMIN, else the profile, else 127.0.0.1:9644.`
	root.SilenceUsage = true
	root.DisableAutoGenTag = true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.before(cmd) }
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	p := root.PersistentFlags()
	p.StringVar(&a.flags.format, "format", "text", "output format: text, wide, json or yaml")
	p.StringArrayVarP(&a.flags.opts, "config-opt", "X", nil, "set an option, key=value; -X list names them")
	p.StringSliceVar(&a.flags.brokers, "brokers", nil, "Kafka addresses, HOST:PORT[,HOST:PORT]")
	p.StringVar(&a.flags.profile, "profile", "", "profile to use instead of the current one")
	p.StringVar(&a.flags.file, "config", "", "profile file (default ~/.config/millrace/millrace.yaml)")
	p.BoolVar(&a.flags.ignore, "ignore-profile", false, "use no profile file")
	p.BoolVarP(&a.flags.verbose, "verbose", "v", false, "say on stderr what is done")
	root.RegisterFlagCompletionFunc("format", fixed(formats...))
	root.RegisterFlagCompletionFunc("profile", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return a.profileNames(), cobra.ShellCompDirectiveNoFileComp
	})
	return root
}

// before checks what is common to all commands.
func (a *app) before(cmd *cobra.Command) error {
	for _, o := range a.flags.opts {
		if o == "list" || o == "help" {
			fmt.Fprint(a.out, optionHelp(o == "help"))
			return skip(cmd)
		}
	}
	f := cmd.Flags().Lookup("format")
	if f == nil || f.Value.String() != a.flags.format || cmd.LocalNonPersistentFlags().Lookup("format") != nil {
		return nil // the command has a --format of its own
	}
	if a.flags.format == "help" {
		fmt.Fprintln(a.out, strings.Join(formats, "\n"))
		return skip(cmd)
	}
	if !slices.Contains(formats, a.flags.format) {
		return fmt.Errorf("--format %q: want one of %s", a.flags.format, strings.Join(formats, ", "))
	}
	return nil
}

// skip lets a command end well before it does anything.
func skip(cmd *cobra.Command) error {
	cmd.Run, cmd.RunE = nil, func(*cobra.Command, []string) error { return nil }
	return nil
}

// group makes a command that only holds others. Without one of them it prints
// its help; a wrong one is an error, not help with a code of 0.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			cmd.SuggestionsMinimumDistance = 2
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return fmt.Errorf("%s has no command %q; did you mean %s?", cmd.CommandPath(), args[0], strings.Join(near, " or "))
			}
			return fmt.Errorf("%s has no command %q; `%s --help` lists them", cmd.CommandPath(), args[0], cmd.CommandPath())
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(sub...)
	return c
}

func fixed(values ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values, cobra.ShellCompDirectiveNoFileComp
	}
}

// logf speaks only with --verbose.
func (a *app) logf(format string, args ...any) {
	if a.flags.verbose {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// env gives a variable of the environment, "" when it is not set.
func (a *app) env(name string) string {
	for _, kv := range slices.Backward(a.environ) {
		if k, v, found := strings.Cut(kv, "="); found && k == name {
			return v
		}
	}
	return ""
}
