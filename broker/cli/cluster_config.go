package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
)

func (a *app) configCommand() *cobra.Command {
	return group("config", "Read and change the cluster's settings",
		a.configGet(), a.configSet(), a.configReset(), a.configList(), a.configEdit(),
		a.configExport(), a.configImport(), a.configStatus())
}

// cluster settings, with their descriptions.
type clusterConfig struct {
	values []api.ConfigValue
	rows   map[string]api.ConfigRow
}

func (a *app) readConfig(ctx context.Context) (*client.Client, *clusterConfig, error) {
	cl, err := a.adminClient()
	if err != nil {
		return nil, nil, err
	}
	c := &clusterConfig{rows: map[string]api.ConfigRow{}}
	if c.values, err = cl.Config(ctx); err != nil {
		return nil, nil, a.adminError("read settings", err)
	}
	schema, err := cl.ConfigSchema(ctx)
	if err != nil {
		return nil, nil, a.adminError("read settings", err)
	}
	for _, r := range schema {
		c.rows[r.Name] = r
	}
	return cl, c, nil
}

func (c *clusterConfig) find(name string) (api.ConfigValue, error) {
	for _, v := range c.values {
		if v.Name == name {
			return v, nil
		}
	}
	return api.ConfigValue{}, fmt.Errorf("no setting is called %q; `millrace cluster config list` shows them", name)
}

func (a *app) completeSettings(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if _, c, err := a.readConfig(cmd.Context()); err == nil {
		for _, v := range c.values {
			names = append(names, v.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) configGet() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Print a setting's value", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSettings,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, c, err := a.readConfig(cmd.Context())
			if err != nil {
				return err
			}
			v, err := c.find(args[0])
			if err != nil {
				return err
			}
			return a.print(v, func(w *sheet) { w.line("%s", v.Value) })
		},
	}
}

func (a *app) configList() *cobra.Command {
	var changed bool
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List settings and their values", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, c, err := a.readConfig(cmd.Context())
			if err != nil {
				return err
			}
			if changed {
				c.values = slices.DeleteFunc(c.values, func(v api.ConfigValue) bool { return v.Source == "default" })
			}
			return a.print(c.values, func(w *sheet) {
				var rows [][]any
				for _, v := range c.values {
					rows = append(rows, []any{v.Name, v.Value, v.Source, c.rows[v.Name].Unit, c.rows[v.Name].Doc})
				}
				w.table([]string{"NAME", "VALUE", "SOURCE", "+UNIT", "+DESCRIPTION"}, rows)
			})
		},
	}
	c.Flags().BoolVar(&changed, "changed", false, "only settings that are not at their default")
	return c
}

func (a *app) configSet() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use: "set NAME VALUE | NAME=VALUE...", Short: "Set settings; an empty value removes the override",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSettings,
		Example: "  millrace cluster config set log.retention.ms 3600000\n  millrace cluster config set a=1 b=2",
		RunE: func(cmd *cobra.Command, args []string) error {
			change := api.ConfigChange{Set: map[string]string{}, DryRun: dry}
			if len(args) == 2 && !strings.Contains(args[0], "=") {
				args = []string{args[0] + "=" + args[1]}
			}
			for _, kv := range args {
				k, v, found := strings.Cut(kv, "=")
				switch {
				case !found || k == "":
					return fmt.Errorf("%q: want NAME VALUE, or NAME=VALUE", kv)
				case v == "":
					change.Remove = append(change.Remove, k)
				default:
					change.Set[k] = v
				}
			}
			return a.changeConfig(cmd.Context(), change)
		},
	}
	c.Flags().BoolVar(&dry, "dry", false, "only check whether it could be done")
	return c
}

func (a *app) configReset() *cobra.Command {
	return &cobra.Command{
		Use: "reset NAME...", Short: "Give settings their default back", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSettings,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeConfig(cmd.Context(), api.ConfigChange{Remove: args})
		},
	}
}

func (a *app) changeConfig(ctx context.Context, change api.ConfigChange) error {
	cl, err := a.adminClient()
	if err != nil {
		return err
	}
	done, err := cl.ChangeConfig(ctx, change)
	if err != nil {
		return a.adminError("change settings", err)
	}
	err = a.print(done, func(w *sheet) {
		switch {
		case change.DryRun:
			w.line("Valid; nothing was changed.")
		case len(done.Changed) == 0:
			w.line("Nothing changed: the values were set already.")
		default:
			w.line("Successfully updated configuration (version %d): %s.", done.Version, strings.Join(done.Changed, ", "))
		}
	})
	if len(done.NeedsRestart) > 0 {
		fmt.Fprintf(a.err, "These hold only after a restart of each broker: %s\n", strings.Join(done.NeedsRestart, ", "))
	}
	return err
}

