package block

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/millrace-io/millrace/broker/disk"
)

func memories() map[string]*Memory {
	return map[string]*Memory{"outside": NewMemory(), "checked": NewChecked(), "none": nil}
}

// Every Buffer is large enough and aligned, is not another's, and goes back with
// its last holder.
func TestBuffers(t *testing.T) {
	for name, m := range memories() {
		var all []*Buffer
		for _, n := range []int{0, 1, Page, Page + 1, 100_000, Size, Size + 1, 3 * Size} {
			for range 3 {
				b := m.Get(n)
				if len(b.Bytes()) < max(n, Page) || uintptr(unsafe.Pointer(&b.Bytes()[0]))%disk.DirectAlign != 0 {
					t.Errorf("%s: %d bytes for %d", name, len(b.Bytes()), n)
				}
				all = append(all, b)
			}
		}
		for i, b := range all {
			for k := range b.Bytes() {
				b.Bytes()[k] = byte(i + 1)
			}
		}
		for i, b := range all {
			for k, c := range b.Bytes() {
				if c != byte(i+1) {
					t.Fatalf("%s: byte %d of buffer %d is %d", name, k, i, c)
				}
			}
		}
		if m == nil {
			continue
		}
		used := m.Used()
		for _, b := range all {
			b.Hold()
			b.Release()
		}
		if m.Used() != used {
			t.Errorf("%s: %d bytes used while all are held, %d before", name, m.Used(), used)
		}
		for _, b := range all {
			b.Release()
		}
		if m.Used() != 0 {
			t.Errorf("%s: %d bytes used when all are back", name, m.Used())
		}
		if again := m.Get(Page); !slices.Contains(all, again) {
			t.Errorf("%s: a page was made anew", name)
		}
	}
}

// What is beyond the spare ones goes back to the system, and can be used again.
func TestMemoryGoesBack(t *testing.T) {
	m := NewMemory()
	var all []*Buffer
	for range spareMax + 20 {
		b := m.Get(Size)
		b.Bytes()[0] = 1
		all = append(all, b)
	}
	for _, b := range all {
		b.Release()
	}
	cold := 0
	for range all {
		if b := m.Get(Size); b.Bytes()[0] == 0 {
			cold++
		}
	}
	if cold != 20 {
		t.Errorf("%d buffers had gone back, want 20", cold)
	}
}

func TestReleasedTooOften(t *testing.T) {
	b := NewChecked().Get(1)
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("a buffer was released twice")
		}
	}()
	b.Release()
}

func TestCheckedFindsLateReaders(t *testing.T) {
	b := NewChecked().Get(1)
	b.Bytes()[7] = 1
	b.Release()
	if b.Bytes()[7] != released {
		t.Error("a released buffer keeps its content")
	}
}

// file is read block by block and counts it.
type file struct {
	reads atomic.Int64
	n     int
	err   error
}

func (f *file) read(mark byte) Read {
	return func(b []byte) (int, error) {
		f.reads.Add(1)
		b[0] = mark
		return f.n, f.err
	}
}

func get(t *testing.T, c *Cache, id ID, index int64, f *file, want int) byte {
	t.Helper()
	b, n, err := c.Get(id, index, want, f.read(byte(index)))
	if err != nil || n < want {
		t.Fatalf("block %d: %d of %d bytes, %v", index, n, want, err)
	}
	defer b.Release()
	return b.Bytes()[0]
}

func TestCacheKeepsTheLastUsed(t *testing.T) {
	m := NewChecked()
	c := NewCache(m, 3*Size)
	f := &file{n: Size}
	id := c.NewID()
	for _, index := range []int64{0, 1, 2, 0, 3, 0, 2, 3, 1} {
		if got := get(t, c, id, index, f, Size); got != byte(index) {
			t.Fatalf("block %d has %d", index, got)
		}
	}
	// 3 drove 1 out; 1, asked for again, drives out 0.
	if f.reads.Load() != 5 || m.Used() != 3*Size {
		t.Errorf("%d reads, %d bytes held; want 5, %d", f.reads.Load(), m.Used(), 3*Size)
	}
	if hits, misses := c.Counts(); hits != 4 || misses != 5 {
		t.Errorf("%d hits, %d misses", hits, misses)
	}
	if get(t, c, c.NewID(), 1, f, Size); f.reads.Load() != 6 {
		t.Error("another file's block was given")
	}
	c.Forget(id)
	if m.Used() != Size {
		t.Errorf("%d bytes are held of a file that is forgotten", m.Used()-Size)
	}
}

