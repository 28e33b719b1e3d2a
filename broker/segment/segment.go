package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// indexSaveBytes is how much an active segment grows before its index is written
// again: what a crash makes Open scan.
const indexSaveBytes = 64 << 20

// Place says where segments live and how densely they are indexed.
type Place struct {
	FS  disk.FS
	Dir string
	// IntervalBytes is how many bytes of log an index entry stands for.
	IntervalBytes int
	// Memory is what appended batches wait in; nil is the Go heap.
	Memory *block.Memory
	// Past keeps what was read; nil keeps nothing.
	Past *block.Cache
	// Breathe, if set, is called between two writes of a flush: it may wait, so that
	// others get at the device.
	Breathe func()
}

// Segment is the loop's side of one file. Append until Seal; it never changes
// afterwards.
type Segment struct {
	place  Place
	meta   Meta
	file   *file
	tail   tail
	index  index // while not sealed
	entry  int64 // position of the last index entry
	sealed bool
	synced int64 // length that survives a power cut
	ended  bool  // the file ends with the segment, without padding
	saved  int64 // length that the index file covers
}

func newSegment(p Place, m Meta) *Segment {
	return &Segment{place: p, meta: m, entry: HeaderSize, file: newFile(p, &m), tail: tail{memory: p.Memory, grows: true}}
}

// New gives an empty segment, in memory: the first Flush makes its file, whose name
// survives once the directory is synced.
func New(p Place, base model.Offset, generation uint32) *Segment {
	s := newSegment(p, NewMeta(base, generation))
	s.tail.append(s.meta.appendHeader(nil), base)
	return s
}

// OpenSealed opens a segment that is only read. Damage tells that its file is
// missing or too short; it is a segment nevertheless, and serves what is there.
func OpenSealed(p Place, m Meta) (*Segment, *Damage) {
	s := newSegment(p, m)
	s.sealed, s.synced, s.saved = true, m.Length, m.Length
	s.tail.length, s.tail.written, s.tail.grows = m.Length, m.Length, false
	s.ended = true // what a power cut has left behind the end does no harm
	info, err := p.FS.Stat(s.file.Name())
	switch {
	case err != nil:
		return s, &Damage{m.Name(), 0, m.Base, m.End - 1, err.Error()}
	case info.Size < m.Length:
		v := s.Pin()
		defer v.Release()
		return s, &Damage{m.Name(), info.Size, v.positions().holding(&m, info.Size), m.End - 1,
			fmt.Sprintf("file has %d of %d bytes", info.Size, m.Length)}
	}
	return s, nil
}

// OpenActive opens a segment to append to, as a checkpoint describes it: the file
// is cut to m.Length (padding, and what was written since, lie behind it), what the
// index does not cover is scanned and checked, and its last page read. With
// damage the segment comes back sealed; append to another. The error is for what
// is neither: a disk that fails.
func OpenActive(p Place, m Meta) (*Segment, *Damage, error) {
	s, damage := OpenSealed(p, m)
	if damage != nil {
		return s, damage, nil
	}
	if err := s.cut(); err != nil {
		return nil, nil, err
	}
	x, covered, err := readIndex(p.FS, p.Dir, &m)
	if err != nil {
		x, covered = nil, 0
	}
	s.index, s.sealed, s.saved = x, false, covered
	s.ended, s.tail.grows = false, true
	if len(x) > 0 {
		s.entry = int64(x[len(x)-1].pos)
	}
	if err = s.scan(); err == nil {
		err = s.readLast()
	}
	var c *CorruptError
	if errors.As(err, &c) {
		s.index, s.sealed, s.saved = nil, true, m.Length
		s.ended, s.tail.grows = true, false
		return s, &c.Damage, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return s, nil, nil
}

// cut drops what was written behind the checkpoint.
func (s *Segment) cut() error {
	info, err := s.place.FS.Stat(s.file.Name())
	if err != nil || info.Size == s.meta.Length {
		return err
	}
	f, err := s.place.FS.OpenAppend(s.file.Name())
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	if err := errors.Join(f.Truncate(s.meta.Length), f.Close()); err != nil {
		return fmt.Errorf("truncate segment %s to %d: %w", s.file.Name(), s.meta.Length, err)
	}
	return nil
}

// scan checks the batches behind the last index entry and indexes them.
func (s *Segment) scan() error {
	v := s.Pin()
	defer v.Release()
	if _, err := s.file.open(&s.meta); err != nil {
		return err // the file's header is checked before anything is appended
	}
	pos, base := v.index.before(&s.meta, model.OffsetMax)
	w := v.walk(pos, base)
	defer w.Close()
	latest := record.NoTimestamp
	if len(s.index) > 0 {
		latest = s.index[len(s.index)-1].maxTime
	}
	for {
		b, at, err := w.next()
		if err != nil {
			return err
		}
		if b == nil {
			if w.expect != s.meta.End {
				return v.damaged(s.meta.Length, w.expect, "batches are missing at the end")
			}
			return nil
		}
		s.mark(at, b.BaseOffset(), latest)
		latest = max(latest, b.MaxTimestamp())
	}
}

// readLast takes the page into memory that the next write begins with.
func (s *Segment) readLast() error {
	at := disk.AlignDown(s.meta.Length)
	if at == s.meta.Length {
		return nil
	}
	v := s.Pin()
	defer v.Release()
	f, err := s.file.open(&s.meta)
	if err != nil {
		return err
	}
	page := s.place.Memory.Get(block.Page)
	n, err := f.ReadAt(page.Bytes(), at)
	if int64(n) >= s.meta.Length-at {
		s.tail.push(chunk{at: at, buf: page, first: s.meta.End})
		return nil
	}
	page.Release()
	if err == nil || errors.Is(err, io.EOF) {
		return v.damaged(at+int64(n), s.meta.End, "file is too short")
	}
	return fmt.Errorf("read segment %s at %d: %w", s.file.Name(), at, err)
}

// mark indexes a batch at pos, if it is far enough from the last that was.
func (s *Segment) mark(pos int64, base model.Offset, latest int64) {
	if pos-s.entry < int64(s.place.IntervalBytes) {
		return
	}
	s.index = append(s.index, entry{offset: base, maxTime: latest, pos: uint32(pos)})
	s.entry = pos
}

// Meta describes the segment with all that was appended.
func (s *Segment) Meta() Meta { return s.meta }

// Sealed tells that nothing is appended any more.
func (s *Segment) Sealed() bool { return s.sealed }

// Append takes a batch: its numbered header and the bytes behind it, which are
// copied to memory. Nothing is written before a View's Flush.
func (s *Segment) Append(h *record.Header, rest []byte) {
	b := h.Batch()
	s.mark(s.meta.Length, b.BaseOffset(), s.meta.MaxTime)
	var sum [FrameOverhead]byte
	binary.LittleEndian.PutUint32(sum[:], headSum(b))
	first := b.BaseOffset()
	s.tail.append(sum[:], first)
	first = b.NextOffset() // the frame has begun: another chunk begins behind it
	s.tail.append(b, first)
	s.tail.append(rest, first)
	s.meta.add(b, len(b)+len(rest))
	must(s.tail.length == s.meta.Length, "%d bytes in memory, the segment has %d", s.tail.length, s.meta.Length)
}

func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}

