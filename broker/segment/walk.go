package segment

import (
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// walkWindow is how much a Walk reads at once, in bytes.
const walkWindow = 256 << 10

// Walk goes through the batches of a view in order and checks each.
type Walk struct {
	v      *View
	buf    []byte
	b      []byte // unread part of buf
	pos    int64  // of b in the file
	expect model.Offset
	// lenient passes batches whose own checksum is wrong.
	lenient bool
}

// Walk begins at the last index entry at or before from.
func (v *View) Walk(from model.Offset) *Walk {
	if from <= v.Meta.Base {
		return v.walk(HeaderSize, v.Meta.Base) // without reading the index
	}
	pos, base := v.positions().before(&v.Meta, from)
	return v.walk(pos, base)
}

func (v *View) walk(pos int64, base model.Offset) *Walk {
	return &Walk{v: v, pos: pos, expect: base}
}

// Next gives the next batch, valid until the call after it; nil at the end. After
// ErrCorrupt the walk is over.
func (w *Walk) Next() (record.Batch, error) {
	b, _, err := w.next()
	return b, err
}

func (w *Walk) next() (record.Batch, int64, error) {
	need := 1
	for {
		if w.pos >= w.v.Meta.Length {
			return nil, 0, nil
		}
		if len(w.b) < need {
			if err := w.fill(need); err != nil {
				return nil, 0, err
			}
		}
		batch, size, err := w.v.frame(w.b, w.pos, w.expect)
		if err != nil {
			return nil, 0, err
		}
		if batch == nil {
			need = size
			continue
		}
		if !w.lenient {
			if err := w.v.checkSum(batch, w.pos); err != nil {
				return nil, 0, err
			}
		}
		at := w.pos
		w.pos += int64(size)
		w.b = w.b[size:]
		w.expect = batch.NextOffset()
		return batch, at, nil
	}
}

// fill reads a window from pos, with need bytes at least.
func (w *Walk) fill(need int) error {
	n := int(min(int64(max(need, walkWindow)), w.v.Meta.Length-w.pos))
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	got, err := w.v.readAt(w.buf[:n], w.pos, w.expect)
	if w.b = w.buf[:got]; got >= need {
		return nil // what is missing is met later
	}
	return err
}

// Found is a record that FindTime found.
type Found struct {
	Offset    model.Offset
	Timestamp int64
	Epoch     model.LeaderEpoch
}

// FindTime finds the first record at or behind from whose timestamp is ms or more.
// inflatedMax bounds a batch's records, in bytes.
func (v *View) FindTime(ms int64, from model.Offset, inflatedMax int) (Found, bool, error) {
	if v.Meta.MaxTime < ms || v.Meta.End <= from {
		return Found{}, false, nil
	}
	pos, base := v.positions().beforeTime(&v.Meta, ms)
	w := v.walk(pos, base)
	var r record.Reader
	for {
		b, err := w.Next()
		if err != nil || b == nil {
			return Found{}, false, err
		}
		if b.MaxTimestamp() < ms || b.NextOffset() <= from || b.Control() {
			continue
		}
		if err := r.Reset(b, inflatedMax); err != nil {
			return Found{}, false, err
		}
		var rec record.Record
		for r.Next(&rec) {
			if rec.Timestamp >= ms && rec.Offset >= from {
				return Found{rec.Offset, rec.Timestamp, b.LeaderEpoch()}, true, nil
			}
		}
		if r.Err() != nil {
			return Found{}, false, r.Err()
		}
	}
}
