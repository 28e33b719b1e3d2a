package segment

import (
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// Walk goes through the batches of a view in order and checks each. What it reads is
// not kept for others.
type Walk struct {
	v      *View
	p      piece
	b      []byte // unread part of p
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

// Close ends a walk. It may be called early, and twice.
func (w *Walk) Close() {
	w.p.release()
	w.b = nil
}

// Next gives the next batch, valid until the call after it; nil at the end. After
// ErrCorrupt the walk is over. Close must follow.
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

// fill goes to where pos is, with need bytes at least.
func (w *Walk) fill(need int) error {
	w.p.release()
	p, err := w.v.piece(w.pos, need, w.expect, false)
	w.p, w.b = p, p.b
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
	defer w.Close()
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
