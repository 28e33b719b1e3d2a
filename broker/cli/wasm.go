package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/sdk/manifest"
	"github.com/millrace-io/millrace/sdk/templates"
)

func (a *app) wasmCommand() *cobra.Command {
	t := &tools{a: a}
	c := group("wasm", "Write, build, test, deploy and steer scripts",
		a.wasmGenerate(), a.wasmBuild(t), a.wasmTest(t), a.wasmDeploy(t), a.wasmList(), a.wasmDescribe(),
		a.wasmLogs(), a.wasmPause(), a.wasmResume(), a.wasmSeek(), a.wasmRemove())
	c.Aliases = []string{"transform"}
	c.Long = `Write, build, test, deploy and steer scripts: WebAssembly that transforms topics.

  millrace wasm generate scrub
  cd scrub && millrace wasm build && millrace wasm test --input sample.jsonl
  millrace wasm deploy --name=scrub --input orders main.js
  millrace topic consume orders.scrub`
	f := c.PersistentFlags()
	f.StringVar(&t.sidecar, "sidecar-bin", "", "millrace-sidecar to build and test with (default: beside this executable, else in PATH)")
	f.StringVar(&t.engine, "js-engine", "", "module of the JavaScript engine (default: built in, else beside this executable)")
	return c
}

// interactive says whether a person can be asked.
func (a *app) interactive() bool {
	f, is := a.in.(*os.File)
	return is && isatty.IsTerminal(f.Fd())
}

// completeScripts offers the names of what is deployed.
func (a *app) completeScripts(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	cl, err := a.adminClient()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	scripts, err := cl.Scripts(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range scripts {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// steer makes a command that does one thing to scripts.
func (a *app) steer(use, short, past string, do func(context.Context, scripts, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " NAME...", Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeScripts,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := do(cmd.Context(), cl, name); err != nil {
					return a.adminError(fmt.Sprintf("%s script %q", use, name), err)
				}
				fmt.Fprintf(a.out, "%s %s\n", past, name)
			}
			return nil
		},
	}
}

// scripts is what steering asks of the admin client.
type scripts interface {
	Pause(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	Remove(ctx context.Context, name string) error
}

func (a *app) wasmPause() *cobra.Command {
	return a.steer("pause", "Let scripts take no more records", "paused",
		func(ctx context.Context, s scripts, name string) error { return s.Pause(ctx, name) })
}

func (a *app) wasmResume() *cobra.Command {
	return a.steer("resume", "Let scripts go on where they were paused or stopped", "resumed",
		func(ctx context.Context, s scripts, name string) error { return s.Resume(ctx, name) })
}

func (a *app) wasmRemove() *cobra.Command {
	var sure bool
	c := a.steer("remove", "Remove scripts; their child topics stay", "removed",
		func(ctx context.Context, s scripts, name string) error {
			if err := a.confirm(ctx, sure || !a.interactive(), "--yes", "Remove script %q and forget how far it is?", name); err != nil {
				return err
			}
			return s.Remove(ctx, name)
		})
	c.Aliases = []string{"delete", "rm"}
	c.Flags().BoolVarP(&sure, "yes", "y", false, "do not ask")
	return c
}

func (a *app) wasmSeek() *cobra.Command {
	ask := api.SeekAsk{}
	var partition int32
	c := &cobra.Command{
		Use: "seek NAME --to POSITION", Short: "Move a script to a position of its inputs", Args: cobra.ExactArgs(1),
		Long: `Move a script to a position of its inputs: end, start, @TIME, +N (after the oldest record),
-N (before the end); or an offset, together with --topic and --partition. The command returns when
all children have taken it. Records between may be transformed again, or never.`,
		Example: "  millrace wasm seek scrub --to start\n  millrace wasm seek scrub --to 4711 --topic orders --partition 3", ValidArgsFunction: a.completeScripts,
		RunE: func(cmd *cobra.Command, args []string) error {
			ask.Name = args[0]
			if cmd.Flags().Changed("partition") {
				ask.Partition = &partition
			}
			if err := checkSeek(ask); err != nil {
				return err
			}
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			done, err := cl.Seek(cmd.Context(), ask)
			if err != nil {
				return a.adminError(fmt.Sprintf("seek script %q", ask.Name), err)
			}
			return a.print(done, func(w *sheet) {
				w.line("moved %s (activation %d)", done.Name, done.Activation)
				printStarts(w, done.Starts)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&ask.To, "to", "", "position, as above")
	f.StringVar(&ask.Topic, "topic", "", "only this input")
	f.Int32Var(&partition, "partition", 0, "only this partition of --topic")
	c.MarkFlagRequired("to")
	return c
}

func checkSeek(ask api.SeekAsk) error {
	if ask.Partition != nil && ask.Topic == "" {
		return errors.New("--partition needs --topic")
	}
	digits := ask.To != "" && strings.Trim(ask.To, "0123456789") == ""
	if digits && ask.Partition == nil {
		return fmt.Errorf("--to %s is the offset of one partition: give --topic and --partition too, or a position for all of them (end, start, @TIME, +N, -N)", ask.To)
	}
	if digits {
		return nil
	}
	_, err := manifest.ParseStart(ask.To)
	return err
}

func printStarts(w *sheet, starts []api.StartOffset) {
	if len(starts) == 0 {
		return
	}
	var rows [][]any
	for _, s := range starts {
		rows = append(rows, []any{s.Topic, s.Partition, s.Offset})
	}
	w.table([]string{"TOPIC", "PARTITION", "START-OFFSET"}, rows)
}

func (a *app) wasmGenerate() *cobra.Command {
	var language string
	c := &cobra.Command{
		Use: "generate NAME", Aliases: []string{"init"}, Short: "Make a project for a new script", Args: cobra.ExactArgs(1),
		Example: "  millrace wasm generate scrub\n  millrace wasm generate scrub --language go",
		RunE: func(_ *cobra.Command, args []string) error {
			dir := filepath.Clean(args[0])
			name := filepath.Base(dir)
			if err := manifest.CheckName(name); err != nil {
				return err
			}
			if !slices.Contains([]string{manifest.JavaScript, manifest.Go}, language) {
				return fmt.Errorf("--language %q: want javascript or go", language)
			}
			if err := templates.Generate(dir, name, language); err != nil {
				return fmt.Errorf("generate %s: %w", name, err)
			}
			main := "main.js"
			if language == manifest.Go {
				main = "main.go"
			}
			fmt.Fprintf(a.out, "made %s\n\n  cd %s\n  millrace wasm build\n  millrace wasm test --input sample.jsonl\n  millrace wasm deploy --name=%s --input TOPIC %s\n", dir, dir, name, main)
			return nil
		},
	}
	c.Flags().StringVarP(&language, "language", "l", manifest.JavaScript, "javascript or go")
	c.RegisterFlagCompletionFunc("language", fixed(manifest.JavaScript, manifest.Go))
	return c
}
