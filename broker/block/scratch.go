package block

import (
	"math/bits"
	"sync"
)

// Scratch buffers are what a request is read into and a command is encoded in: most
// of what a broker allocates lives no longer than that. They are the collector's
// memory, in powers of two between these, and kept until it has run twice.
const (
	scratchMin = 10 // 1 KiB
	scratchMax = 20 // 1 MiB
)

var scratch [scratchMax + 1]sync.Pool

// Borrow gives an empty slice with room for size bytes; what lies behind its end is
// anything.
func Borrow(size int) []byte {
	k := max(scratchMin, bits.Len(uint(size-1)))
	if size <= 0 || k > scratchMax {
		return make([]byte, 0, size)
	}
	if b, ok := scratch[k].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, 1<<k)
}

// Return takes back what Borrow gave; nothing may refer to it any more. A slice of
// another capacity than Borrow gives is left to the collector.
func Return(b []byte) {
	if k := bits.Len(uint(cap(b))) - 1; k >= scratchMin && k <= scratchMax && cap(b) == 1<<k {
		scratch[k].Put(&b)
	}
}
