// Command garbage is a guest that answers frames which no guest should: another
// kind for each batch, chosen by its first offset. It does without the library,
// which would not let it.
package main

import (
	"encoding/binary"
	"unsafe"
)

func main() {}

var (
	input  []byte
	output []byte
	le     = binary.LittleEndian
)

//go:wasmexport millrace_abi
func abi() int32 { return 1 }

//go:wasmexport millrace_alloc
func alloc(size uint32) uint32 {
	input = make([]byte, size+8)
	return address(input)
}

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

//go:wasmexport millrace_process
func process(_, _ uint32) int64 {
	offset := le.Uint64(input[16:])
	switch offset % 7 {
	case 0: // beyond the memory
		return -16<<32 | 0x7fffffff
	case 1: // noise
		seed := offset
		return answer(64, func(i int) byte { seed = seed*6364136223846793005 + 1442695040888963407; return byte(seed >> 56) })
	case 2: // a frame that says it is larger
		return frame(1<<30, 1, 16, 0, 1)
	case 3: // more entries than there are
		return frame(32, 1<<31, 16, 0, 1)
	case 4: // a source beyond the batch
		return frame(32, 1, 16, 1<<20, 1)
	case 5: // an entry of no size
		return frame(32, 1, 0, 0, 1)
	default: // unknown flags
		return frame(32, 1, 16, 0, 0xffff)
	}
}

//go:wasmexport millrace_error
func failure() int64 { return answer(3, func(int) byte { return 0xff }) }

// frame answers a header and one entry that passes a record on.
func frame(size, entries, entrySize, source uint32, flags uint16) int64 {
	b := make([]byte, 32)
	le.PutUint32(b, 0x314F524D)
	le.PutUint16(b[4:], 1)
	le.PutUint32(b[8:], size)
	le.PutUint32(b[12:], entries)
	le.PutUint32(b[16:], entrySize)
	le.PutUint32(b[20:], source)
	le.PutUint16(b[26:], flags)
	le.PutUint32(b[28:], 0xffffffff)
	return answer(len(b), func(i int) byte { return b[i] })
}

func answer(n int, at func(int) byte) int64 {
	output = make([]byte, n)
	for i := range output {
		output[i] = at(i)
	}
	return int64(address(output))<<32 | int64(n)
}
