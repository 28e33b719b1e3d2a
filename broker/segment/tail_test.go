package segment

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// story is a segment that grows, with the batches it must give.
type story struct {
	t       *testing.T
	r       *rand.Rand
	fs      *disk.Memory
	place   Place
	s       *Segment
	batches []record.Batch
	// views were pinned on the way, each with the number of batches it has.
	views  []*View
	counts []int
}

func newStory(t *testing.T, seed uint64) *story {
	st := &story{t: t, r: rand.New(rand.NewPCG(seed, 3)), fs: disk.NewMemory()}
	if seed%2 == 1 {
		st.fs.RefuseDirect()
	}
	memory := block.NewChecked()
	st.place = Place{FS: st.fs, Dir: "/", IntervalBytes: 5000, Memory: memory}
	if seed%3 > 0 {
		st.place.Past = block.NewCache(memory, int64(seed%3-1)*block.Size)
	}
	st.s = New(st.place, 100, 0)
	return st
}

// append adds a batch of about size bytes.
func (st *story) append(size int) {
	st.t.Helper()
	var b record.Builder
	spec := record.Plain(record.None)
	spec.BaseOffset, spec.LeaderEpoch = st.s.Meta().End, 3
	b.Reset(spec)
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(st.r.Uint32())
	}
	check(st.t, b.Add(int64(spec.BaseOffset), nil, value, nil))
	_, batch, err := b.Build(nil)
	check(st.t, err)
	h := batch.WithOffset(spec.BaseOffset, 3)
	st.s.Append(&h, batch[record.HeaderSize:])
	st.batches = append(st.batches, batch)
}

func (st *story) step() {
	switch st.r.IntN(8) {
	case 0:
		flush(st.t, st.s)
	case 1:
		st.s.Shrink(st.r.Int64N(1 + st.s.Clean()))
	case 2:
		flush(st.t, st.s)
		st.s.Shrink(0)
	case 3:
		if len(st.batches) > 0 && len(st.views) < 20 {
			from := model.Offset(100 + st.r.IntN(len(st.batches)))
			st.views, st.counts = append(st.views, st.s.PinFrom(from)), append(st.counts, len(st.batches))
		}
	case 4:
		st.append(st.r.IntN(400_000))
	default:
		st.append(st.r.IntN(3000))
	}
	st.bounded()
}

// bounded holds what Clean promises: that much is freed, and no more is held than
// what is not written and the last page.
func (st *story) bounded() {
	st.t.Helper()
	t := &st.s.tail
	var sum int64
	for i := range t.chunks {
		sum += t.chunks[i].size()
		if i > 0 && t.chunks[i].at != t.chunks[i-1].end() {
			st.t.Fatalf("chunk %d begins at %d, the one before it ends at %d", i, t.chunks[i].at, t.chunks[i-1].end())
		}
	}
	if sum != t.bytes || t.clean() < 0 || t.clean() > sum {
		st.t.Fatalf("%d bytes in chunks, %d counted, %d clean", sum, t.bytes, t.clean())
	}
	if st.s.Unwritten() == 0 && t.bytes-t.clean() > block.Page {
		st.t.Fatalf("%d of %d bytes are clean of a file that is written", t.clean(), t.bytes)
	}
}

// read compares what a view gives from every few offsets with the batches it had.
func (st *story) read(v *View, count int, from model.Offset) {
	st.t.Helper()
	want := bytes.Join(asBytes(st.batches[from-100:count]), nil)
	var got []byte
	for at := from; at < v.Meta.End; {
		out, next, _, err := v.Read(got, Ask{From: at, Limit: model.OffsetMax, BytesMax: 1 + st.r.IntN(3<<20), MinOne: true})
		check(st.t, err)
		if next == at {
			st.t.Fatalf("nothing at %d", at)
		}
		got, at = out, next
	}
	if !bytes.Equal(got, want) {
		st.t.Fatalf("read from %d: %d bytes that differ from the %d written", from, len(got), len(want))
	}
	w := v.Walk(from)
	defer w.Close()
	for i := int(from - 100); ; i++ {
		b, err := w.Next()
		check(st.t, err)
		for b != nil && b.LastOffset() < from { // it begins at an index entry
			b, err = w.Next()
			check(st.t, err)
		}
		if b == nil && i == count {
			return
		}
		if b == nil || i >= count || !bytes.Equal(b, st.batches[i]) {
			st.t.Fatalf("walk from %d: batch %d of %d differs", from, i, count)
		}
	}
}

