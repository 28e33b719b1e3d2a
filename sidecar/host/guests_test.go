package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// watFrame is the body of most guests here: an allocator that always answers
// 64 KiB, and a place for the output at 4 MiB.
const watFrame = `(module
  (import "millrace" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 160)
  (data (i32.const 16) "told so")
  (func (export "millrace_abi") (result i32) i32.const 1)
  (func (export "millrace_alloc") (param i32) (result i32)
    local.get 0
    i32.const 4000000
    i32.gt_u
    if (result i32) i32.const 0 else i32.const 65536 end)
  (func (export "millrace_error") (result i64)
    i32.const 12
    global.get $failed
    i32.store
    i64.const 51539607563) ;; 12 << 32 | 11
  (global $failed (mut i32) (i32.const -1))
  (func $entry (param $at i32) (param $source i32)
    (i32.store (local.get $at) (i32.const 16))
    (i32.store offset=4 (local.get $at) (local.get $source))
    (i32.store offset=8 (local.get $at) (i32.const 65536))
    (i32.store offset=12 (local.get $at) (i32.const -1)))
  (func $finish (param $count i32) (result i64)
    (i32.store (i32.const 4194304) (i32.const 0x314F524D))
    (i32.store offset=4 (i32.const 4194304) (i32.const 1))
    (i32.store offset=8 (i32.const 4194304) (i32.add (i32.const 16) (i32.mul (local.get $count) (i32.const 16))))
    (i32.store offset=12 (i32.const 4194304) (local.get $count))
    (i64.or (i64.const 18014398509481984) ;; 4194304 << 32
      (i64.extend_i32_u (i32.add (i32.const 16) (i32.mul (local.get $count) (i32.const 16))))))
  (func (export "millrace_process") (param $ptr i32) (param $len i32) (result i64)
    (local $i i32) (local $count i32) (local $record i32) (local $out i32)
    (local.set $count (i32.load offset=12 (local.get $ptr)))
    (local.set $record (i32.add (local.get $ptr) (i32.const 40)))
    %s)
)`

// The bodies of millrace_process.
const (
	watIdentity = `
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $i) (local.get $count)))
      (call $entry (i32.add (i32.const 4194320) (i32.mul (local.get $i) (i32.const 16))) (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (call $finish (local.get $count))`
	// watPoison fails on the first record whose value begins with "x".
	watPoison = `
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $i) (local.get $count)))
      (if (i32.eq (i32.load8_u offset=32 (i32.add (local.get $record)
            (select (i32.const 0) (i32.load offset=24 (local.get $record)) (i32.eq (i32.load offset=24 (local.get $record)) (i32.const -1)))))
            (i32.const 120))
        (then (global.set $failed (local.get $i)) (return (i64.const -1))))
      (call $entry (i32.add (i32.const 4194320) (i32.mul (local.get $i) (i32.const 16))) (local.get $i))
      (local.set $record (i32.add (local.get $record) (i32.load (local.get $record))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (call $finish (local.get $count))`
	watLoop   = `(loop $l (br $l)) (i64.const 0)`
	watTrap   = `unreachable`
	watMemory = `(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable`
	watLog    = `(call $log (i32.const 2) (i32.const 16) (i32.const 7)) (i64.const 0)`
	watLogOut = `(call $log (i32.const 2) (i32.const -16) (i32.const 700)) (i64.const 0)`
	watRange  = `(i64.const 0x7fffffff00000010)`
)

// wat assembles a guest with that millrace_process.
func wat(t testing.TB, process string) []byte {
	t.Helper()
	return assemble(t, fmt.Sprintf(watFrame, process))
}

func assemble(t testing.TB, text string) []byte {
	t.Helper()
	wasm, err := wasmtime.Wat2Wasm(text)
	if err != nil {
		t.Fatalf("assemble: %v", err)
	}
	return wasm
}

var built sync.Map // folder -> func() ([]byte, error)

// build compiles a Go guest once a test run.
func build(t testing.TB, dir string, flags ...string) []byte {
	t.Helper()
	once, _ := built.LoadOrStore(dir, sync.OnceValues(func() ([]byte, error) {
		out := filepath.Join(os.TempDir(), fmt.Sprintf("millrace-guest-%d.wasm", os.Getpid()))
		defer os.Remove(out)
		command := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), ".")...)
		command.Dir = dir
		command.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-mod=mod", "GOWORK=off")
		if text, err := command.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", dir, err, text)
		}
		return os.ReadFile(out)
	}))
	wasm, err := once.(func() ([]byte, error))()
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}
