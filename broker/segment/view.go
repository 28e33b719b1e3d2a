package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
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
	chunks   []chunk // held; what lies before them is written
	written  int64   // length that the file has
	index    index   // of a segment that was not sealed
	sealed   bool
	interval int
	steps    int // writes of its flush so far
	// memoryFrom: what lies before it is read from the file, also where memory has it.
	memoryFrom int64
	released   atomic.Bool
}

// Release lets the file go. A second call does nothing.
func (v *View) Release() error {
	if v.released.Swap(true) {
		return nil
	}
	for i := range v.chunks {
		v.chunks[i].buf.Release()
	}
	return v.file.Release()
}

// SaveIndex writes the index file of what the view covers.
func (v *View) SaveIndex() error {
	return writeIndex(v.file.place.FS, v.file.place.Dir, &v.Meta, v.positions())
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
	defer w.Close()
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

// Ask says what to read.
type Ask struct {
	From     model.Offset // batches that end before it are left out
	Limit    model.Offset // batches that begin at or behind it are left out
	BytesMax int
	MinOne   bool // give one batch, however large
}

// Read appends whole batches to dst, each checked. next is the offset behind the
// last; full tells that BytesMax or Limit ended it, not the segment. A damaged
// batch gives ErrCorrupt, unless batches before it are given: then the next Read
// meets it.
func (v *View) Read(dst []byte, ask Ask) (out []byte, next model.Offset, full bool, err error) {
	if ask.BytesMax <= 0 && !ask.MinOne {
		return dst, ask.From, true, nil
	}
	r := reading{v: v, ask: ask, start: len(dst), next: ask.From}
	r.pos, r.expect = v.positions().before(&v.Meta, ask.From)
	r.out = slices.Grow(dst, int(min(int64(max(ask.BytesMax, 0)), v.Meta.Length-r.pos)))
	for !r.done && r.pos < v.Meta.Length {
		p, err := v.piece(r.pos, r.need, r.expect, true)
		if err == nil {
			err = r.take(p.b)
			p.release()
		}
		if err != nil {
			return r.result(err)
		}
	}
	if r.done && r.next < ask.Limit {
		v.readAhead(r.pos)
	}
	return r.result(nil)
}

// reading is one Read under way.
type reading struct {
	v      *View
	ask    Ask
	start  int    // length of out when this Read began
	out    []byte // batches are appended
	pos    int64
	expect model.Offset
	next   model.Offset
	need   int // bytes of the frame at pos, when there were too few
	done   bool
}

// take appends the batches that are wanted of b, which lies at pos.
func (r *reading) take(b []byte) error {
	r.need = 0
	for len(b) > 0 && !r.done {
		batch, size, err := r.v.frame(b, r.pos, r.expect)
		if err != nil {
			return err
		}
		if batch == nil {
			r.need = size
			// The rest of a batch that is wanted and too large need not be read.
			r.done = size > FrameOverhead+record.HeaderSize && r.expect >= r.ask.From && !r.fits(size-FrameOverhead)
			return nil
		}
		if next := batch.NextOffset(); next > r.ask.From {
			if batch.BaseOffset() >= r.ask.Limit || !r.fits(len(batch)) {
				r.done = true
				return nil
			}
			if err := r.v.checkSum(batch, r.pos); err != nil {
				return err
			}
			r.next = next
			r.out = append(r.out, batch...)
		}
		r.expect = batch.NextOffset()
		r.pos += int64(size)
		b = b[size:]
	}
	return nil
}

// fits tells whether a batch of size bytes may follow.
func (r *reading) fits(size int) bool {
	return len(r.out)-r.start+size <= r.ask.BytesMax || len(r.out) == r.start && r.ask.MinOne
}

func (r *reading) result(err error) ([]byte, model.Offset, bool, error) {
	if len(r.out) > r.start && errors.Is(err, ErrCorrupt) {
		return r.out, r.next, true, nil
	}
	return r.out, r.next, r.done, err
}
