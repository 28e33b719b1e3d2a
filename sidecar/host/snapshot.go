package host

// #include "glue.h"
import "C"

import (
	"slices"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"github.com/millrace-io/millrace/sidecar/abi"
)

// Image is a script engine's state after it loaded a script: what a module needs
// to begin there (docs/ABI.md section 7).
type Image struct {
	Memory  []byte
	Globals map[string]uint64 // by the names they are exported under
}

// Snapshot starts a script engine, lets it load code and dumps it. An error of
// the script, or of an engine that cannot do it, is a *Fault; what the engine
// logs is dropped.
func (e *Engine) Snapshot(engine, code []byte, memoryBytesMax int64) (*Image, error) {
	m, err := e.compile(engine, checkSnapshots)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	g := newCore(m, Setup{MemoryBytesMax: memoryBytesMax}, nil)
	defer g.close()
	if err := g.instantiate(m); err != nil {
		return nil, err
	}
	e.enter()
	defer e.leave()
	if g.find(slotOnce, abi.ExportInitialize) {
		if err := g.call(slotOnce); err != nil {
			return nil, err
		}
	}
	g.findAll()
	if err := g.feed(abi.ExportSnapshot, code); err != nil {
		return nil, err
	}
	image := &Image{Memory: slices.Clone(g.memory()), Globals: map[string]uint64{}}
	for _, export := range m.module.Exports() {
		if t := export.Type().GlobalType(); t == nil || !t.Mutable() {
			continue
		}
		name := export.Name()
		if image.Globals[name], err = g.global(name); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// checkSnapshots checks an engine that has no script yet.
func checkSnapshots(m *Module, exports map[string]string) error {
	m.ABI = ABIMillrace
	for name, want := range map[string]string{abi.ExportAlloc: "i>i", abi.ExportError: ">I", abi.ExportSnapshot: "ii>i"} {
		if exports[name] != want {
			return refuse("it is no script engine that can be packed: export %s is %q, not %q", name, exports[name], want)
		}
	}
	return nil
}

func (g *core) global(name string) (uint64, error) {
	var kind C.uint8_t
	var value C.int64_t
	if !C.mr_guest_global(g.c, cstring(name), C.size_t(len(name)), &kind, &value) {
		return 0, refuse("global %s is neither i32 nor i64", name)
	}
	if wasmtime.ValKind(kind) == wasmtime.KindI32 {
		return uint64(uint32(value)), nil
	}
	return uint64(value), nil
}