// text writes settings as YAML that people edit, each under what it means.
func (c *clusterConfig) text(all bool) []byte {
	var b bytes.Buffer
	for _, v := range c.values {
		row := c.rows[v.Name]
		if row.Secret || !all && v.Source == "default" {
			continue
		}
		for line := range strings.Lines(row.Doc) {
			fmt.Fprintf(&b, "# %s\n", strings.TrimSpace(line))
		}
		if row.NeedsRestart {
			b.WriteString("# Takes effect after a restart.\n")
		}
		fmt.Fprintf(&b, "# Default: %s\n", row.Default)
		line, err := yaml.Marshal(map[string]string{v.Name: v.Value})
		if err == nil {
			b.Write(line)
		}
		b.WriteByte('\n')
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// diff compares an edited text with what holds. What is missing from the text
// goes back to its default when remove says so.
func (c *clusterConfig) diff(text []byte, remove bool) (api.ConfigChange, error) {
	var raw map[string]yaml.Node
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return api.ConfigChange{}, fmt.Errorf("read the settings: %w", err)
	}
	change := api.ConfigChange{Set: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		n := raw[name]
		if n.Kind != yaml.ScalarNode {
			return change, fmt.Errorf("line %d: %s: want one value", n.Line, name)
		}
		now, err := c.find(name)
		if err != nil {
			return change, fmt.Errorf("line %d: %w", n.Line, err)
		}
		if n.Value != now.Value {
			change.Set[name] = n.Value
		}
	}
	for _, v := range c.values {
		if _, kept := raw[v.Name]; remove && !kept && v.Source != "default" && !c.rows[v.Name].Secret {
			change.Remove = append(change.Remove, v.Name)
		}
	}
	return change, nil
}

func (a *app) configExport() *cobra.Command {
	var file string
	var all bool
	c := &cobra.Command{
		Use: "export", Short: "Write the settings as YAML, for import", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, c, err := a.readConfig(cmd.Context())
			if err != nil {
				return err
			}
			if file == "" || file == "-" {
				_, err = a.out.Write(c.text(all))
				return err
			}
			if err := replaceFile(file, c.text(all), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "Wrote %s.\n", file)
			return nil
		},
	}
	c.Flags().StringVarP(&file, "filename", "f", "", "file to write (default stdout)")
	c.Flags().BoolVar(&all, "all", false, "settings at their default too")
	return c
}

// configBytesMax bounds what import and edit read: a few hundred settings.
const configBytesMax = 1 << 20

func (a *app) configImport() *cobra.Command {
	var file string
	var dry bool
	c := &cobra.Command{
		Use: "import -f FILE", Short: "Set the settings of a YAML file; what it does not name stays", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := a.stdin(cmd.Context())
			switch file {
			case "":
				return errors.New("--filename is missing: the file that `millrace cluster config export -f FILE` wrote, or - for stdin")
			case "-":
			default:
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			text, err := io.ReadAll(io.LimitReader(in, configBytesMax))
			if err != nil {
				return fmt.Errorf("read %s: %w", file, err)
			}
			return a.applyConfig(cmd.Context(), text, false, dry)
		},
	}
	c.Flags().StringVarP(&file, "filename", "f", "", "file to read, - for stdin")
	c.Flags().BoolVar(&dry, "dry", false, "only check whether it could be done")
	return c
}

func (a *app) applyConfig(ctx context.Context, text []byte, remove, dry bool) error {
	_, c, err := a.readConfig(ctx)
	if err != nil {
		return err
	}
	change, err := c.diff(text, remove)
	if err != nil {
		return err
	}
	if len(change.Set)+len(change.Remove) == 0 {
		fmt.Fprintln(a.err, "No changes.")
		return nil
	}
	change.DryRun = dry
	return a.changeConfig(ctx, change)
}

func (a *app) configEdit() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "edit", Short: "Edit the settings in $EDITOR; a line taken out goes back to its default", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, c, err := a.readConfig(cmd.Context())
			if err != nil {
				return err
			}
			text, err := a.edit(cmd.Context(), c.text(all))
			if err != nil {
				return err
			}
			return a.applyConfig(cmd.Context(), text, true, false)
		},
	}
	c.Flags().BoolVar(&all, "all", true, "show settings at their default too")
	return c
}

// edit runs the user's editor over text.
func (a *app) edit(ctx context.Context, text []byte) ([]byte, error) {
	editor := a.env("VISUAL")
	if editor == "" {
		editor = a.env("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	f, err := os.CreateTemp("", "millrace-config-*.yaml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	words := append(strings.Fields(editor), f.Name())
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("editor %q: %w; set EDITOR to one that is installed", editor, err)
	}
	return os.ReadFile(f.Name())
}

func (a *app) configStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how far each broker is with the settings", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			nodes, err := cl.ConfigStatus(cmd.Context())
			if err != nil {
				return a.adminError("ask for the settings' status", err)
			}
			return a.print(nodes, func(w *sheet) {
				var rows [][]any
				for _, n := range nodes {
					rows = append(rows, []any{n.Node, n.Version, n.NeedsRestart, list(n.Invalid), list(n.Unknown), n.Reason})
				}
				w.table([]string{"NODE", "CONFIG-VERSION", "NEEDS-RESTART", "INVALID", "UNKNOWN", "REASON"}, rows)
			})
		},
	}
}
