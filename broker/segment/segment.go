package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// indexSaveBytes is how much an active segment grows before its index is written
// again: what a crash makes Open scan.
const indexSaveBytes = 64 << 20

// bufferKeep is the largest write buffer that goes back to the pool, in bytes.
const bufferKeep = 2 << 20

// buffers are write buffers; each is owned by one Segment between Append and Write.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Place says where segments live and how densely they are indexed.
type Place struct {
	FS  disk.FS
	Dir string
	// IntervalBytes is how many bytes of log an index entry stands for.
	IntervalBytes int
}

// Segment is the loop's side of one file. Append and Write until Seal; it never
// changes afterwards.
type Segment struct {
	place  Place
	meta   Meta
	file   *file
	buffer *[]byte // appended, not yet written; nil when empty
	index  index   // while not sealed
	entry  int64   // position of the last index entry
	sealed bool
	synced int64 // length that survives a power cut
	saved  int64 // length that the index file covers
}

func newSegment(p Place, m Meta) *Segment {
	return &Segment{place: p, meta: m, entry: HeaderSize, file: newFile(p, &m)}
}

// Create makes an empty segment's file. Its name survives once the directory is
// synced, its content once it was synced through a View.
func Create(p Place, base model.Offset, generation uint32) (*Segment, error) {
	s := newSegment(p, NewMeta(base, generation))
	if _, err := s.file.Writer(p.FS.Create); err != nil {
		return nil, fmt.Errorf("create segment %s: %w", s.file.Name(), err)
	}
	buf := s.pending()
	*buf = s.meta.appendHeader(*buf)
	return s, nil
}

// OpenSealed opens a segment that is only read. Damage tells that its file is
// missing or too short; it is a segment nevertheless, and serves what is there.
func OpenSealed(p Place, m Meta) (*Segment, *Damage) {
	s := newSegment(p, m)
	s.sealed, s.synced, s.saved = true, m.Length, m.Length
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
// is cut to m.Length, what the index does not cover is scanned and checked. With
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
	if len(x) > 0 {
		s.entry = int64(x[len(x)-1].pos)
	}
	err = s.scan()
	var c *CorruptError
	if errors.As(err, &c) {
		s.index, s.sealed, s.saved = nil, true, m.Length
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
// copied. Nothing is written before Write.
func (s *Segment) Append(h *record.Header, rest []byte) {
	b := h.Batch()
	s.mark(s.meta.Length, b.BaseOffset(), s.meta.MaxTime)
	buf := binary.LittleEndian.AppendUint32(*s.pending(), headSum(b))
	buf = append(buf, b...)
	*s.buffer = append(buf, rest...)
	s.meta.add(b, len(b)+len(rest))
}

func (s *Segment) pending() *[]byte {
	if s.buffer == nil {
		s.buffer = buffers.Get().(*[]byte)
		*s.buffer = (*s.buffer)[:0]
	}
	return s.buffer
}

// Buffered is how many bytes wait for Write.
func (s *Segment) Buffered() int {
	if s.buffer == nil {
		return 0
	}
	return len(*s.buffer)
}

// Write hands everything appended to the file in one write. After an error the
// file's end is unknown: the node stops.
func (s *Segment) Write() error {
	if s.buffer == nil {
		return nil
	}
	f, err := s.file.Writer(s.place.FS.OpenAppend)
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.file.Name(), err)
	}
	if _, err := f.Write(*s.buffer); err != nil {
		return fmt.Errorf("write %d bytes to segment %s: %w", len(*s.buffer), s.file.Name(), err)
	}
	if cap(*s.buffer) <= bufferKeep {
		buffers.Put(s.buffer)
	}
	s.buffer = nil
	return nil
}

// Seal ends appending; everything was written. The index stays in memory until
// SaveIndex has put it on disk and ForgetIndex is called.
func (s *Segment) Seal() {
	if s.sealed {
		return
	}
	s.sealed = true
	whole := s.index
	s.file.index.Store(&whole)
	s.index = nil
}

// Unsynced is how many bytes a power cut may take.
func (s *Segment) Unsynced() int64 { return s.meta.Length - s.synced }

// Synced records that a View's Sync covered the first length bytes. A sealed
// segment lets go of its file once all are.
func (s *Segment) Synced(length int64) error {
	s.synced = max(s.synced, length)
	if s.sealed && s.synced == s.meta.Length {
		return s.file.Let()
	}
	return nil
}

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
// lists them is on disk. It may be called on any goroutine.
func (s *Segment) Doom() error { return s.file.Doom() }

// Close lets go of the files; Views stay valid until released.
func (s *Segment) Close() error { return s.file.Let() }

// Pin gives the segment as it is now, to be read anywhere.
func (s *Segment) Pin() *View {
	s.file.Hold()
	return &View{Meta: s.meta, file: s.file, index: s.index[:len(s.index):len(s.index)], sealed: s.sealed, interval: s.place.IntervalBytes}
}
