package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// View is a pinned segment as it was at one moment. It is read by one goroutine at
// a time, and released once.
type View struct {
	Meta     Meta
	file     *file
	index    index // of a segment that was not sealed
	sealed   bool
	interval int
	released atomic.Bool
}

// Release lets the file go. A second call does nothing.
func (v *View) Release() error {
	if v.released.Swap(true) {
		return nil
	}
	return v.file.Release()
}

// Sync makes what the view covers survive a power cut.
func (v *View) Sync() error {
	f, err := v.file.open(&v.Meta)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync segment %s: %w", v.file.Name(), err)
	}
	return nil
}

// SaveIndex writes the index file of what the view covers.
func (v *View) SaveIndex() error {
	return writeIndex(v.file.fs, v.file.dir, &v.Meta, v.positions())
}

// positions is the index, from memory, from its file, or rebuilt.
func (v *View) positions() index {
	if !v.sealed {
		return v.index
	}
	return v.file.sealedIndex(v)
}

// rebuildIndex scans the frames. It passes batches whose records are damaged, and
// ends at a frame that hides where the next one begins: what lies behind that is
// unreadable.
func (v *View) rebuildIndex() index {
	rebuilt := Segment{place: Place{IntervalBytes: v.interval}, entry: HeaderSize}
	w := v.walk(HeaderSize, v.Meta.Base)
	w.lenient = true
	latest := record.NoTimestamp
	for {
		b, at, err := w.next()
		if err != nil || b == nil {
			return rebuilt.index
		}
		rebuilt.mark(at, b.BaseOffset(), latest)
		if b.Checksum() == b.CRC() {
			latest = max(latest, b.MaxTimestamp())
		}
	}
}

// frame reads the frame at the beginning of b, which lies at pos of the file; the
// batch is expected to begin at expect. With too few bytes it gives how many are
// needed and no batch. The batch's own checksum is the caller's to check.
func (v *View) frame(b []byte, pos int64, expect model.Offset) (batch record.Batch, need int, err error) {
	need = FrameOverhead + record.HeaderSize
	if pos+int64(need) > v.Meta.Length {
		return nil, 0, v.damaged(pos, expect, "the end is cut")
	}
	if len(b) < need {
		return nil, need, nil
	}
	body := b[FrameOverhead:]
	if headSum(body) != binary.LittleEndian.Uint32(b) {
		return nil, 0, v.damaged(pos, expect, "batch header does not match its checksum")
	}
	size, err := record.Size(body)
	if err != nil {
		return nil, 0, v.damaged(pos, expect, err.Error())
	}
	need = FrameOverhead + size
	if pos+int64(need) > v.Meta.Length {
		return nil, 0, v.damaged(pos, expect, "batch runs past the end")
	}
	if len(b) < need {
		return nil, need, nil
	}
	batch = record.Batch(body[:size:size])
	base := batch.BaseOffset()
	if base < expect || base > expect && v.Meta.Generation == 0 || batch.NextOffset() > v.Meta.End || batch.LastOffsetDelta() < 0 {
		return nil, 0, v.damaged(pos, expect, fmt.Sprintf("batch of offsets %d to %d is out of place", base, batch.LastOffset()))
	}
	return batch, need, nil
}

// damaged names the range from expect to the next place that the index knows.
func (v *View) damaged(pos int64, expect model.Offset, reason string) error {
	x := v.index
	if whole := v.file.index.Load(); v.sealed && whole != nil {
		x = *whole
	}
	return v.file.corrupt(pos, expect, max(x.after(&v.Meta, pos)-1, expect), reason)
}

func (v *View) checkSum(b record.Batch, pos int64) error {
	if sum := b.Checksum(); sum != b.CRC() {
		return v.file.corrupt(pos, b.BaseOffset(), b.LastOffset(), record.ErrCRC.Error())
	}
	return nil
}