// A block that was read while its file was shorter is read again; one that could
// not be read is not kept.
func TestCacheReadsAgain(t *testing.T) {
	m := NewChecked()
	c := NewCache(m, 10*Size)
	f := &file{n: 100}
	id := c.NewID()
	get(t, c, id, 0, f, 100)
	get(t, c, id, 0, f, 50)
	f.n = 200
	get(t, c, id, 0, f, 200)
	if f.reads.Load() != 2 {
		t.Errorf("%d reads, want 2", f.reads.Load())
	}
	broken := &file{err: errors.New("EIO")}
	if _, _, err := c.Get(id, 1, 10, broken.read(1)); !errors.Is(err, broken.err) {
		t.Error(err)
	}
	get(t, c, id, 1, f, 10)
	if held := m.Used(); held != 2*Page {
		t.Errorf("%d bytes held by two small blocks", held)
	}
}

// All who ask for a block at the same time share one read, and one error.
func TestCacheReadsOnce(t *testing.T) {
	m := NewChecked()
	c := NewCache(m, 0) // nothing is kept once it is read
	for _, fails := range []error{nil, errors.New("EIO")} {
		begun, goOn := make(chan struct{}), make(chan struct{})
		reads := 0
		slow := func(b []byte) (int, error) {
			reads++
			close(begun)
			<-goOn
			return 5, fails
		}
		id := c.NewID()
		var wg sync.WaitGroup
		ask := func(read Read) {
			wg.Go(func() {
				b, n, err := c.Get(id, 0, 5, read)
				if !errors.Is(err, fails) || err == nil && n != 5 {
					t.Errorf("%d bytes, %v", n, err)
				}
				if err == nil {
					b.Release()
				}
			})
		}
		ask(slow)
		<-begun
		held := c.held(key{id, 0})
		for i := range int32(5) {
			ask(func([]byte) (int, error) { t.Error("read twice"); return 0, nil })
			for c.held(key{id, 0}) != held+i+1 { // until it waits
				runtime.Gosched()
			}
		}
		close(goOn)
		wg.Wait()
		if reads != 1 || m.Used() != 0 {
			t.Errorf("%d reads, %d bytes held", reads, m.Used())
		}
	}
}

// held counts who holds a block.
func (c *Cache) held(k key) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocks[k].buf.refs.Load()
}

// However many ask for blocks, few are read at once, and only those take memory:
// what the device was given already is before whatever else it is asked for. While
// nothing else is, they are more.
func TestFewReadsAtOnce(t *testing.T) {
	fewReads(t, false, readsAtOnce)
	fewReads(t, true, readsAtOnce+readsMore)
}

func fewReads(t *testing.T, calm bool, few int64) {
	m := NewChecked()
	c := NewCache(m, 0)
	c.Calm = func() bool { return calm }
	id := c.NewID()
	goOn := make(chan struct{})
	var reading, most atomic.Int64
	slow := func([]byte) (int, error) {
		now := reading.Add(1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		<-goOn
		reading.Add(-1)
		return Size, nil
	}
	const askers = 50
	var begun atomic.Int64
	var wg sync.WaitGroup
	for i := range int64(askers) {
		wg.Go(func() {
			begun.Add(1)
			b, _, err := c.Get(id, i/2, Size, slow) // each block is asked for twice
			if err != nil {
				t.Error(err)
				return
			}
			b.Release()
		})
	}
	for begun.Load() < askers || reading.Load() < few {
		runtime.Gosched()
	}
	if used := m.Used(); used > few*Size {
		t.Errorf("%d bytes are taken while %d blocks are read", used, few)
	}
	close(goOn)
	wg.Wait()
	if most.Load() > few || m.Used() != 0 {
		t.Errorf("%d reads at once, want %d; %d bytes held at the end", most.Load(), few, m.Used())
	}
}

func TestReadAhead(t *testing.T) {
	m := NewChecked()
	c := NewCache(m, aheadBytesMin)
	f := &file{n: Size}
	id := c.NewID()
	done := make(chan struct{}, 1)
	ahead := func(c *Cache) { c.Ahead(id, 7, Size, f.read(7), func() { done <- struct{}{} }); <-done }
	ahead(c)
	if get(t, c, id, 7, f, Size) != 7 || f.reads.Load() != 1 {
		t.Errorf("%d reads, want the one ahead", f.reads.Load())
	}
	ahead(c) // it is there
	ahead(NewCache(m, aheadBytesMin-1))
	ahead(nil)
	c.waiting.Store(aheadWaiting)
	c.Ahead(id, 8, Size, f.read(8), func() { done <- struct{}{} })
	<-done
	if f.reads.Load() != 1 {
		t.Errorf("%d reads, want no more than one", f.reads.Load())
	}
}
