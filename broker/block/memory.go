package block

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/disk"
)

const (
	// Size is a block's length, and the largest Buffer that is used again, in bytes:
	// a device gives and takes 1 MiB at nearly its full rate.
	Size = 1 << 20
	// Page is the smallest Buffer, in bytes.
	Page = disk.DirectAlign

	// Sizes of Buffers are Page, and four times the one before.
	sizes = 5
	// slab is how much is asked of the system at once, in bytes. Huge pages are not asked
	// for: while memory is new, clearing them took 25 % of a bulk produce's processor
	// time, clearing small ones 3 %.
	slab = 4 << 20
	// spareMax is how many unused Buffers of a size stay backed by memory; what is
	// beyond goes back to the system.
	spareMax = 64
	// released is what a checked Memory's unused Buffers are full of.
	released = 0xdb
)

// Memory hands out Buffers. A nil Memory gives them from the Go heap and uses none
// again.
type Memory struct {
	checked bool
	used    atomic.Int64

	mu   sync.Mutex
	free [sizes][]*Buffer // the last ones are backed by memory
}

// NewMemory gives a Memory outside the Go heap: neither the collector nor the race
// detector sees it.
func NewMemory() *Memory { return &Memory{} }

// NewChecked gives a Memory for tests, in the Go heap. What is released is
// overwritten, so that whoever reads it all the same is found out.
func NewChecked() *Memory { return &Memory{checked: true} }

// Used is how many bytes are held now.
func (m *Memory) Used() int64 { return m.used.Load() }

// Buffer is aligned memory, shared by those who hold it. What is in a new one is
// left over from before.
type Buffer struct {
	b      []byte
	memory *Memory
	class  int
	refs   atomic.Int32
}

// Bytes is the memory; its length is the Buffer's.
func (b *Buffer) Bytes() []byte { return b.b }

// Hold makes one more Release necessary. Only who holds the Buffer calls it.
func (b *Buffer) Hold() { b.refs.Add(1) }

// Release ends a Hold, or what Get began.
func (b *Buffer) Release() {
	left := b.refs.Add(-1)
	must(left >= 0, "buffer of %d bytes released too often", len(b.b))
	if left == 0 && b.memory != nil {
		b.memory.put(b)
	}
}

func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}

// class finds the size for n bytes.
func class(n int) (class, size int) {
	size = Page
	for size < n && class < sizes-1 {
		class++
		size *= 4
	}
	return class, size
}

// Get gives a Buffer of n bytes at least; those larger than Size are made for the
// occasion.
func (m *Memory) Get(n int) *Buffer {
	k, size := class(n)
	if m == nil || n > size {
		b := &Buffer{b: disk.Aligned(max(n, size))}
		b.refs.Store(1)
		return b
	}
	m.mu.Lock()
	if len(m.free[k]) == 0 {
		m.grow(k, size)
	}
	last := len(m.free[k]) - 1
	b := m.free[k][last]
	m.free[k] = m.free[k][:last]
	m.mu.Unlock()
	m.used.Add(int64(size))
	b.refs.Store(1)
	return b
}

// grow carves new Buffers; under the mutex.
func (m *Memory) grow(k, size int) {
	if m.checked {
		m.free[k] = append(m.free[k], &Buffer{b: disk.Aligned(size), memory: m, class: k})
		return
	}
	whole, err := unix.Mmap(-1, 0, slab, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(err == nil, "no %d bytes of memory: %v", slab, err)
	for at := 0; at < slab; at += size {
		m.free[k] = append(m.free[k], &Buffer{b: whole[at : at+size : at+size], memory: m, class: k})
	}
}

func (m *Memory) put(b *Buffer) {
	if m.checked {
		b.b[0] = released
		for n := 1; n < len(b.b); n *= 2 {
			copy(b.b[n:], b.b[:n])
		}
	}
	m.used.Add(-int64(len(b.b)))
	m.mu.Lock()
	defer m.mu.Unlock()
	free := append(m.free[b.class], b)
	m.free[b.class] = free
	if cold := len(free) - 1 - spareMax; !m.checked && cold >= 0 {
		// The one that has lain there longest of those that are backed. A failure
		// leaves memory with us, which is no error.
		_ = unix.Madvise(free[cold].b, unix.MADV_DONTNEED)
	}
}
