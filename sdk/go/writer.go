package millrace

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Writer takes what the transform makes of the current record, in order. Nothing written: the record is dropped.
//
// To and Partition hold for the next Pass or Write, and are then forgotten:
//
//	out.To("rejected").Pass()
type Writer struct {
	frame   []byte
	entries uint32
	record  *Record
	outputs []string

	output    int
	partition int32
	wrong     error
}

// Output is one record to write. Its timestamp is always that of the source record. Key and Value are null when nil.
type Output struct {
	Key     []byte
	Value   []byte
	Headers []Header
}

// ErrOutput is the cause of an error about an output that the manifest does not declare.
var ErrOutput = errors.New("undeclared output")

// ErrTooLarge is the cause of an error about a record or a batch that exceeds the ABI's limits.
var ErrTooLarge = errors.New("output is too large")

// To chooses the output of the next record by its name in transform.yaml; without it, it is the first.
func (w *Writer) To(output string) *Writer {
	for i, name := range w.outputs {
		if name == output {
			w.output = i
			return w
		}
	}
	w.wrong = fmt.Errorf("%w %q: transform.yaml declares %q", ErrOutput, output, w.outputs)
	return w
}

// Partition chooses the output's partition for the next record; without it, transform.yaml's partitioning decides.
func (w *Writer) Partition(partition int32) *Writer {
	if partition < 0 {
		w.wrong = fmt.Errorf("partition %d is negative", partition)
	}
	w.partition = partition
	return w
}

// Pass writes the source record unchanged, without copying it.
func (w *Writer) Pass() error {
	if err := w.begin(entryPassBytes); err != nil {
		return err
	}
	w.head(entryPassBytes, flagPass)
	w.end()
	return nil
}

// WriteValue writes the source record with another value.
func (w *Writer) WriteValue(value []byte) error {
	if w.record.headerCount == len(w.record.list) { // read already, or made by hand
		return w.Write(Output{Key: w.record.Key, Value: value, Headers: w.record.list})
	}
	return w.write(w.record.Key, value, nil, w.record.headers, w.record.headerCount)
}

// WriteJSON writes the source record with v as its value, encoded as encoding/json does.
func (w *Writer) WriteJSON(v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		w.end()
		return err
	}
	return w.WriteValue(value)
}

// Write writes a record, copying it.
func (w *Writer) Write(o Output) error {
	return w.write(o.Key, o.Value, o.Headers, nil, len(o.Headers))
}

// write takes the headers as a list or as bytes of the frame.
func (w *Writer) write(key, value []byte, headers []Header, raw []byte, headerCount int) error {
	size := entryFixedBytes + len(key) + len(value) + len(raw)
	for i := range headers {
		size += headerFixedBytes + len(headers[i].Key) + len(headers[i].Value)
	}
	padding := -size & 7
	if err := w.begin(size + padding); err != nil {
		return err
	}
	w.head(size+padding, 0)
	frame := le.AppendUint32(w.frame, uint32(headerCount))
	frame = le.AppendUint32(frame, sizeOf(key))
	frame = le.AppendUint32(frame, sizeOf(value))
	frame = le.AppendUint32(frame, 0)
	frame = append(frame, key...)
	frame = append(frame, value...)
	frame = append(frame, raw...)
	for i := range headers {
		frame = le.AppendUint32(frame, uint32(len(headers[i].Key)))
		frame = le.AppendUint32(frame, sizeOf(headers[i].Value))
		frame = append(frame, headers[i].Key...)
		frame = append(frame, headers[i].Value...)
	}
	w.frame = append(frame, zeros[:padding]...)
	w.end()
	return nil
}

var zeros [8]byte

func sizeOf(b []byte) uint32 {
	if b == nil {
		return math.MaxUint32
	}
	return uint32(len(b))
}

func (w *Writer) begin(size int) error {
	err := w.wrong
	if err == nil && len(w.frame)+size > frameBytesMax {
		err = fmt.Errorf("%w: %d bytes after %d, the limit of a batch is %d", ErrTooLarge, size, len(w.frame), frameBytesMax)
	}
	if err != nil {
		w.end()
	}
	return err
}

func (w *Writer) head(size int, flags uint16) {
	w.frame = le.AppendUint32(w.frame, uint32(size))
	w.frame = le.AppendUint32(w.frame, w.record.source)
	w.frame = le.AppendUint16(w.frame, uint16(w.output))
	w.frame = le.AppendUint16(w.frame, flags)
	w.frame = le.AppendUint32(w.frame, uint32(w.partition))
	w.entries++
}

// end forgets the route of the record that was written or refused.
func (w *Writer) end() { w.output, w.partition, w.wrong = 0, -1, nil }

// reset begins the frame of a batch.
func (w *Writer) reset(outputs []string) {
	w.frame = append(w.frame[:0], make([]byte, outputHeaderBytes)...)
	w.entries, w.outputs = 0, outputs
	w.end()
}

// finish returns the frame, empty when nothing was written.
func (w *Writer) finish() []byte {
	if w.entries == 0 {
		return nil
	}
	le.PutUint32(w.frame, outputMagic)
	le.PutUint32(w.frame[4:], abiVersion)
	le.PutUint32(w.frame[8:], uint32(len(w.frame)))
	le.PutUint32(w.frame[12:], w.entries)
	return w.frame
}
