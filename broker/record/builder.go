package record

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/millrace-io/millrace/broker/model"
)

// Spec is what a batch says besides its records. Start from Plain.
type Spec struct {
	BaseOffset model.Offset
	// BaseTimestamp is what deltas count from; NoTimestamp takes the first record's.
	BaseTimestamp int64
	Codec         Codec
	Level         int // of the codec; LevelDefault unless known better
	LeaderEpoch   model.LeaderEpoch
	ProducerID    model.ProducerID
	ProducerEpoch int16
	BaseSequence  int32
	Transactional bool
	Control       bool
	// AppendTime, unless NoTimestamp, sets LogAppendTime with it as max timestamp.
	AppendTime int64
}

// Plain is the Spec of a batch without producer, to be numbered by apply.
func Plain(codec Codec) Spec {
	return Spec{
		BaseTimestamp: NoTimestamp, Codec: codec, Level: LevelDefault, LeaderEpoch: model.NoEpoch,
		ProducerID: model.NoProducer, ProducerEpoch: -1, BaseSequence: NoSequence, AppendTime: NoTimestamp,
	}
}

// SpecOf gives the Spec that makes a batch like b, for one that keeps some of
// b's records: same offsets, times, producer, flags and codec. Set the last
// offset delta as well, so that what was dropped leaves holes.
func SpecOf(b Batch) Spec {
	s := Spec{
		BaseOffset: b.BaseOffset(), BaseTimestamp: b.BaseTimestamp(), Codec: b.Codec(), Level: LevelDefault,
		LeaderEpoch: b.LeaderEpoch(), ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(),
		BaseSequence: b.BaseSequence(), Transactional: b.Transactional(), Control: b.Control(), AppendTime: NoTimestamp,
	}
	if b.LogAppendTime() {
		s.AppendTime = b.MaxTimestamp()
	}
	return s
}

// Builder makes one batch after another and keeps its buffers between them. It
// is owned by one goroutine. Reset it before the first record.
type Builder struct {
	spec    Spec
	body    []byte
	count   int32
	last    int32 // offset delta of the last record, -1 before it
	forced  int32 // last offset delta set by the caller, -1 none
	latest  int64
	scratch []byte
}

// Reset begins a batch.
func (b *Builder) Reset(s Spec) {
	*b = Builder{spec: s, body: b.body[:0], scratch: b.scratch[:0], last: -1, forced: -1, latest: NoTimestamp}
	if cap(b.body) > scratchKeep {
		b.body = nil
	}
	if cap(b.scratch) > scratchKeep {
		b.scratch = nil
	}
}

// Count is how many records were added.
func (b *Builder) Count() int { return int(b.count) }

// Bytes is the size of the records added so far, before compression.
func (b *Builder) Bytes() int { return len(b.body) }

// Add appends a record at the next offset. A nil key or value is null.
func (b *Builder) Add(timestamp int64, key, value []byte, headers []HeaderField) error {
	b.scratch = AppendRecordTail(b.scratch[:0], key, value, headers)
	return b.AddTail(b.last+1, timestamp, b.scratch)
}

// AddAt appends a record at an offset delta beyond the last one's: what lies
// between is a hole.
func (b *Builder) AddAt(delta int32, timestamp int64, key, value []byte, headers []HeaderField) error {
	b.scratch = AppendRecordTail(b.scratch[:0], key, value, headers)
	return b.AddTail(delta, timestamp, b.scratch)
}

// AddTail is AddAt for a tail that AppendRecordTail made or a Record has.
func (b *Builder) AddTail(delta int32, timestamp int64, tail []byte) error {
	if delta <= b.last || delta == math.MaxInt32 {
		return fmt.Errorf("%w: record at offset delta %d after %d", ErrMalformed, delta, b.last)
	}
	if b.spec.BaseTimestamp == NoTimestamp && b.count == 0 {
		b.spec.BaseTimestamp = timestamp
	}
	timeDelta := timestamp - b.spec.BaseTimestamp
	size := 1 + varintSize(timeDelta) + varintSize(int64(delta)) + len(tail)
	if len(b.body)+size > math.MaxInt32/2 {
		return fmt.Errorf("%w: batch of %d bytes", ErrMalformed, len(b.body)+size)
	}
	b.body = binary.AppendVarint(b.body, int64(size))
	b.body = append(b.body, 0)
	b.body = binary.AppendVarint(b.body, timeDelta)
	b.body = binary.AppendVarint(b.body, int64(delta))
	b.body = append(b.body, tail...)
	b.count++
	b.last = delta
	b.latest = max(b.latest, timestamp)
	return nil
}

// SetLastOffsetDelta makes the batch occupy offsets up to base + delta, whatever
// records it has: holes at the end, or an empty batch.
func (b *Builder) SetLastOffsetDelta(delta int32) { b.forced = delta }

// Build appends the batch to dst and returns dst and the batch in it.
func (b *Builder) Build(dst []byte) ([]byte, Batch, error) {
	last := b.last
	if b.forced >= 0 {
		last = b.forced
	}
	if last < 0 || last < b.last {
		return dst, nil, fmt.Errorf("%w: last offset delta %d with records up to %d", ErrMalformed, last, b.last)
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	if b.count > 0 {
		var err error
		if dst, err = Compress(dst, b.spec.Codec, b.spec.Level, b.body); err != nil {
			return dst[:start], nil, err
		}
	}
	batch := Batch(dst[start:])
	b.writeHeader(batch, last)
	batch.seal()
	return dst, batch, nil
}

func (b *Builder) writeHeader(batch Batch, last int32) {
	s := &b.spec
	attributes := int16(s.Codec)
	if b.count == 0 {
		attributes = 0 // nothing is there to inflate
	}
	latest := b.latest
	if s.AppendTime != NoTimestamp {
		attributes |= attrLogAppendTime
		latest = s.AppendTime
	}
	if s.Transactional {
		attributes |= attrTransactional
	}
	if s.Control {
		attributes |= attrControl
	}
	batch.SetBaseOffset(s.BaseOffset)
	binary.BigEndian.PutUint32(batch[8:], uint32(len(batch)-lengthEnd))
	batch.SetLeaderEpoch(s.LeaderEpoch)
	batch[16] = Magic
	binary.BigEndian.PutUint16(batch[21:], uint16(attributes))
	binary.BigEndian.PutUint32(batch[23:], uint32(last))
	binary.BigEndian.PutUint64(batch[27:], uint64(s.BaseTimestamp))
	binary.BigEndian.PutUint64(batch[35:], uint64(latest))
	binary.BigEndian.PutUint64(batch[43:], uint64(s.ProducerID))
	binary.BigEndian.PutUint16(batch[51:], uint16(s.ProducerEpoch))
	binary.BigEndian.PutUint32(batch[53:], uint32(s.BaseSequence))
	binary.BigEndian.PutUint32(batch[57:], uint32(b.count))
}

func varintSize(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}
