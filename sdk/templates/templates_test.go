package templates

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/sdk/js/bundle"
	"github.com/millrace-io/millrace/sdk/manifest"
)

var rewrite = flag.Bool("rewrite", false, "copy sdk/go's sources to files/go-sdk anew")

// TestGoSDKIsCurrent keeps the copy of the Go library that projects get.
func TestGoSDKIsCurrent(t *testing.T) {
	sources, err := filepath.Glob("../go/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatal(err, "no sources")
	}
	want := map[string][]byte{}
	for _, source := range append(sources, "../go/go.mod") {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		want[filepath.Base(source)+".txt"] = text
	}
	const copied = "files/go-sdk"
	if *rewrite {
		if err := errors.Join(os.RemoveAll(copied), os.MkdirAll(copied, 0o755)); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(copied, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(copied)
	if err != nil || len(entries) != len(want) {
		t.Fatalf("%d files, want %d (%v): run go test ./sdk/templates -rewrite", len(entries), len(want), err)
	}
	for name, text := range want {
		if got, _ := os.ReadFile(filepath.Join(copied, name)); !bytes.Equal(got, text) {
			t.Errorf("%s is stale: run go test ./sdk/templates -rewrite", name)
		}
	}
}

func generate(t *testing.T, language string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "scrub")
	if err := Generate(dir, "scrub", language); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir string, env []string, command ...string) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%q: %v\n%s", command, err, out)
	}
}

func TestProjectFiles(t *testing.T) {
	for _, language := range Languages() {
		dir := generate(t, language)
		text, err := os.ReadFile(filepath.Join(dir, manifest.FileName))
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Parse(manifest.FileName, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Check(); m.Name != "scrub" || m.Language != language || !errors.Is(err, manifest.ErrNoInputs) {
			t.Errorf("%s: manifest %+v, %v", language, m, err)
		}
		m.Inputs = []string{"orders"} // as --input does
		if err := m.Check(); err != nil {
			t.Error(err)
		}
		sample, err := os.ReadFile(filepath.Join(dir, "sample.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(sample)) {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: sample line %q", language, line)
			}
		}
		readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
		if err != nil || bytes.Contains(readme, []byte("{{")) {
			t.Errorf("%s: README %v\n%s", language, err, readme)
		}
		if _, err := os.Stat(filepath.Join(dir, ".gitignore")); err != nil {
			t.Error(err)
		}
	}
}

func TestJavaScriptProjectWorks(t *testing.T) {
	dir := generate(t, manifest.JavaScript)
	if code, warnings, err := bundle.Bundle(filepath.Join(dir, "main.js")); err != nil || len(warnings) > 0 || len(code) == 0 {
		t.Errorf("bundle: %v %q", err, warnings)
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("no node: the project's own test is not run")
	}
	run(t, dir, nil, "node", "--test")
}

// TestGoProjectWorks builds it as `millrace wasm build` does, with the network off.
func TestGoProjectWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a module")
	}
	dir := generate(t, manifest.Go)
	offline := []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off"}
	run(t, dir, offline, "go", "test", "./...")
	run(t, dir, append(offline, "GOOS=wasip1", "GOARCH=wasm"), "go", "build", "-buildmode=c-shared", "-o", "transform.wasm", ".")
	module, err := os.ReadFile(filepath.Join(dir, "transform.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, export := range []string{"millrace_abi", "millrace_alloc", "millrace_process", "millrace_error", "_initialize"} {
		if !bytes.Contains(module, []byte(export)) {
			t.Errorf("the module has no export %s", export)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := Generate(dir, "scrub", "cobol"); !errors.Is(err, ErrLanguage) {
		t.Error(err)
	}
	if err := Generate(dir, "a/b", manifest.Go); err == nil {
		t.Error("a bad name is taken")
	}
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Generate(dir, "scrub", manifest.Go); !errors.Is(err, ErrNotEmpty) {
		t.Error(err)
	}
	if err := Generate(kept, "scrub", manifest.Go); err == nil {
		t.Error("a file is taken for a directory")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files after a refusal", len(entries))
	}
}
