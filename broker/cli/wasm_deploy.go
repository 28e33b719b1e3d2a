package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
	"github.com/millrace-io/millrace/sdk/manifest"
)

func (a *app) wasmDeploy(t *tools) *cobra.Command {
	var o overrides
	var ask api.DeployAsk
	var sure bool
	c := &cobra.Command{
		Use: "deploy [FILE]", Short: "Build and deploy a script", Args: cobra.MaximumNArgs(1),
		Long: `Build and deploy a script. FILE is main.js, main.ts, main.go or a .wasm; without it the manifest
in the working directory decides. Flags win over the manifest, transform.yaml beside FILE.

A name that is known is deployed anew and goes on where it stands: no record is lost or transformed
twice. --start moves it. With --wait the command returns when it runs on every broker that has to run
it, and prints the offset at which each partition begins.`,
		Example: `  millrace wasm deploy --name=scrub --input orders main.js
  millrace wasm deploy                                # all from transform.yaml
  millrace wasm deploy --name=scrub --input orders --mode sync scrub.wasm --wait
  millrace wasm deploy --name=join --input a,b --output ab --start start --env LEVEL=3 main.go`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := o.load(first(args))
			if err != nil {
				return err
			}
			if len(o.dropped) > 0 {
				fmt.Fprintf(a.err, "warning: --mode %s leaves out of %s: %s\n", o.mode, p.path, strings.Join(o.dropped, ", "))
			}
			if err := p.check(); err != nil {
				return err
			}
			if ask.Start != "" {
				if _, err := manifest.ParseStart(ask.Start); err != nil {
					return fmt.Errorf("--start: %w", err)
				}
			}
			ask.Name, ask.Manifest = p.m.Name, p.text
			return a.deploy(cmd.Context(), t, p, ask, sure)
		},
	}
	f := c.Flags()
	o.flags(f)
	f.StringVar(&ask.Start, "start", "", "where to begin: end, start, @TIME, +N, -N (default: the manifest's; a known script goes on)")
	f.BoolVar(&ask.Wait, "wait", false, "return when it runs everywhere")
	f.BoolVar(&ask.AllowMissing, "allow-missing", false, "inputs may not exist yet")
	f.BoolVarP(&sure, "yes", "y", false, "do not ask")
	c.RegisterFlagCompletionFunc("mode", fixed("async", "sync"))
	c.RegisterFlagCompletionFunc("input", a.completeTopics)
	return c
}

func (a *app) deploy(ctx context.Context, t *tools, p *project, ask api.DeployAsk, sure bool) error {
	cl, err := a.adminClient()
	if err != nil {
		return err
	}
	if ask.Start != "" && !sure && a.interactive() {
		if err := a.confirmMove(ctx, cl, ask); err != nil {
			return err
		}
	}
	if ask.Module, err = t.build(ctx, p); err != nil {
		return err
	}
	done, err := cl.Deploy(ctx, ask)
	if err != nil {
		return a.adminError(fmt.Sprintf("deploy script %q", ask.Name), err)
	}
	for _, w := range done.Warnings {
		fmt.Fprintln(a.err, "warning:", w)
	}
	return a.print(done, func(w *sheet) { printDeployed(w, done) })
}

// confirmMove asks before a script that runs is moved.
func (a *app) confirmMove(ctx context.Context, cl *client.Client, ask api.DeployAsk) error {
	_, err := cl.Script(ctx, ask.Name)
	if errors.Is(err, api.ErrNotFound) {
		return nil
	}
	if err != nil {
		return a.adminError(fmt.Sprintf("look at script %q", ask.Name), err)
	}
	return a.confirm(ctx, false, "--yes", "Script %q is deployed. --start %s moves it: records may be transformed again, or never. Go on?", ask.Name, ask.Start)
}

func printDeployed(w *sheet, d api.DeployAnswer) {
	verb := "deployed"
	if d.Redeployed {
		verb = "redeployed"
	}
	var outputs []string
	for _, o := range d.Outputs {
		if slices.Contains(d.Created, o) {
			o += " (new)"
		}
		outputs = append(outputs, o)
	}
	w.line("%s %s: %s, activation %d, digest %s", verb, d.Name, d.Mode, d.Activation, d.Digest.String()[:12])
	kv := []any{"inputs", strings.Join(d.Inputs, ", ")}
	if len(outputs) > 0 {
		kv = append(kv, "outputs", strings.Join(outputs, ", "))
	}
	if !d.Running {
		kv = append(kv, "running", "not yet; `millrace wasm describe "+d.Name+"` shows where it is")
	}
	w.pairs(kv...)
	printStarts(w, d.Starts)
}
