package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/sdk/js/bundle"
	"github.com/millrace-io/millrace/sdk/manifest"
)

func (a *app) wasmBuild(t *tools) *cobra.Command {
	var o overrides
	var out string
	c := &cobra.Command{
		Use: "build [FILE]", Short: "Build a script into one WebAssembly module", Args: cobra.MaximumNArgs(1),
		Long: `Build a script into one WebAssembly module. JavaScript and TypeScript are bundled, with
what they import from node_modules, and packed with the engine; Node is not needed. Go is built by your
own toolchain. deploy builds by itself: the module is for looking at it, or for deploying it later.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := o.load(first(args))
			if err != nil {
				return err
			}
			if sourceKind(p.source) == "wasm" {
				return fmt.Errorf("%s is built already", p.source)
			}
			module, err := t.build(cmd.Context(), p)
			if err != nil {
				return err
			}
			if out == "" {
				name := p.m.Name
				if name == "" {
					name = p.guessName()
				}
				out = filepath.Join(p.dir, name+".wasm")
			}
			if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
				return err
			}
			if err := replaceFile(out, module, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "built %s (%d bytes)\n", out, len(module))
			return nil
		},
	}
	c.Flags().StringVar(&o.manifest, "manifest", "", "manifest (default transform.yaml beside FILE)")
	c.Flags().StringVarP(&out, "out", "o", "", "file to write (default NAME.wasm beside the manifest)")
	return c
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// build makes the module of a project, from source if it is one.
func (t *tools) build(ctx context.Context, p *project) ([]byte, error) {
	kind := sourceKind(p.source)
	if kind == "wasm" {
		return readModule(p.source)
	}
	dir, err := os.MkdirTemp("", "millrace-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "out.wasm")
	if kind == manifest.Go {
		err = t.goBuild(ctx, p.source, out)
	} else {
		err = t.jsBuild(ctx, p.source, dir, out)
	}
	if err != nil {
		return nil, err
	}
	return readModule(out)
}

func (t *tools) jsBuild(ctx context.Context, source, dir, out string) error {
	code, warnings, err := bundle.Bundle(source)
	for _, w := range warnings {
		fmt.Fprintln(t.a.err, "warning:", w)
	}
	if err != nil {
		return err
	}
	engine, err := t.engineModule()
	if err != nil {
		return err
	}
	enginePath, codePath := filepath.Join(dir, "engine.wasm"), filepath.Join(dir, "bundle.js")
	if err := errors.Join(os.WriteFile(enginePath, engine, 0o600), os.WriteFile(codePath, code, 0o600)); err != nil {
		return err
	}
	if err := t.oneShot(ctx, nil, nil, "build-js", enginePath, codePath, out); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

// readModule refuses what the broker would refuse, before it is uploaded.
func readModule(path string) ([]byte, error) {
	b, err := readSmall(path, api.ModuleBytesMax)
	if err != nil {
		return nil, err
	}
	if len(b) < 8 || string(b[:4]) != "\x00asm" {
		return nil, fmt.Errorf("%s is no WebAssembly module", path)
	}
	return b, nil
}

func (a *app) wasmTest(t *tools) *cobra.Command {
	var o overrides
	var input string
	c := &cobra.Command{
		Use: "test [FILE] --input RECORDS", Short: "Run a script over records of a file, without a broker", Args: cobra.MaximumNArgs(1),
		Long: `Run a script over the records of a file, in the engine that runs it beside the broker, and
print what it gives, a JSON object a line. Records are JSON objects, one a line: {"key": ..., "value": ...,
"headers": ..., "topic": ..., "partition": ..., "offset": ..., "timestamp": ...}; a record is its value where
there is no "value". It runs twice with other batches and fails if the results differ, since a script must be
a function of record and env alone.`,
		Example: "  millrace wasm test --input sample.jsonl\n  millrace topic consume orders -n 100 --pretty-print=false | millrace wasm test --input -",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := o.load(first(args))
			if err != nil {
				return err
			}
			return a.testScript(cmd.Context(), t, p, input)
		},
	}
	f := c.Flags()
	f.StringVarP(&input, "input", "i", "", "file of records, - for stdin (default sample.jsonl beside the manifest)")
	f.StringVar(&o.manifest, "manifest", "", "manifest (default transform.yaml beside FILE)")
	f.StringArrayVar(&o.env, "env", nil, "variable for the script, NAME=value (repeatable)")
	return c
}

func (a *app) testScript(ctx context.Context, t *tools, p *project, input string) error {
	in := a.in
	if input != "-" {
		if input == "" {
			input = filepath.Join(p.dir, "sample.jsonl")
		}
		f, err := os.Open(input)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("records: %w; give a file of JSON lines with --input FILE", err)
		}
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if p.m.Name == "" {
		p.m.Name = p.guessName()
	}
	if len(p.m.Inputs) == 0 {
		p.m.Inputs = []string{"input"} // a test needs no topic
	}
	if err := p.check(); err != nil {
		return err
	}
	module, err := t.build(ctx, p)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "millrace-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	modulePath, manifestPath := filepath.Join(dir, "module.wasm"), filepath.Join(dir, manifest.FileName)
	text, err := (&overrides{name: p.m.Name, inputs: p.m.Inputs}).merge(p.text)
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(modulePath, module, 0o600), os.WriteFile(manifestPath, text, 0o600)); err != nil {
		return err
	}
	return t.oneShot(ctx, in, a.out, "run", modulePath, "--manifest", manifestPath)
}
