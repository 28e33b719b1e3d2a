package host

// #include "glue.h"
// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"github.com/millrace-io/millrace/sidecar/abi"
)

// ABI is the contract that a module speaks.
type ABI string

// The contracts.
const (
	ABIMillrace  ABI = "millrace 1"
	ABIRedpanda1 ABI = "redpanda 1"
	ABIRedpanda2 ABI = "redpanda 2"
)

const pageBytes = 64 << 10

// importsMax bounds a module's imports; the largest real one has some 30.
const importsMax = 256

// Module is compiled code, ready to make guests. It is immutable.
type Module struct {
	ABI         ABI
	MemoryBytes int64    // that a guest has at its start
	Imports     []string // "module.name", sorted
	Cached      bool
	CompileTime time.Duration

	engine *Engine
	module *wasmtime.Module
	linker *C.wasmtime_linker_t
	pre    *C.wasmtime_instance_pre_t
	script []byte // for millrace_load, nil = none
}

// Compile makes a Module of WebAssembly, from the cache if it is there. Errors
// that are the module's own wrap ErrModule.
func (e *Engine) Compile(wasm []byte) (*Module, error) {
	return e.compile(wasm, checkContract)
}

func (e *Engine) compile(wasm []byte, check func(m *Module, exports map[string]string) error) (*Module, error) {
	if err := checkBinary(wasm); err != nil {
		return nil, err
	}
	begin := time.Now()
	m := &Module{engine: e}
	if err := m.code(wasm); err != nil {
		return nil, err
	}
	m.CompileTime = time.Since(begin)
	if err := errors.Join(m.readScript(wasm), m.link(), m.readExports(check)); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// code compiles, or loads what was compiled before.
func (m *Module) code(wasm []byte) error {
	e := m.engine
	if native := e.cache.load(wasm); native != nil {
		module, err := wasmtime.NewModuleDeserialize(e.engine, native)
		if err == nil {
			m.module, m.Cached = module, true
			return nil
		}
		e.cache.drop(wasm)
	}
	module, err := wasmtime.NewModule(e.engine, wasm)
	if err != nil {
		return refuse("%v", err)
	}
	m.module = module
	native, err := module.Serialize()
	if err != nil {
		return fmt.Errorf("serialize compiled module: %w", err)
	}
	return e.cache.store(wasm, native)
}

func (m *Module) readScript(wasm []byte) error {
	sections, err := customSections(wasm, abi.ScriptSection)
	if err != nil || len(sections) == 0 {
		return err
	}
	if len(sections) > 1 {
		return refuse("it has %d sections named %s, one is allowed", len(sections), abi.ScriptSection)
	}
	m.script = slices.Clone(sections[0])
	return nil
}

// link supplies the imports.
func (m *Module) link() error {
	imports := m.module.Imports()
	if len(imports) > importsMax {
		return refuse("it has %d imports, the limit is %d", len(imports), importsMax)
	}
	m.linker = C.mr_linker_new(m.engine.raw())
	for _, i := range imports {
		name := ""
		if i.Name() != nil {
			name = *i.Name()
		}
		t := i.Type().FuncType()
		if t == nil {
			return refuse("it imports %q from %q, which is no function", name, i.Module())
		}
		full := i.Module() + "." + name
		if slices.Contains(m.Imports, full) {
			continue // the linker has it; its type was checked, a second type fails below
		}
		spec, err := specOf(i.Module(), name, kinds(t.Params()), kinds(t.Results()))
		if err != nil {
			return err
		}
		m.Imports = append(m.Imports, full)
		if err := m.define(i.Module(), name, spec); err != nil {
			return err
		}
	}
	slices.Sort(m.Imports)
	raw := *(**C.wasmtime_module_t)(unsafe.Pointer(m.module))
	if text := C.mr_linker_pre(m.linker, raw, &m.pre); text != nil {
		return refuse("%s", takeText(text))
	}
	return nil
}

func (m *Module) define(module, name string, spec importSpec) error {
	params, results := kindBytes(spec.params), kindBytes(spec.results)
	text := C.mr_linker_define(m.linker, cstring(module), C.size_t(len(module)), cstring(name), C.size_t(len(name)),
		(*C.uint8_t)(unsafe.SliceData(params)), C.size_t(len(params)),
		(*C.uint8_t)(unsafe.SliceData(results)), C.size_t(len(results)), C.uintptr_t(spec.id))
	if text != nil {
		return fmt.Errorf("supply import %s.%s: %s", module, name, takeText(text))
	}
	return nil
}

// readExports finds out the ABI and checks that it is whole.
func (m *Module) readExports(check func(*Module, map[string]string) error) error {
	exports := map[string]string{}
	for _, e := range m.module.Exports() {
		t := e.Type()
		switch {
		case t.FuncType() != nil:
			exports[e.Name()] = kinds(t.FuncType().Params()) + ">" + kinds(t.FuncType().Results())
		case t.MemoryType() != nil:
			exports[e.Name()] = "memory"
			m.MemoryBytes = int64(t.MemoryType().Minimum()) * pageBytes
		default:
			exports[e.Name()] = "other"
		}
	}
	if exports[abi.ExportMemory] != "memory" {
		return refuse("it exports no memory named %q", abi.ExportMemory)
	}
	return check(m, exports)
}

// Close frees the code. Guests that were made live on.
func (m *Module) Close() {
	if m.pre != nil {
		C.mr_pre_delete(m.pre)
	}
	if m.linker != nil {
		C.mr_linker_delete(m.linker)
	}
	m.pre, m.linker = nil, nil
	m.module.Close()
}

// millraceExports are the functions of "millrace 1" that must be there.
var millraceExports = map[string]string{
	abi.ExportABI:     ">i",
	abi.ExportAlloc:   "i>i",
	abi.ExportProcess: "ii>I",
	abi.ExportError:   ">I",
}

func checkContract(m *Module, exports map[string]string) error {
	redpanda1 := slices.Contains(m.Imports, moduleRedpanda+".check_abi_version_1")
	redpanda2 := slices.Contains(m.Imports, moduleRedpanda+".check_abi_version_2")
	_, millrace := exports[abi.ExportABI]
	switch {
	case millrace && (redpanda1 || redpanda2):
		return refuse("it has both ABIs, millrace's (export %s) and Redpanda's", abi.ExportABI)
	case redpanda2:
		m.ABI = ABIRedpanda2
		return checkRedpanda(exports)
	case redpanda1:
		m.ABI = ABIRedpanda1
		return checkRedpanda(exports)
	case !millrace:
		return refuse("it is no transform: it neither exports %s nor imports %s.check_abi_version_1 or _2; build it with the SDK",
			abi.ExportABI, moduleRedpanda)
	}
	m.ABI = ABIMillrace
	for name, want := range millraceExports {
		if got, ok := exports[name]; !ok || got != want {
			return refuse("export %s must be a function %s (i = i32, I = i64), it is %q", name, want, got)
		}
	}
	if t, ok := exports[abi.ExportInitialize]; ok && t != ">" {
		return refuse("export %s must take and return nothing", abi.ExportInitialize)
	}
	if t := exports[abi.ExportLoad]; m.script != nil && t != "ii>i" {
		return refuse("it carries a script in section %s but does not export %s as (i32, i32) -> i32", abi.ScriptSection, abi.ExportLoad)
	}
	return nil
}

func checkRedpanda(exports map[string]string) error {
	if exports["_start"] != ">" {
		return refuse("it imports %s but does not export _start as () -> (): build it as a WASI command", moduleRedpanda)
	}
	return nil
}

// kinds writes types as specs do; what is neither i32 nor i64 becomes "?".
func kinds(types []*wasmtime.ValType) string {
	text := make([]byte, len(types))
	for i, t := range types {
		switch t.Kind() {
		case wasmtime.KindI32:
			text[i] = 'i'
		case wasmtime.KindI64:
			text[i] = 'I'
		default:
			text[i] = '?'
		}
	}
	return string(text)
}

func kindBytes(spec string) []byte {
	kinds := make([]byte, len(spec))
	for i := range spec {
		if spec[i] == 'I' {
			kinds[i] = 1
		}
	}
	return kinds
}

// cstring lends a Go string to a C call that takes its length.
func cstring(s string) *C.char { return (*C.char)(unsafe.Pointer(unsafe.StringData(s))) }

func takeText(text *C.char) string {
	defer C.free(unsafe.Pointer(text))
	return C.GoString(text)
}
