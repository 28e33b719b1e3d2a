package abi

import (
	"math"
)

// BatchHeader is the head of an input frame.
type BatchHeader struct {
	Topic      uint16 // which declared input
	Partition  int32
	BaseOffset int64
	Seed       uint64 // see Seed
}

// Record is one record of an input frame. A nil Key or Value is null; an empty one that is not nil is empty.
type Record struct {
	Offset    int64
	Timestamp int64 // ms since 1970, -1 = none
	Key       []byte
	Value     []byte
	Headers   []Header
}

// InputWriter builds input frames. The zero value is ready; it is owned by one goroutine and may be used again and again.
//
//	w.Begin(buf[:0], header)
//	for ... { err = w.Append(&record) }
//	frame := w.Finish()
type InputWriter struct {
	frame []byte
	start int
	count uint32
	last  int64
}

// Begin starts a frame, appended to dst, whose spare capacity is used.
func (w *InputWriter) Begin(dst []byte, h BatchHeader) {
	w.start, w.count, w.last = len(dst), 0, math.MinInt64
	dst = order.AppendUint32(dst, inputMagic)
	dst = order.AppendUint16(dst, Version)
	dst = order.AppendUint16(dst, h.Topic)
	dst = order.AppendUint32(dst, uint32(h.Partition))
	dst = order.AppendUint32(dst, 0) // count, set by Finish
	dst = order.AppendUint64(dst, uint64(h.BaseOffset))
	dst = order.AppendUint64(dst, h.Seed)
	dst = order.AppendUint64(dst, 0) // size, set by Finish, and reserved
	w.frame = dst
}

// Size returns the bytes of the frame so far.
func (w *InputWriter) Size() int { return len(w.frame) - w.start }

// Count returns the records of the frame so far.
func (w *InputWriter) Count() int { return int(w.count) }

// RecordBytes returns the room that r takes in a frame.
func RecordBytes(r *Record) int {
	size := recordFixedBytes + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		size += headerFixedBytes + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return align(size)
}

// Append adds a record, copying it. It fails with ErrRecord, and leaves the frame as it was, when the frame would exceed
// FrameBytesMax, the record has more than HeadersMax headers, or its offset does not increase.
func (w *InputWriter) Append(r *Record) error {
	size := RecordBytes(r)
	if w.Size()+size > FrameBytesMax {
		return refuse(ErrRecord, "offset %d: %d bytes after %d, limit %d", r.Offset, size, w.Size(), FrameBytesMax)
	}
	if len(r.Headers) > HeadersMax {
		return refuse(ErrRecord, "offset %d: %d headers, limit %d", r.Offset, len(r.Headers), HeadersMax)
	}
	if w.count > 0 && r.Offset <= w.last {
		return refuse(ErrRecord, "offset %d follows %d", r.Offset, w.last)
	}
	dst, end := w.frame, len(w.frame)+size
	dst = order.AppendUint32(dst, uint32(size))
	dst = order.AppendUint32(dst, uint32(len(r.Headers)))
	dst = order.AppendUint64(dst, uint64(r.Offset))
	dst = order.AppendUint64(dst, uint64(r.Timestamp))
	dst = order.AppendUint32(dst, lengthOf(r.Key))
	dst = order.AppendUint32(dst, lengthOf(r.Value))
	dst = append(dst, r.Key...)
	dst = append(dst, r.Value...)
	dst = appendHeaders(dst, r.Headers)
	w.frame = pad(dst, end)
	w.last = r.Offset
	w.count++
	return nil
}

// Finish completes the frame and returns dst with the frame appended. The writer keeps no reference to it.
func (w *InputWriter) Finish() []byte {
	frame := w.frame
	order.PutUint32(frame[w.start+12:], w.count)
	order.PutUint32(frame[w.start+32:], uint32(w.Size()))
	w.frame, w.start, w.count = nil, 0, 0
	return frame
}

// DecodeInput checks an input frame as a guest should, and returns what it holds; keys, values and headers alias the frame.
// The host uses it in tests and in tools, never on its hot path.
func DecodeInput(frame []byte) (BatchHeader, []Record, error) {
	var h BatchHeader
	if err := checkFrame(frame, inputHeaderBytes, inputMagic); err != nil {
		return h, nil, err
	}
	if size := order.Uint32(frame[32:]); uint64(size) != uint64(len(frame)) {
		return h, nil, refuse(ErrFrameSize, "says %d, has %d", size, len(frame))
	}
	if order.Uint32(frame[36:]) != 0 {
		return h, nil, refuse(ErrReserved, "in the header")
	}
	h = BatchHeader{
		Topic:      order.Uint16(frame[6:]),
		Partition:  int32(order.Uint32(frame[8:])),
		BaseOffset: int64(order.Uint64(frame[16:])),
		Seed:       order.Uint64(frame[24:]),
	}
	count, rest := order.Uint32(frame[12:]), frame[inputHeaderBytes:]
	if uint64(count)*recordFixedBytes > uint64(len(rest)) {
		return h, nil, refuse(ErrEntryCount, "%d records in %d bytes", count, len(rest))
	}
	records := make([]Record, count)
	for i := range records {
		size, err := decodeRecord(rest, &records[i])
		if err != nil {
			return h, nil, refuse(err, "record %d", i)
		}
		rest = rest[size:]
	}
	if len(rest) != 0 {
		return h, nil, refuse(ErrTrailing, "%d", len(rest))
	}
	return h, records, nil
}

func decodeRecord(rest []byte, r *Record) (int, error) {
	size, err := sizeOf(rest, recordFixedBytes)
	if err != nil {
		return 0, err
	}
	entry := rest[:size]
	r.Offset = int64(order.Uint64(entry[8:]))
	r.Timestamp = int64(order.Uint64(entry[16:]))
	body, err := keyValue(entry, 24, &r.Key, &r.Value)
	if err != nil {
		return 0, err
	}
	headers := int(order.Uint32(entry[4:]))
	if err := checkHeaders(body, headers); err != nil {
		return 0, err
	}
	r.Headers = decodeHeaders(nil, body, headers)
	return size, nil
}
