package record

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/millrace-io/millrace/broker/model"
)

// Record is a view of one record; its slices alias the batch or the Reader's
// scratch. A nil Key or Value is null, an empty one is empty.
type Record struct {
	Offset      model.Offset
	OffsetDelta int32
	Timestamp   int64 // milliseconds; the batch's append time when it has one
	Key, Value  []byte
	HeaderCount int
	// Tail is key, value and headers as they lie in the batch: see AppendRecordTail.
	Tail    []byte
	headers []byte // Tail's headers, behind their count
}

// HeaderField is one header of a record; a nil Value is null.
type HeaderField struct {
	Key   string
	Value []byte
}

// Headers gives the record's headers in order. They were checked when the record
// was read.
func (r *Record) Headers() iter.Seq[HeaderField] {
	return func(yield func(HeaderField) bool) {
		b := r.headers
		for range r.HeaderCount {
			var key, value []byte
			key, b, _ = readBytes(b)
			value, b, _ = readBytes(b)
			if !yield(HeaderField{Key: string(key), Value: value}) {
				return
			}
		}
	}
}

// AppendRecordTail appends key, value and headers as a record holds them: zig-zag
// varint lengths, -1 for null.
func AppendRecordTail(dst, key, value []byte, headers []HeaderField) []byte {
	dst = appendBytes(dst, key)
	dst = appendBytes(dst, value)
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for _, h := range headers {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

// ParseRecordTail reads what AppendRecordTail writes into rec's Key, Value,
// HeaderCount and Tail. All of b must be consumed.
func ParseRecordTail(b []byte, rec *Record) error {
	rec.Tail = b
	var err error
	if rec.Key, b, err = readBytes(b); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if rec.Value, b, err = readBytes(b); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	n, used := binary.Varint(b)
	if used <= 0 || n < 0 || n > int64(len(b)) {
		return fmt.Errorf("%w: header count", ErrMalformed)
	}
	b = b[used:]
	rec.headers, rec.HeaderCount = b, int(n)
	for range n {
		var key []byte
		if key, b, err = readBytes(b); err != nil || key == nil {
			return fmt.Errorf("%w: header key", ErrMalformed)
		}
		if _, b, err = readBytes(b); err != nil {
			return fmt.Errorf("header value: %w", err)
		}
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: %d bytes behind the headers", ErrMalformed, len(b))
	}
	return nil
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

// readBytes takes a nullable byte string off b.
func readBytes(b []byte) (field, rest []byte, err error) {
	n, used := binary.Varint(b)
	if used <= 0 {
		return nil, nil, fmt.Errorf("%w: length", ErrMalformed)
	}
	b = b[used:]
	if n == -1 {
		return nil, b, nil
	}
	if n < 0 || n > int64(len(b)) {
		return nil, nil, fmt.Errorf("%w: length %d of %d bytes left", ErrMalformed, n, len(b))
	}
	return b[:n:n], b[n:], nil
}

// parseRecord takes one record off b: length, attributes, deltas and tail.
func parseRecord(b []byte, batch Batch, rec *Record) (rest []byte, err error) {
	size, used := binary.Varint(b)
	if used <= 0 || size < 0 || size > int64(len(b)-used) {
		return nil, fmt.Errorf("%w: record length", ErrMalformed)
	}
	body, rest := b[used:used+int(size)], b[used+int(size):]
	if len(body) == 0 {
		return nil, fmt.Errorf("%w: empty record", ErrMalformed)
	}
	body = body[1:] // attributes: none are defined
	timeDelta, used := binary.Varint(body)
	if used <= 0 {
		return nil, fmt.Errorf("%w: timestamp delta", ErrMalformed)
	}
	body = body[used:]
	delta, used := binary.Varint(body)
	if used <= 0 || delta < 0 || delta > int64(batch.LastOffsetDelta()) {
		return nil, fmt.Errorf("%w: offset delta %d, the batch's last is %d", ErrMalformed, delta, batch.LastOffsetDelta())
	}
	rec.OffsetDelta = int32(delta)
	rec.Offset = batch.BaseOffset() + model.Offset(delta)
	if rec.Timestamp = batch.BaseTimestamp() + timeDelta; batch.LogAppendTime() {
		rec.Timestamp = batch.MaxTimestamp()
	}
	return rest, ParseRecordTail(body[used:], rec)
}