func asBytes(batches []record.Batch) (all [][]byte) {
	for _, b := range batches {
		all = append(all, b)
	}
	return all
}

// TestWrittenAndUnwritten reads across the boundary between memory and file wherever
// it may lie: directly and through the page cache, with what is written kept in
// memory, partly, and not. Views give what they had when they were pinned, whatever
// was appended, flushed and freed since; in the end all memory has come back.
func TestWrittenAndUnwritten(t *testing.T) {
	for seed := range uint64(18) {
		st := newStory(t, seed)
		for range 50 {
			st.step()
		}
		st.append(10)
		whole := st.s.Pin()
		for _, from := range []int{0, len(st.batches) / 2, len(st.batches) - 1} {
			st.read(whole, len(st.batches), model.Offset(100+from))
		}
		check(t, whole.Release())
		for i, v := range st.views {
			// What it holds no memory of is written: it may be read from the first on.
			st.read(v, st.counts[i], 100)
		}
		st.s.Seal()
		for _, v := range st.views {
			check(t, v.Release())
		}
		flush(t, st.s)
		st.s.Shrink(0)
		if st.s.InMemory() {
			t.Errorf("seed %d: a sealed segment that is written stays in memory", seed)
		}
		st.exact(seed)
		check(t, st.s.Doom())
		if st.place.Past == nil && st.place.Memory.Used() != 0 {
			t.Errorf("seed %d: %d bytes of memory did not come back", seed, st.place.Memory.Used())
		}
	}
}

// measured notes the largest piece that is read of a file at once.
type measured struct {
	disk.FS
	largest int
}

type measuredFile struct {
	disk.File
	of *measured
}

func (m *measured) OpenDirect(name string, synced bool) (disk.File, error) {
	f, err := m.FS.OpenDirect(name, synced)
	if err != nil {
		return nil, err
	}
	return measuredFile{f, m}, nil
}

func (f measuredFile) ReadAt(b []byte, at int64) (int, error) {
	f.of.largest = max(f.of.largest, len(b))
	return f.File.ReadAt(b, at)
}

// TestReadsInSteps: blocks and batches larger than a step.
func TestReadsInSteps(t *testing.T) {
	st := newStory(t, 0)
	fs := &measured{FS: st.fs}
	st.place.FS = fs
	st.s = New(st.place, 100, 0)
	for range 20 {
		st.append(300_000)
	}
	flush(t, st.s)
	st.s.Shrink(0)
	v := st.s.Pin()
	defer v.Release()
	st.read(v, 20, 100)
	if fs.largest == 0 || fs.largest > readStep {
		t.Errorf("%d bytes were read at once, a step is %d", fs.largest, readStep)
	}
}

// TestPinHoldsTheUnwritten: a reader of the newest batches may be sent to an index
// entry far before them; all that the file does not have is in its view.
func TestPinHoldsTheUnwritten(t *testing.T) {
	st := newStory(t, 0)
	for range 10 {
		st.append(300_000)
	}
	flush(t, st.s)
	for range 20 {
		st.append(300_000)
	}
	v := st.s.PinFrom(129)
	defer v.Release()
	if v.inMemory() == 0 {
		t.Error("all of the segment is held for a reader of its end")
	}
	st.read(v, 30, 100)
}