// readAt fills b from pos and tells how much it has; a file that ends too soon is
// corrupt.
func (v *View) readAt(b []byte, pos int64, expect model.Offset) (int, error) {
	f, err := v.file.open(&v.Meta)
	if err != nil {
		return 0, err
	}
	n, err := f.ReadAt(b, pos)
	if n == len(b) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return n, v.damaged(pos+int64(n), expect, "file is too short")
	}
	return 0, fmt.Errorf("read segment %s at %d: %w", v.file.Name(), pos, err)
}

// Ask says what to read.
type Ask struct {
	From     model.Offset // batches that end before it are left out
	Limit    model.Offset // batches that begin at or behind it are left out
	BytesMax int
	MinOne   bool // give one batch, however large
}

// readAhead is how much more than asked is read to find the first batch, besides
// an index interval, in bytes.
const readAhead = 4 << 10

// Read appends whole batches to dst, each checked. next is the offset behind the
// last; full tells that BytesMax or Limit ended it, not the segment. A damaged
// batch gives ErrCorrupt, unless batches before it are given: then the next Read
// meets it.
func (v *View) Read(dst []byte, ask Ask) (out []byte, next model.Offset, full bool, err error) {
	if ask.BytesMax <= 0 && !ask.MinOne {
		return dst, ask.From, true, nil
	}
	r := reading{v: v, ask: ask, start: len(dst), out: len(dst), next: ask.From}
	x := v.positions()
	r.pos, r.expect = x.before(&v.Meta, ask.From)
	window := min(max(ask.BytesMax, 0), int(v.Meta.Length)) + v.interval + readAhead
	for !r.done && r.pos < v.Meta.Length {
		n := min(int64(max(window, r.need)), v.Meta.Length-r.pos)
		dst = slices.Grow(dst[:r.out], int(n))
		b := dst[r.out : r.out+int(n)]
		got, short := v.readAt(b, r.pos, r.expect)
		if err := r.take(dst[:r.out+got], b[:got]); err != nil {
			return r.result(dst, err)
		}
		if short != nil && !r.done {
			return r.result(dst, short)
		}
	}
	return r.result(dst, nil)
}

// reading is one Read under way: batches are moved to the front of what was read.
type reading struct {
	v          *View
	ask        Ask
	start, out int // in dst: where this Read began, and where its batches end
	pos        int64
	expect     model.Offset
	next       model.Offset
	need       int // bytes of the frame at pos, when the window was too small
	done       bool
}

// take moves the batches that are wanted from window b, a part of dst, to dst[out:].
func (r *reading) take(dst, b []byte) error {
	r.need = 0
	for len(b) > 0 && !r.done {
		batch, size, err := r.v.frame(b, r.pos, r.expect)
		if err != nil {
			return err
		}
		if batch == nil {
			r.need = size
			// What is there does not have to grow once something was found.
			r.done = r.out > r.start || !r.ask.MinOne && size-FrameOverhead > r.ask.BytesMax && r.expect >= r.ask.From
			return nil
		}
		next := batch.NextOffset() // before the move below overwrites it
		if next > r.ask.From {
			if !r.fits(batch) {
				r.done = true
				return nil
			}
			if err := r.v.checkSum(batch, r.pos); err != nil {
				return err
			}
			r.next = next
			r.out += copy(dst[r.out:], batch)
		}
		r.expect = next
		r.pos += int64(size)
		b = b[size:]
	}
	return nil
}

func (r *reading) fits(b record.Batch) bool {
	if b.BaseOffset() >= r.ask.Limit {
		return false
	}
	return r.out-r.start+len(b) <= r.ask.BytesMax || r.out == r.start && r.ask.MinOne
}

func (r *reading) result(dst []byte, err error) ([]byte, model.Offset, bool, error) {
	if r.out > r.start && errors.Is(err, ErrCorrupt) {
		return dst[:r.out], r.next, true, nil
	}
	return dst[:r.out], r.next, r.done, err
}
