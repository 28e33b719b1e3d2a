package record

import "fmt"

// scratchKeep is the largest scratch that a Reader keeps between batches, in
// bytes: one huge batch must not pin its size for ever.
const scratchKeep = 1 << 20

// Reader walks the records of one batch after another and keeps its scratch
// between them. It is owned by one goroutine; the zero Reader is ready.
type Reader struct {
	batch   Batch
	rest    []byte
	left    int32
	last    int32 // offset delta of the last record, to see that they ascend
	latest  int64 // largest timestamp so far
	scratch []byte
	err     error
}

// Reset starts on a batch whose header is sound (Check or CheckHeader). Records
// that are compressed are inflated into scratch, to at most inflatedMax bytes,
// else ErrInflated. Views of the previous batch are void.
func (r *Reader) Reset(b Batch, inflatedMax int) error {
	r.batch, r.rest, r.left, r.last, r.err = b, b.Records(), b.Count(), -1, nil
	r.latest = NoTimestamp
	if b.Codec() == None || len(r.rest) == 0 && r.left == 0 {
		return nil
	}
	if cap(r.scratch) > scratchKeep {
		r.scratch = nil
	}
	r.scratch, r.err = Decompress(r.scratch[:0], b.Codec(), r.rest, inflatedMax)
	r.rest = r.scratch
	if r.err != nil {
		r.rest, r.left = nil, 0
	}
	return r.err
}

// Next reads the next record into rec; false at the end or on an error: see Err.
func (r *Reader) Next(rec *Record) bool {
	if r.err != nil {
		return false
	}
	if r.left == 0 {
		if len(r.rest) != 0 {
			r.err = fmt.Errorf("%w: %d bytes behind the last of %d records", ErrMalformed, len(r.rest), r.batch.Count())
		}
		return false
	}
	r.rest, r.err = parseRecord(r.rest, r.batch, rec)
	if r.err == nil && rec.OffsetDelta <= r.last {
		r.err = fmt.Errorf("%w: offset delta %d after %d", ErrMalformed, rec.OffsetDelta, r.last)
	}
	if r.err != nil {
		return false
	}
	r.left--
	r.last = rec.OffsetDelta
	r.latest = max(r.latest, rec.Timestamp)
	return true
}

// Err tells why Next ended early; nil at the end of a sound batch.
func (r *Reader) Err() error { return r.err }

// Validate checks a batch whole, as a leader does before it takes a client's: the
// checksum, the header, and every record; offset deltas ascend. Last of all it
// compares the header's max timestamp with the records': ErrMaxTimestamp alone
// can be set right. The Reader is left at the end.
func (r *Reader) Validate(b Batch, inflatedMax int) error {
	if err := b.Check(); err != nil {
		return err
	}
	if err := r.Reset(b, inflatedMax); err != nil {
		return err
	}
	var rec Record
	for r.Next(&rec) {
	}
	if r.err != nil {
		return r.err
	}
	if b.Count() > 0 && !b.LogAppendTime() && r.latest != b.MaxTimestamp() {
		return fmt.Errorf("%w: it is %d, the records' is %d", ErrMaxTimestamp, b.MaxTimestamp(), r.latest)
	}
	return nil
}

// Latest is the largest timestamp of the records read since Reset, in milliseconds;
// NoTimestamp before the first.
func (r *Reader) Latest() int64 { return r.latest }
