package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tools finds and runs what scripts are built with.
type tools struct {
	a       *app
	sidecar string // --sidecar-bin
	engine  string // --js-engine
}

const (
	sidecarName = "millrace-sidecar"
	engineName  = "millrace-js.wasm"
)

// sidecarPath finds millrace-sidecar: flag, MILLRACE_SIDECAR_BIN, beside this
// executable, PATH.
func (t *tools) sidecarPath() (string, error) {
	given := t.sidecar
	if given == "" {
		given = t.a.env("MILLRACE_SIDECAR_BIN")
	}
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("--sidecar-bin: %w", err)
		}
		return path, nil
	}
	beside := ""
	if self, err := os.Executable(); err == nil {
		beside = filepath.Join(filepath.Dir(self), sidecarName)
		if st, err := os.Stat(beside); err == nil && st.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	if path, err := exec.LookPath(sidecarName); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%s is neither at %s nor in PATH; `make build` makes it, --sidecar-bin FILE names it", sidecarName, beside)
}

// engineModule finds the JavaScript engine.
func (t *tools) engineModule() ([]byte, error) {
	if t.engine != "" {
		return os.ReadFile(t.engine)
	}
	if t.a.deps.Engine != nil {
		return t.a.deps.Engine()
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the JavaScript engine: %w", err)
	}
	places := []string{
		filepath.Join(filepath.Dir(self), engineName),
		filepath.Join(filepath.Dir(self), "..", "share", "millrace", engineName),
	}
	for _, p := range places {
		b, err := os.ReadFile(p)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	return nil, fmt.Errorf("the JavaScript engine is at none of %s; `make build` makes it, --js-engine FILE names it", strings.Join(places, ", "))
}

// oneShot runs a subcommand of the sidecar to its end.
func (t *tools) oneShot(ctx context.Context, in io.Reader, out io.Writer, args ...string) error {
	path, err := t.sidecarPath()
	if err != nil {
		return err
	}
	t.a.logf("%s %s", path, strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, path, args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if text := strings.TrimSpace(said.String()); errors.As(err, &exit) && text != "" {
			return errors.New(strings.TrimPrefix(text, sidecarName+": "))
		}
		return fmt.Errorf("%s %s: %w", sidecarName, args[0], err)
	}
	t.a.err.Write(said.Bytes())
	return nil
}

// goBuild compiles the program in dir with the user's own toolchain.
func (t *tools) goBuild(ctx context.Context, source, out string) error {
	tool, err := exec.LookPath("go")
	if err != nil {
		return errors.New("the go command is not in PATH: a Go script is built by your own toolchain, Go 1.24 or newer (https://go.dev/dl)")
	}
	dir, what := filepath.Dir(source), "."
	if !hasGoMod(dir) {
		what = filepath.Base(source)
	}
	cmd := exec.CommandContext(ctx, tool, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, what)
	cmd.Dir = dir
	cmd.Env = append(append([]string{}, t.a.environ...), "GOOS=wasip1", "GOARCH=wasm")
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build of %s failed:\n%s", source, strings.TrimSpace(string(said)))
	}
	t.a.err.Write(said)
	return nil
}

// hasGoMod looks upwards, as the toolchain does.
func hasGoMod(dir string) bool {
	abs, err := filepath.Abs(dir)
	for err == nil {
		if _, e := os.Stat(filepath.Join(abs, "go.mod")); e == nil {
			return true
		}
		up := filepath.Dir(abs)
		if up == abs {
			break
		}
		abs = up
	}
	return false
}
