package engine

import (
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
	"github.com/millrace-io/millrace/sidecar/host"
)

// inflatedMax bounds what one batch may inflate to, in bytes.
const inflatedMax = 128 << 20

// input is a range of records, as guests see it. It keeps its buffers between
// ranges and belongs to one goroutine. Records alias the batches' bytes.
type input struct {
	records []abi.Record
	tails   [][]byte
	headers []abi.Header     // backs records[i].Headers
	readers []*record.Reader // one a batch: each holds what it inflated
	used    int
	dropped int64 // records of the range without output, once it is done
}

func (in *input) reset() {
	clear(in.records)
	clear(in.tails)
	in.records, in.tails, in.headers, in.used = in.records[:0], in.tails[:0], in.headers[:0], 0
}

// add appends the records of a batch. keep tells which, by offset.
func (in *input) add(b record.Batch, keep func(record.Record) bool) error {
	if in.used == len(in.readers) {
		in.readers = append(in.readers, &record.Reader{})
	}
	reader := in.readers[in.used]
	in.used++
	if err := reader.Reset(b, inflatedMax); err != nil {
		return fmt.Errorf("%w: batch at %d: %w", control.ErrRequest, b.BaseOffset(), err)
	}
	var r record.Record
	for reader.Next(&r) {
		if !keep(r) {
			continue
		}
		start := len(in.headers)
		if r.HeaderCount > 0 {
			var ok bool
			if _, _, in.headers, ok = host.ParseTail(in.headers, r.Tail); !ok {
				return fmt.Errorf("%w: headers of the record at %d", control.ErrRequest, r.Offset)
			}
		}
		in.records = append(in.records, abi.Record{
			Offset: int64(r.Offset), Timestamp: r.Timestamp, Key: r.Key, Value: r.Value,
			Headers: in.headers[start:len(in.headers):len(in.headers)],
		})
		in.tails = append(in.tails, r.Tail)
	}
	if err := reader.Err(); err != nil {
		return fmt.Errorf("%w: batch at %d: %w", control.ErrRequest, b.BaseOffset(), err)
	}
	return nil
}

// addRange appends the records of [from, to) but those to avoid, from whole
// batches; control batches are passed over.
func (in *input) addRange(batches []byte, from, to model.Offset, avoid []model.Offset) error {
	keep := func(r record.Record) bool {
		for len(avoid) > 0 && avoid[0] < r.Offset {
			avoid = avoid[1:]
		}
		return r.Offset >= from && r.Offset < to && (len(avoid) == 0 || avoid[0] != r.Offset)
	}
	last := model.NoOffset
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err == nil {
			err = b.CheckHeader()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", control.ErrRequest, err)
		}
		if b.BaseOffset() <= last {
			return fmt.Errorf("%w: batch at %d follows offset %d", control.ErrRequest, b.BaseOffset(), last)
		}
		batches, last = rest, b.LastOffset()
		if b.Control() || b.LastOffset() < from || b.BaseOffset() >= to {
			continue
		}
		if err := in.add(b, keep); err != nil {
			return err
		}
	}
	return nil
}

// seed is the random seed of a guest's frames.
func seed(digest model.Digest, topic model.TopicID, partition int32) uint64 {
	return abi.Seed(digest, topic, partition)
}