// Unwritten is how many bytes are in memory alone.
func (s *Segment) Unwritten() int64 { return s.meta.Length - s.tail.written }

// Clean is how many bytes of memory Shrink can free.
func (s *Segment) Clean() int64 { return s.tail.clean() }

// InMemory tells that a part of the segment is in memory.
func (s *Segment) InMemory() bool { return len(s.tail.chunks) > 0 }

// Shrink frees memory of what is written, the oldest first, until at most bytes of
// it are left.
func (s *Segment) Shrink(bytes int64) { s.tail.shrink(bytes) }

// Seal ends appending. The index stays in memory until
// SaveIndex has put it on disk and ForgetIndex is called.
func (s *Segment) Seal() {
	if s.sealed {
		return
	}
	s.sealed, s.tail.grows = true, false
	whole := s.index
	s.file.index.Store(&whole)
	s.index = nil
}

// Unsynced is how many bytes a power cut may take.
func (s *Segment) Unsynced() int64 { return s.meta.Length - s.synced }

// FlushDue tells whether a View should be flushed.
func (s *Segment) FlushDue() bool { return s.Unsynced() > 0 || s.sealed && !s.ended }

// IndexDue tells whether a View should save the index.
func (s *Segment) IndexDue() bool {
	return s.meta.Length-s.saved >= indexSaveBytes || s.sealed && s.saved < s.meta.Length
}

// IndexSaved records that the index file covers the first length bytes.
func (s *Segment) IndexSaved(length int64) { s.saved = max(s.saved, length) }

// ForgetIndex frees a sealed segment's index, if it can be read again.
func (s *Segment) ForgetIndex() {
	if s.sealed && s.saved == s.meta.Length {
		s.file.index.Store(nil)
	}
}

// Doom removes the files once no View is left; the checkpoint that no longer
// lists them is on disk. The owner has called Close, or nobody owns it any more. It
// may be called on any goroutine.
func (s *Segment) Doom() error {
	s.place.Past.Forget(s.file.id)
	return s.file.Doom()
}

// Free lets go of the memory: nothing is appended or flushed any more. Views stay
// valid until released.
func (s *Segment) Free() { s.tail.free() }

// Close lets go of memory and files; Views stay valid until released.
func (s *Segment) Close() error {
	s.Free()
	return s.file.Let()
}

// Pin gives the segment as it is now, to be read anywhere.
func (s *Segment) Pin() *View { return s.PinFrom(0) }

// PinFrom is Pin for a reader of batches at or behind an offset: it holds no memory
// of those before it.
func (s *Segment) PinFrom(o model.Offset) *View {
	s.file.Hold()
	return &View{
		Meta: s.meta, file: s.file, chunks: s.tail.since(o), written: s.tail.written, sealed: s.sealed,
		index: s.index[:len(s.index):len(s.index)], interval: s.place.IntervalBytes,
	}
}
