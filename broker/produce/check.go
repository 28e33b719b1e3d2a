package produce

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/record"
)

// inflateMax bounds a batch's records once inflated, in bytes: a bomb is refused
// when it reaches this, not when memory is gone.
const inflateMax = 128 << 20

// readers are reused: each keeps the scratch that it inflates into.
var readers = sync.Pool{New: func() any { return new(record.Reader) }}

// check gives the write that ask becomes, or the refusal.
func (s *Service) check(h *core.Handle, ask Ask) (*write, Result) {
	batch, rest, err := record.Next(ask.Records)
	switch {
	case err != nil:
		return nil, refused(err)
	case len(rest) > 0:
		return nil, refused(fmt.Errorf("%w: a partition takes one batch per request, %d bytes follow the first", ErrInvalidRecord, len(rest)))
	}
	topic := h.Config()
	if len(batch) > topic.MessageBytesMax {
		return nil, refused(fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrTooLarge, len(batch), topic.MessageBytesMax))
	}
	if err := checkBatch(batch, topic, ask.Internal, s.o.Now()); err != nil {
		return nil, refusedRecord(err)
	}
	w := &write{timeout: ask.Timeout, append: -1, all: ask.All, id: sequencedOf(batch)}
	w.done = make(chan struct{})
	w.scripted = !ask.Internal && s.o.Scripts != nil && s.o.Scripts.Bound(h.ID.Topic)
	if batch, err = recompress(batch, topic); err != nil {
		return nil, refused(err)
	}
	w.batch = batch
	if topic.AppendTime {
		w.append = s.o.Now().UnixMilli()
		record.Batch(w.batch).StampAppendTime(w.append)
	}
	return w, Result{}
}

// recordFault names the record that a batch is refused for.
type recordFault struct {
	index int32
	err   error
}

func (f *recordFault) Error() string { return fmt.Sprintf("record %d: %v", f.index, f.err) }
func (f *recordFault) Unwrap() error { return f.err }

func refusedRecord(err error) Result {
	r := refused(err)
	var f *recordFault
	if errors.As(err, &f) {
		r.RecordErrors = []RecordError{{Index: f.index, Text: f.err.Error()}}
	}
	return r
}

// checkBatch is what a leader demands of a batch before it is proposed.
func checkBatch(b record.Batch, topic *config.Topic, internal bool, now time.Time) error {
	r := readers.Get().(*record.Reader)
	defer readers.Put(r)
	err := r.Validate(b, inflateMax)
	if errors.Is(err, record.ErrMaxTimestamp) {
		b.SetMaxTimestamp(r.Latest()) // some clients do not keep count; Kafka corrects them too
	} else if err != nil {
		return err
	}
	switch {
	case b.Control():
		return fmt.Errorf("%w: clients may not write control batches", ErrInvalidRecord)
	case b.Transactional() && !internal:
		return fmt.Errorf("%w: transactions are not supported by this version", ErrInvalidRecord)
	case b.Count() == 0:
		return fmt.Errorf("%w: the batch is empty", ErrInvalidRecord)
	case b.LastOffsetDelta() != b.Count()-1:
		return fmt.Errorf("%w: %d records, but the last offset delta is %d", ErrInvalidRecord, b.Count(), b.LastOffsetDelta())
	}
	if !topic.AppendTime {
		if err := checkTimes(b, topic, now); err != nil {
			return err
		}
	}
	if topic.Compact {
		return checkKeys(r, b)
	}
	return nil
}

// checkTimes applies message.timestamp.before.max.ms and after.max.ms to the
// header's times; NoTimestamp passes.
func checkTimes(b record.Batch, topic *config.Topic, now time.Time) error {
	oldest, newest := b.BaseTimestamp(), b.MaxTimestamp()
	switch ms := now.UnixMilli(); {
	case oldest == record.NoTimestamp && newest == record.NoTimestamp:
	case topic.TimestampAfterMax >= 0 && newest-ms > topic.TimestampAfterMax.Milliseconds():
		return fmt.Errorf("%w: %d is %d ms ahead of the broker, %s are allowed", ErrInvalidTimestamp, newest, newest-ms, topic.TimestampAfterMax)
	case topic.TimestampBeforeMax >= 0 && ms-oldest > topic.TimestampBeforeMax.Milliseconds():
		return fmt.Errorf("%w: %d is %d ms behind the broker, %s are allowed", ErrInvalidTimestamp, oldest, ms-oldest, topic.TimestampBeforeMax)
	}
	return nil
}

// checkKeys refuses a record that a compacted topic could not keep.
func checkKeys(r *record.Reader, b record.Batch) error {
	if err := r.Reset(b, inflateMax); err != nil {
		return err
	}
	var rec record.Record
	for r.Next(&rec) {
		if rec.Key == nil {
			return &recordFault{index: rec.OffsetDelta, err: fmt.Errorf("%w: a compacted topic takes no record without a key", ErrInvalidRecord)}
		}
	}
	return r.Err()
}

// recompress gives the batch with the topic's own compression, when it has one
// that differs from the producer's.
func recompress(b record.Batch, topic *config.Topic) (record.Batch, error) {
	codec, own := topicCodec(topic)
	if !own || codec == b.Codec() {
		return b, nil
	}
	r := readers.Get().(*record.Reader)
	defer readers.Put(r)
	if err := r.Reset(b, inflateMax); err != nil {
		return nil, err
	}
	spec := record.SpecOf(b)
	spec.Codec, spec.Level = codec, codecLevel(topic, codec)
	return rebuild(r, spec, b.LastOffsetDelta())
}

// topicCodec is the compression that a topic insists on; own is false where the
// producer decides.
func topicCodec(topic *config.Topic) (codec record.Codec, own bool) {
	switch topic.Compression {
	case "uncompressed":
		return record.None, true
	case "gzip":
		return record.Gzip, true
	case "snappy":
		return record.Snappy, true
	case "lz4":
		return record.LZ4, true
	case "zstd":
		return record.Zstd, true
	}
	return record.None, false
}

func codecLevel(topic *config.Topic, codec record.Codec) int {
	switch codec {
	case record.Gzip:
		return topic.CompressionLevel.Gzip
	case record.LZ4:
		return topic.CompressionLevel.LZ4
	case record.Zstd:
		return topic.CompressionLevel.Zstd
	}
	return record.LevelDefault
}

// rebuild writes what r still holds as a batch of spec that ends at last.
func rebuild(r *record.Reader, spec record.Spec, last int32) (record.Batch, error) {
	var b record.Builder
	b.Reset(spec)
	var rec record.Record
	for r.Next(&rec) {
		if err := b.AddTail(rec.OffsetDelta, rec.Timestamp, rec.Tail); err != nil {
			return nil, err
		}
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	b.SetLastOffsetDelta(last)
	_, batch, err := b.Build(nil)
	return batch, err
}
