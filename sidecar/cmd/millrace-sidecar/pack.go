package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sdk/js/snapshot"
	"github.com/millrace-io/millrace/sidecar/engine"
	"github.com/millrace-io/millrace/sidecar/host"
)

// toolMemoryBytes is what a module may use while it is built or tried.
const toolMemoryBytes = 1 << 30

// packed is the answer of build-js.
type packed struct {
	Bytes    int    `json:"bytes"`
	Snapshot bool   `json:"snapshot"`         // else the script is a section that is loaded at each start
	Reason   string `json:"reason,omitempty"` // why not
}

// buildJS packs a bundled script with the JavaScript engine.
func buildJS(_ context.Context, args []string) (any, error) {
	if len(args) != 3 {
		return nil, errors.New("want ENGINE.wasm BUNDLE.js OUT.wasm")
	}
	wasm, err := readModule(args[0])
	if err != nil {
		return nil, err
	}
	code, err := readModule(args[1])
	if err != nil {
		return nil, err
	}
	h, err := host.NewEngine(host.Options{CacheDir: toolCache()})
	if err != nil {
		h, err = host.NewEngine(host.Options{})
	}
	if err != nil {
		return nil, err
	}
	defer h.Close()
	answer := packed{Snapshot: true}
	module, err := packSnapshot(h, wasm, code)
	if err != nil {
		answer = packed{Reason: err.Error()}
		if module, err = packSection(h, wasm, code); err != nil {
			return nil, err
		}
	}
	answer.Bytes = len(module)
	if err := os.WriteFile(args[2], module, 0o644); err != nil {
		return nil, err
	}
	return answer, nil
}

// packSnapshot loads the script now and makes a module of what the engine's
// memory is then.
func packSnapshot(h *host.Engine, wasm, code []byte) ([]byte, error) {
	image, err := h.Snapshot(wasm, code, toolMemoryBytes)
	if err != nil {
		return nil, err
	}
	globals := map[string]snapshot.Global{}
	for name, value := range image.Globals {
		globals[name] = snapshot.Global(value)
	}
	return snapshot.Rewrite(wasm, image.Memory, globals)
}

// packSection adds the script as a section; it must load.
func packSection(h *host.Engine, wasm, code []byte) ([]byte, error) {
	module, err := snapshot.WithScript(wasm, code)
	if err != nil {
		return nil, err
	}
	m, err := h.Compile(module)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	g, err := m.New(host.Setup{MemoryBytesMax: toolMemoryBytes})
	if err != nil {
		return nil, faultText(err)
	}
	g.Close()
	return module, nil
}

// faultText is an author's view of a fault: the text alone.
func faultText(err error) error {
	var f *host.Fault
	if errors.As(err, &f) && f.Kind == control.FailureError {
		return errors.New(f.Text)
	}
	return err
}

// checked is the answer of check.
type checked struct {
	ABI         string   `json:"abi"`
	MemoryBytes int64    `json:"memory_bytes"`
	CompileMS   int64    `json:"compile_ms"`
	Imports     []string `json:"imports"`
}

// check tells whether a module can be deployed.
func check(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	path := flags.String("manifest", "", "the module's transform.yaml")
	files, err := parseMixed(flags, args)
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, errors.New("want one MODULE")
	}
	m, _, err := moduleOf(files[0], *path)
	if err != nil {
		return nil, err
	}
	_, session, done, err := openSession()
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := session.Check(ctx, m)
	if err != nil {
		return nil, err
	}
	return checked{ABI: r.ABI, MemoryBytes: r.MemoryBytes, CompileMS: r.CompileTime.Milliseconds(), Imports: r.Imports}, nil
}

// openSession starts an engine for one command.
func openSession() (*engine.Engine, *engine.Session, func(), error) {
	o := engine.Options{Build: build, CacheDir: toolCache(), MemoryBytesMax: 2 * toolMemoryBytes, InstanceBytesMax: 2 * toolMemoryBytes}
	e, err := engine.New(o)
	if err != nil && o.CacheDir != "" {
		o.CacheDir = "" // slower, and as good
		e, err = engine.New(o)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	_, token, err := e.Open(control.Session{Cluster: "tool", Boot: "tool"})
	if err != nil {
		e.Close()
		return nil, nil, nil, err
	}
	s, err := e.Session(token)
	return e, s, e.Close, err
}

// toolCache is where commands keep compiled modules, so that the second trial of
// a module begins at once; empty when the user has no such folder.
func toolCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "millrace", "modules")
}

// parseMixed parses flags that may stand behind arguments.
func parseMixed(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return rest, nil
		}
		rest, args = append(rest, flags.Arg(0)), flags.Args()[1:]
	}
}

// readModule reads a file that is no larger than a module may be.
func readModule(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > control.ModuleBytesMax {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", path, info.Size(), control.ModuleBytesMax)
	}
	return os.ReadFile(path)
}