// exact: a sealed file ends with its last batch, without padding.
func (st *story) exact(seed uint64) {
	st.t.Helper()
	b, err := disk.ReadFile(st.fs, "/"+st.s.meta.Name(), 1<<30)
	check(st.t, err)
	m := NewMeta(100, 0)
	want := m.appendHeader(nil)
	for _, batch := range st.batches {
		sum := headSum(batch)
		want = append(want, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		want = append(want, batch...)
	}
	if !bytes.Equal(b, want) {
		st.t.Fatalf("seed %d: the file has %d bytes, want %d", seed, len(b), len(want))
	}
}

// TestPaddingAtOpen: behind the length that the checkpoint knows lie padding, what
// was written since, or anything; none of it is served, and appending goes on.
func TestPaddingAtOpen(t *testing.T) {
	for seed := range uint64(40) {
		st := newStory(t, seed)
		for range 1 + st.r.IntN(5) {
			st.append(st.r.IntN(6000))
		}
		flush(t, st.s)
		m, known := st.s.Meta(), len(st.batches)
		if info, err := st.fs.Stat("/" + m.Name()); err != nil || info.Size != disk.AlignUp(m.Length) {
			t.Fatalf("the file has %d bytes (%v), want whole pages for %d", info.Size, err, m.Length)
		}
		if seed%4 > 1 { // a flush whose checkpoint was never written
			st.append(st.r.IntN(9000))
			flush(t, st.s)
		}
		check(t, st.s.Close())
		if seed%5 == 0 {
			f, err := st.fs.OpenAppend("/" + m.Name())
			check(t, err)
			_, err = f.Write(bytes.Repeat([]byte("garbage"), 3000))
			check(t, err)
			check(t, f.Close())
		}
		s, damage, err := OpenActive(st.place, m)
		check(t, err)
		if damage != nil || s.Sealed() || s.Meta() != m {
			t.Fatalf("seed %d: damage %+v, %+v", seed, damage, s.Meta())
		}
		st.s, st.batches = s, st.batches[:known]
		for range 3 {
			st.append(st.r.IntN(6000))
			flush(t, st.s)
			st.s.Shrink(0)
		}
		v := st.s.Pin()
		st.read(v, len(st.batches), 100)
		check(t, v.Release())
		st.s.Seal()
		flush(t, st.s)
		st.exact(seed)
	}
}

// TestTornLastPage cuts the power while the page that holds synced batches is
// written again: whatever its sectors are then, the synced bytes are there.
func TestTornLastPage(t *testing.T) {
	for _, direct := range []bool{true, false} {
		t.Run(fmt.Sprintf("direct=%v", direct), func(t *testing.T) {
			fs := disk.NewCrashing()
			if !direct {
				fs.RefuseDirect()
			}
			s := New(Place{FS: fs, Dir: "/", IntervalBytes: 300}, 100, 0)
			add := func(n int) {
				for range n {
					b := batchAt(t, s.Meta().End, 2, 1)
					h := b.WithOffset(s.Meta().End, 3)
					s.Append(&h, b[record.HeaderSize:])
				}
			}
			add(9)
			flush(t, s)
			check(t, fs.SyncDir("/"))
			m := s.Meta()
			want, err := disk.ReadFile(fs, "/"+m.Name(), 1<<20)
			check(t, err)
			add(70)
			fs.StopAt(1)
			v := s.Pin()
			if v.Flush() == nil {
				t.Fatal("flushed without power")
			}
			torn := 0
			for seed := range uint64(300) {
				after := fs.Crash(seed)
				got, err := disk.ReadFile(after, "/"+m.Name(), 1<<20)
				check(t, err)
				if !bytes.Equal(got[:m.Length], want[:m.Length]) {
					t.Fatalf("seed %d: synced bytes are lost", seed)
				}
				if !bytes.Equal(got, want) {
					torn++
				}
				if _, damage, err := OpenActive(Place{FS: after, Dir: "/", IntervalBytes: 300}, m); err != nil || damage != nil {
					t.Fatalf("seed %d: %v %+v", seed, err, damage)
				}
			}
			if torn == 0 {
				t.Fatal("no power cut came between old and new")
			}
		})
	}
}

// writes is a file system that notes every write to a segment.
type writes struct {
	disk.FS
	sizes []int
	then  func() // called at each
}

type noted struct {
	disk.File
	w *writes
}

func (w *writes) OpenDirect(name string, synced bool) (disk.File, error) {
	f, err := w.FS.OpenDirect(name, synced)
	return noted{f, w}, err
}

func (n noted) WriteAt(b []byte, at int64) (int, error) {
	n.w.sizes = append(n.w.sizes, len(b))
	if n.w.then != nil {
		n.w.then()
	}
	return n.File.WriteAt(b, at)
}

// TestLargeWrites: appending writes nothing; a flush writes what was appended since
// the last in steps of 256 KiB, each after a breath, and the page that is not full.
func TestLargeWrites(t *testing.T) {
	w := &writes{FS: disk.NewMemory()}
	st := newStory(t, 0)
	breaths := 0
	st.s = New(Place{FS: w, Dir: "/", IntervalBytes: 5000, Breathe: func() { breaths++ }}, 100, 0)
	for range 30 {
		st.append(100_000)
	}
	if len(w.sizes) != 0 {
		t.Fatalf("%d writes by appending", len(w.sizes))
	}
	flush(t, st.s)
	want := append(slices.Repeat([]int{writeStep}, 11), 901120-3*writeStep, 4096)
	if !slices.Equal(w.sizes, want) || breaths != len(want)-1 {
		t.Errorf("writes of %v bytes and %d breaths, want %v and one between any two", w.sizes, breaths, want)
	}
	w.sizes = nil
	flush(t, st.s)
	st.append(100)
	flush(t, st.s)
	if len(w.sizes) == 0 || len(w.sizes) > 2 || slices.Max(w.sizes) > disk.DirectAlign {
		t.Errorf("writes of %v bytes for a small batch, want the page or two that hold it", w.sizes)
	}
}

// TestAppendDuringFlush: what is appended while a flush writes does not get into its
// last page, which is padded with zeroes.
func TestAppendDuringFlush(t *testing.T) {
	st := newStory(t, 0)
	w := &writes{FS: st.fs}
	st.place.FS = w
	st.s = New(st.place, 100, 0)
	for range 5 {
		st.append(3000)
		v := st.s.Pin()
		w.then = func() { st.append(50) }
		check(t, v.Flush())
		w.then = nil
		check(t, st.s.Flushed(v))
		check(t, v.Release())
		b, err := disk.ReadFile(st.fs, "/"+v.Meta.Name(), 1<<20)
		check(t, err)
		if padding := b[v.Meta.Length:]; len(bytes.Trim(padding, "\x00")) != 0 {
			t.Fatalf("behind the flushed length lie %d bytes that are not all zero", len(padding))
		}
	}
	v := st.s.Pin()
	defer v.Release()
	st.read(v, len(st.batches), 100)
}

// full has no space to set aside.
type full struct{ disk.File }

func (full) Preallocate(int64) error { return unix.ENOSPC }

type fullFS struct{ disk.FS }

func (f fullFS) OpenDirect(name string, synced bool) (disk.File, error) {
	file, err := f.FS.OpenDirect(name, synced)
	return full{file}, err
}

// TestNoSpaceAhead: what cannot be set aside may still be written.
func TestNoSpaceAhead(t *testing.T) {
	st := newStory(t, 0)
	st.s = New(Place{FS: fullFS{st.fs}, Dir: "/", IntervalBytes: 5000}, 100, 0)
	for range 30 {
		st.append(100_000)
	}
	flush(t, st.s)
	v := st.s.Pin()
	defer v.Release()
	st.read(v, 30, 100)
}
