package millrace

import "unsafe"

// The exports and imports of docs/ABI.md. Addresses are 32 bits on wasm.

//go:wasmimport millrace log
func hostLog(level int32, text unsafe.Pointer, size uint32)

func logLine(level Level, text string) {
	hostLog(int32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

//go:wasmexport millrace_abi
func exportABI() int32 { return abiVersion }

//go:wasmexport millrace_alloc
func exportAlloc(size uint32) uint32 {
	if size > frameBytesMax {
		return 0
	}
	if uint32(cap(guest.input)) < size {
		guest.input = make([]byte, size+size/4+64) // more than 8 bytes: the allocator aligns it to 8
	}
	guest.input = guest.input[:cap(guest.input)]
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(guest.input))))
}

//go:wasmexport millrace_process
func exportProcess(ptr, size uint32) int64 {
	at := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(guest.input))))
	if ptr != at || uint64(size) > uint64(len(guest.input)) {
		guest.fail(-1, "the frame is not in the buffer of millrace_alloc")
		return -1
	}
	output, ok := guest.process(guest.input[:size:size])
	if !ok {
		return -1
	}
	return rangeOf(output)
}

//go:wasmexport millrace_error
func exportError() int64 { return rangeOf(guest.failure) }

func rangeOf(b []byte) int64 {
	if len(b) == 0 {
		return 0
	}
	return int64(uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))<<32 | uint64(len(b)))
}
