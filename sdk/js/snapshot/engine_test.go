package snapshot

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const script = `"use strict";
const table = new Map([[1, "one"], [2, "two"]]); // made at load time: it must be in the memory's image
const pattern = /^drop$/;
var __millrace_main = { default: (r, c) => pattern.test(r.text()) ? null : { value: table.get(r.json().n) + " " + c.env.GREETING + " " + r.topic } };`

// TestEngineSnapshot packs the real engine with a script and runs the result, on Node's WebAssembly.
func TestEngineSnapshot(t *testing.T) {
	const enginePath = "../../../build/js-engine/millrace-js.wasm"
	engine, err := os.ReadFile(enginePath)
	if err != nil {
		t.Skip("the engine is not built: run sdk/js/engine/build.sh")
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("no node")
	}
	dir := t.TempDir()
	scriptPath, memoryPath, modulePath := filepath.Join(dir, "main.js"), filepath.Join(dir, "memory"), filepath.Join(dir, "packed.wasm")
	if err := os.WriteFile(scriptPath, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	var modules [2][]byte
	for i := range modules { // twice: the same script gives the same bytes
		var globals map[string]Global
		if err := json.Unmarshal(node(t, "dump", enginePath, scriptPath, memoryPath), &globals); err != nil {
			t.Fatal(err)
		}
		memory, err := os.ReadFile(memoryPath)
		if err != nil {
			t.Fatal(err)
		}
		if modules[i], err = Rewrite(engine, memory, globals); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(modules[0], modules[1]) {
		t.Error("one script, two modules")
	}
	t.Logf("engine %d bytes, packed %d", len(engine), len(modules[0]))
	if err := os.WriteFile(modulePath, modules[0], 0o600); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(node(t, "run", modulePath))), "\n")
	const values = `["one hello orders","two hello orders"]`
	if len(lines) != 3 || lines[0] != values || lines[1] != values {
		t.Errorf("got %q", lines)
	}
	if want := "__stack_pointer memory millrace_abi millrace_alloc millrace_error millrace_process"; lines[len(lines)-1] != want {
		t.Errorf("exports %q, want %q", lines[len(lines)-1], want)
	}
}

func node(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("node", append([]string{"testdata/engine.mjs"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	return out
}
