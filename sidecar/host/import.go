package host

// #include "glue.h"
import "C"

import (
	"runtime/cgo"
	"unsafe"

	"github.com/millrace-io/millrace/sidecar/abi"
)

// args are an import's parameters and its result, 16 bytes each.
type args struct{ raw unsafe.Pointer }

func (a args) u32(i int) uint32    { return *(*uint32)(unsafe.Add(a.raw, 16*i)) }
func (a args) u64(i int) uint64    { return *(*uint64)(unsafe.Add(a.raw, 16*i)) }
func (a args) answer(result int32) { *(*int64)(a.raw) = int64(uint32(result)) }

// mrImport is called by the glue when a guest calls an import. It answers 0, or
// 1 to end the guest. It must not panic: below it are the engine's frames.
//
//export mrImport
func mrImport(handle, id C.uintptr_t, raw *C.wasmtime_val_raw_t) C.int {
	g := cgo.Handle(handle).Value().(*core)
	if g.run(importID(id), args{unsafe.Pointer(raw)}) {
		return 0
	}
	return 1
}

// run answers false to end the guest; exit then says why.
func (g *core) run(id importID, a args) bool {
	switch id {
	case importNothing:
		return true
	case importDisabled:
		a.answer(-1)
		return true
	case importLog:
		return g.importLog(a)
	case importReadHeader, importReadRecord, importWriteRecord, importWriteOptions:
		if g.redpanda == nil {
			return g.end("called a function of Redpanda's ABI")
		}
		return g.redpanda.run(id, a)
	case importExit:
		return g.end("exited with status %d", a.u32(0))
	}
	a.answer(int32(g.wasiCall(id, a)))
	return true
}

// importLog is millrace.log(level, ptr, len).
func (g *core) importLog(a args) bool {
	text, ok := g.at(a.u32(1), a.u32(2))
	if !ok {
		return g.end("logged a line outside of its memory")
	}
	level := abi.Level(int32(a.u32(0)))
	if level < abi.LevelDebug || level > abi.LevelError {
		level = abi.LevelInfo
	}
	g.logLine(level, text)
	return true
}
