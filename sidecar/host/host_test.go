package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
)

const memoryMax = 32 << 20

func newEngine(t testing.TB, dir string) *Engine {
	t.Helper()
	e, err := NewEngine(Options{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func newGuest(t testing.TB, e *Engine, wasm []byte, s Setup) Guest {
	t.Helper()
	m, err := e.Compile(wasm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if s.MemoryBytesMax == 0 {
		s.MemoryBytesMax = memoryMax
	}
	g, err := m.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func batchOf(values ...string) *Batch {
	b := &Batch{Seed: 7, CPUMax: time.Second}
	for i, v := range values {
		key, value, _ := strings.Cut(v, "=")
		b.Records = append(b.Records, abi.Record{Offset: int64(100 + i), Timestamp: 5000 + int64(i), Key: []byte(key), Value: []byte(value)})
	}
	return b
}

func entries(t testing.TB, frame []byte, err error, sources, outputs int) []abi.Entry {
	t.Helper()
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	list, err := abi.DecodeOutput(nil, frame, abi.Limits{Sources: sources, Outputs: outputs})
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return list
}

func faultOf(t testing.TB, err error) *Fault {
	t.Helper()
	var f *Fault
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a fault", err)
	}
	return f
}

func TestIdentity(t *testing.T) {
	g := newGuest(t, newEngine(t, ""), wat(t, watIdentity), Setup{})
	for range 3 {
		b := batchOf("a=1", "b=2", "c=3")
		frame, err := g.Run(b)
		list := entries(t, frame, err, 3, 1)
		if len(list) != 3 || !list[2].Pass || list[2].Source != 2 {
			t.Fatalf("got %+v", list)
		}
	}
}

func TestFaults(t *testing.T) {
	e := newEngine(t, "")
	for _, c := range []struct {
		name, process string
		want          Fault
	}{
		{"loop", watLoop, Fault{Kind: control.FailureDeadline, Source: -1, Text: "ran for more than 20ms", Dead: true}},
		{"trap", watTrap, Fault{Kind: control.FailureTrap, Source: -1, Text: "unreachable instruction executed", Dead: true}},
		{"memory", watMemory, Fault{Kind: control.FailureTrap, Source: -1, Text: "unreachable instruction executed", Dead: true}},
		{"log outside", watLogOut, Fault{Kind: control.FailureTrap, Source: -1, Text: "logged a line outside of its memory", Dead: true}},
		{"range outside", watRange, Fault{Kind: control.FailureGarbage, Source: -1, Dead: true}},
		{"own error", watPoison, Fault{Kind: control.FailureError, Source: 1, Text: "told so"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, e, wat(t, c.process), Setup{})
			b := batchOf("a=fine", "a=x", "a=x")
			b.CPUMax = 20 * time.Millisecond
			_, err := g.Run(b)
			got := *faultOf(t, err)
			if c.want.Kind == control.FailureGarbage {
				got.Text = ""
			}
			if got != c.want {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			if g.MemoryBytes() > memoryMax {
				t.Fatalf("memory grew to %d", g.MemoryBytes())
			}
		})
	}
}

func TestWallDeadline(t *testing.T) {
	g := newGuest(t, newEngine(t, ""), wat(t, watLoop), Setup{})
	b := batchOf("a=1")
	b.CPUMax, b.WallEnd = time.Hour, time.Now().Add(10*time.Millisecond)
	_, err := g.Run(b)
	if f := faultOf(t, err); f.Kind != control.FailureDeadline || !strings.Contains(f.Text, "deadline") {
		t.Fatalf("got %+v", f)
	}
}

func TestErrorLeavesGuestAlive(t *testing.T) {
	g := newGuest(t, newEngine(t, ""), wat(t, watPoison), Setup{})
	if _, err := g.Run(batchOf("a=x")); faultOf(t, err).Dead {
		t.Fatal("an error of the script killed the guest")
	}
	frame, err := g.Run(batchOf("a=fine"))
	if n := len(entries(t, frame, err, 1, 1)); n != 1 {
		t.Fatalf("got %d entries", n)
	}
}

func TestLog(t *testing.T) {
	var got []string
	g := newGuest(t, newEngine(t, ""), wat(t, watLog), Setup{Log: func(l abi.Level, text string) { got = append(got, fmt.Sprint(l, " ", text)) }})
	if _, err := g.Run(batchOf("a=1")); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != "2 told so" {
		t.Fatalf("got %q", got)
	}
}

func TestOversizedRecord(t *testing.T) {
	g := newGuest(t, newEngine(t, ""), wat(t, watIdentity), Setup{})
	big := abi.Record{Value: make([]byte, abi.FrameBytesMax)}
	_, err := g.Run(&Batch{Records: []abi.Record{big}, CPUMax: time.Second})
	if f := faultOf(t, err); f.Kind != control.FailureSize || f.Source != 0 || f.Dead {
		t.Fatalf("got %+v", f)
	}
	big.Offset = 9
	_, err = g.Run(&Batch{Records: []abi.Record{{Offset: 1}, big}, CPUMax: time.Second})
	if f := faultOf(t, err); f.Kind != control.FailureSize || f.Source != abi.WholeBatch {
		t.Fatalf("got %+v", f)
	}
}

func TestRefusedModules(t *testing.T) {
	e := newEngine(t, "")
	head := `(module (memory (export "memory") 1) `
	for _, c := range []struct{ name, text, want string }{
		{"no transform", head + `)`, "it is no transform"},
		{"no memory", `(module)`, `it exports no memory`},
		{"strange import", head + `(import "env" "system" (func)))`, `imports "system" from "env"`},
		{"socket", head + `(import "wasi_snapshot_preview1" "sock_accept" (func (param i32 i32 i32) (result i32))))`, "it is no transform"},
		{"wrong type", head + `(import "millrace" "log" (func (param i64))))`, "imports millrace.log as (I)->()"},
		{"memory import", `(module (import "env" "memory" (memory 1)))`, "which is no function"},
		{"half an abi", head + `(func (export "millrace_abi") (result i32) i32.const 1))`, "must be a function"},
		{"library", head + `(import "redpanda_transform" "check_abi_version_1" (func)))`, "does not export _start"},
		{"threads", `(module (memory (export "memory") 1 1 shared))`, "threads"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Imports come first in the binary whatever the text says.
			text := c.text
			if i := strings.Index(text, "(import"); i > 0 && strings.HasPrefix(text, head) {
				text = "(module " + text[i:len(text)-1] + ` (memory (export "memory") 1))`
			}
			_, err := e.Compile(assemble(t, text))
			if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	for _, c := range []struct{ name, bytes, want string }{
		{"empty", "", "not WebAssembly"},
		{"text", "export default 1", "not WebAssembly"},
		{"component", "\x00asm\x0d\x00\x01\x00", "component"},
		{"cut", "\x00asm\x01\x00\x00\x00\x01\x7f", "module refused"},
	} {
		if _, err := e.Compile([]byte(c.bytes)); !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), c.want) {
			t.Fatalf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestSerializedModuleIsRefused(t *testing.T) {
	e := newEngine(t, "")
	m, err := e.Compile(wat(t, watIdentity))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	native, err := m.module.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Compile(native); !errors.Is(err, ErrModule) {
		t.Fatalf("got %v", err)
	}
}

func TestCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	wasm := wat(t, watIdentity)
	compile := func() bool {
		m, err := newEngine(t, dir).Compile(wasm)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		return m.Cached
	}
	if compile() {
		t.Fatal("an empty cache had it")
	}
	if !compile() {
		t.Fatal("the cache lost it")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.native"))
	if len(files) != 1 {
		t.Fatalf("got files %q", files)
	}
	file, _ := os.ReadFile(files[0])
	file[len(file)/2] ^= 1
	if err := os.WriteFile(files[0], file, 0o600); err != nil {
		t.Fatal(err)
	}
	if compile() {
		t.Fatal("a damaged file was taken")
	}
	if !compile() {
		t.Fatal("the damaged file was not replaced")
	}
}

func TestCacheThatOthersMayWriteIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := NewEngine(Options{CacheDir: dir}); err == nil {
		t.Fatal("taken")
	}
}

func TestRedpanda(t *testing.T) {
	var lines []string
	g := newGuest(t, newEngine(t, ""), build(t, "testdata/redpanda"), Setup{
		Name: "rp", Inputs: []string{"in"}, Outputs: []string{"first", "second"},
		Env: map[string]string{"COLOUR": "red"},
		Log: func(_ abi.Level, text string) { lines = append(lines, text) },
	})
	b := batchOf("a=1", "drop=2", "other=3", "twice=4", "nowhere=5", "env=", "time=", "log=8")
	b.Records[0].Headers = []abi.Header{{Key: []byte("h"), Value: nil}, {Key: []byte("i"), Value: []byte{}}}
	frame, err := g.Run(b)
	list := entries(t, frame, err, len(b.Records), 2)
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprintf("%d>%d %s=%s", e.Source, e.Output, e.Key, e.Value))
	}
	want := []string{"0>0 a=1", "2>1 other=3", "3>0 twice=4", "3>0 twice=4", "5>0 env=in,second,red", "6>0 time=5006 5006 106", "7>0 log=8"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if h := list[0].Headers(nil); len(h) != 2 || h[0].Value != nil || !bytes.Equal(h[1].Key, []byte("i")) {
		t.Fatalf("headers %q", h)
	}
	if len(lines) != 1 || lines[0] != "hello from the guest" {
		t.Fatalf("lines %q", lines)
	}
	if g.CPU() <= 0 || g.MemoryBytes() < 1<<20 {
		t.Fatalf("cpu %v, memory %d", g.CPU(), g.MemoryBytes())
	}
}

func TestRedpandaFaults(t *testing.T) {
	e := newEngine(t, "")
	for _, c := range []struct {
		key  string
		kind control.FailureKind
		want string
	}{
		{"fail", control.FailureTrap, "exited with status 2: panic: transforming record failed: told to fail"},
		{"loop", control.FailureDeadline, "ran for more than 50ms"},
	} {
		g := newGuest(t, e, build(t, "testdata/redpanda"), Setup{Inputs: []string{"in"}, Outputs: []string{"out"}})
		b := batchOf("a=1", c.key+"=2", "a=3")
		b.CPUMax = 50 * time.Millisecond
		_, err := g.Run(b)
		f := faultOf(t, err)
		if f.Kind != c.kind || f.Source != 1 || !f.Dead || f.Text != c.want {
			t.Fatalf("%s: got %+v", c.key, f)
		}
		if _, err := g.Run(b); faultOf(t, err) != f {
			t.Fatal("a dead guest ran")
		}
	}
}

func TestCommandThatEndsIsRefused(t *testing.T) {
	e := newEngine(t, "")
	m, err := e.Compile(assemble(t, `(module
	  (import "redpanda_transform" "check_abi_version_2" (func $c))
	  (memory (export "memory") 1) (func (export "_start") (call $c)))`))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.New(Setup{MemoryBytesMax: memoryMax})
	if f := faultOf(t, err); f.Text != "its main function returned" {
		t.Fatalf("got %+v", f)
	}
}

func BenchmarkIdentityCall(b *testing.B) {
	g := newGuest(b, newEngine(b, ""), wat(b, watIdentity), Setup{})
	batch := batchOf("a=1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Run(batch); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseTail(f *testing.F) {
	f.Add(AppendTail(nil, []byte("k"), nil, []abi.Header{{Key: []byte("h")}}))
	f.Fuzz(func(t *testing.T, tail []byte) {
		key, value, headers, ok := ParseTail(nil, tail)
		if !ok {
			return
		}
		key2, value2, headers2, ok := ParseTail(nil, AppendTail(nil, key, value, headers))
		if !ok || !bytes.Equal(key, key2) || !bytes.Equal(value, value2) || len(headers) != len(headers2) {
			t.Fatal("it does not read what it writes")
		}
	})
}
