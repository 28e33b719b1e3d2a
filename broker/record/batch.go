package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/millrace-io/millrace/broker/model"
)

const (
	// HeaderSize is the size of a batch without records, in bytes.
	HeaderSize = 61
	// Magic is the only format version that is read and written.
	Magic = 2
	// NoTimestamp stands where there is no time to give.
	NoTimestamp int64 = -1
	// NoSequence is the base sequence of batches without a producer id.
	NoSequence int32 = -1

	lengthEnd = 12 // the length field counts what follows it
	crcStart  = 21
)

var (
	// ErrShort says that the bytes end inside a batch. Read more, or drop the tail.
	ErrShort = errors.New("incomplete record batch")
	// ErrMagic says that the batch has a format other than version 2. The client
	// must use a newer format.
	ErrMagic = errors.New("unsupported record batch format")
	// ErrCRC says that the batch is not what was written. Never serve or store it.
	ErrCRC = errors.New("record batch checksum mismatch")
	// ErrMalformed says that counts, lengths or deltas of a batch contradict each
	// other. Refuse it.
	ErrMalformed = errors.New("malformed record batch")
	// ErrMaxTimestamp says that only the header's max timestamp disagrees with the
	// records. As Kafka does, a leader may set it right (SetMaxTimestamp, with what
	// Reader.Latest gives) and go on. It is an ErrMalformed.
	ErrMaxTimestamp = fmt.Errorf("%w: max timestamp", ErrMalformed)
	// ErrInflated says that the records are larger than the limit once inflated.
	ErrInflated = errors.New("record batch too large when decompressed")
	// ErrCodec says that the batch names a compression that does not exist.
	ErrCodec = errors.New("unknown compression codec")
)

const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is a view over one whole batch. Getters require at least HeaderSize
// bytes: Next, Check and Builder give such batches.
type Batch []byte

// Next takes the first batch off b. It checks that the batch is whole and has
// magic 2, nothing more: see Check. Both results alias b.
func Next(b []byte) (batch Batch, rest []byte, err error) {
	size, err := Size(b)
	if err != nil {
		return nil, b, err
	}
	if len(b) < size {
		return nil, b, fmt.Errorf("%w: it has %d bytes, %d are here", ErrShort, size, len(b))
	}
	return Batch(b[:size:size]), b[size:], nil
}

// Size tells how many bytes the batch that begins b has, from its first 17 bytes.
func Size(b []byte) (int, error) {
	if len(b) < 17 {
		return 0, fmt.Errorf("%w: %d bytes are not a header", ErrShort, len(b))
	}
	if b[16] != Magic {
		return 0, fmt.Errorf("%w: magic %d, want %d", ErrMagic, int8(b[16]), Magic)
	}
	length := int32(binary.BigEndian.Uint32(b[8:]))
	if length < HeaderSize-lengthEnd || length > math.MaxInt32-lengthEnd {
		return 0, fmt.Errorf("%w: length field %d", ErrMalformed, length)
	}
	return int(length) + lengthEnd, nil
}

func (b Batch) i64(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
func (b Batch) i32(at int) int32 { return int32(binary.BigEndian.Uint32(b[at:])) }
func (b Batch) i16(at int) int16 { return int16(binary.BigEndian.Uint16(b[at:])) }

// BaseOffset is the offset that deltas count from.
func (b Batch) BaseOffset() model.Offset { return model.Offset(b.i64(0)) }

// LastOffset is the last offset that the batch occupies, whether or not a record
// is still there.
func (b Batch) LastOffset() model.Offset { return b.BaseOffset() + model.Offset(b.LastOffsetDelta()) }

// NextOffset is the offset behind the batch.
func (b Batch) NextOffset() model.Offset { return b.LastOffset() + 1 }

// Length is the length field: the batch's size less 12.
func (b Batch) Length() int32 { return b.i32(8) }

// LeaderEpoch is the epoch of the leader that wrote the batch.
func (b Batch) LeaderEpoch() model.LeaderEpoch { return model.LeaderEpoch(b.i32(12)) }

// Magic is the format version.
func (b Batch) Magic() int8 { return int8(b[16]) }

// CRC is the checksum that the batch carries.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[17:]) }

// Attributes are codec and flags.
func (b Batch) Attributes() int16 { return b.i16(21) }

// LastOffsetDelta is the last offset less the base offset.
func (b Batch) LastOffsetDelta() int32 { return b.i32(23) }

// BaseTimestamp is what timestamp deltas count from, in milliseconds.
func (b Batch) BaseTimestamp() int64 { return b.i64(27) }

// MaxTimestamp is the largest timestamp of a record, in milliseconds, or the time
// of append when LogAppendTime is set.
func (b Batch) MaxTimestamp() int64 { return b.i64(35) }

// ProducerID names the idempotent producer, or NoProducer.
func (b Batch) ProducerID() model.ProducerID { return model.ProducerID(b.i64(43)) }

// ProducerEpoch fences older instances of the producer.
func (b Batch) ProducerEpoch() int16 { return b.i16(51) }

// BaseSequence is the producer's sequence of the base offset.
func (b Batch) BaseSequence() int32 { return b.i32(53) }

// LastSequence is the producer's sequence of the last offset; it wraps from the
// largest int32 to 0.
func (b Batch) LastSequence() int32 { return AddSequence(b.BaseSequence(), b.LastOffsetDelta()) }

// AddSequence adds to a producer's sequence, which wraps from the largest int32 to 0.
func AddSequence(sequence, n int32) int32 {
	return int32((int64(sequence) + int64(n)) % (math.MaxInt32 + 1))
}

// Count is how many records the batch holds; 0 where a filter or compaction has
// left an empty batch.
func (b Batch) Count() int32 { return b.i32(57) }

// Codec is the compression of the records.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & attrCodec) }

// LogAppendTime tells that records' time is the batch's MaxTimestamp.
func (b Batch) LogAppendTime() bool { return b.Attributes()&attrLogAppendTime != 0 }

// Transactional tells that the batch is part of a transaction.
func (b Batch) Transactional() bool { return b.Attributes()&attrTransactional != 0 }

// Control tells that the batch holds a marker, not data.
func (b Batch) Control() bool { return b.Attributes()&attrControl != 0 }

// Records are the bytes behind the header, compressed as Codec says.
func (b Batch) Records() []byte { return b[HeaderSize:] }

// SetBaseOffset numbers the batch in place; the checksum stays right.
func (b Batch) SetBaseOffset(o model.Offset) { binary.BigEndian.PutUint64(b, uint64(o)) }

// SetLeaderEpoch sets the epoch in place; the checksum stays right.
func (b Batch) SetLeaderEpoch(e model.LeaderEpoch) { binary.BigEndian.PutUint32(b[12:], uint32(e)) }

// Header is a copy of a batch's first 61 bytes.
type Header [HeaderSize]byte

// Batch views the header as a batch of which only the header's getters work.
func (h *Header) Batch() Batch { return h[:] }

// WithOffset copies the header with another base offset and leader epoch. The
// bytes behind it are shared with b: they stay as they are.
func (b Batch) WithOffset(base model.Offset, epoch model.LeaderEpoch) (h Header) {
	copy(h[:], b)
	h.Batch().SetBaseOffset(base)
	h.Batch().SetLeaderEpoch(epoch)
	return h
}

// Checksum computes the CRC-32C that the batch should carry.
func (b Batch) Checksum() uint32 { return crc32.Checksum(b[crcStart:], castagnoli) }

// Check tells whether the batch is what its writer wrote and its header makes
// sense. It does not look into the records: see Reader.Validate.
func (b Batch) Check() error {
	size, err := Size(b)
	if err != nil {
		return err
	}
	if size != len(b) {
		return fmt.Errorf("%w: length field says %d bytes, there are %d", ErrMalformed, size, len(b))
	}
	if sum := b.Checksum(); sum != b.CRC() {
		return fmt.Errorf("%w: carries %08x, bytes give %08x", ErrCRC, b.CRC(), sum)
	}
	return b.CheckHeader()
}

// CheckHeader tells whether the header's fields agree with each other.
func (b Batch) CheckHeader() error {
	count, last := b.Count(), b.LastOffsetDelta()
	switch {
	case count < 0:
		return fmt.Errorf("%w: record count %d", ErrMalformed, count)
	case last < 0 || last < count-1:
		return fmt.Errorf("%w: last offset delta %d with %d records", ErrMalformed, last, count)
	case last == math.MaxInt32:
		return fmt.Errorf("%w: last offset delta %d", ErrMalformed, last)
	case b.Codec() > codecLast:
		return fmt.Errorf("%w: %d", ErrCodec, b.Codec())
	case b.ProducerID() < model.NoProducer:
		return fmt.Errorf("%w: producer id %d", ErrMalformed, b.ProducerID())
	case b.ProducerID() >= 0 && !b.Control() && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return fmt.Errorf("%w: producer %d with epoch %d, sequence %d", ErrMalformed, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	case b.Transactional() && b.ProducerID() < 0:
		return fmt.Errorf("%w: transactional without a producer id", ErrMalformed)
	}
	return nil
}

// StampAppendTime sets LogAppendTime with the given milliseconds and computes the
// checksum again. The caller owns the bytes and nobody has seen them yet.
func (b Batch) StampAppendTime(ms int64) {
	binary.BigEndian.PutUint16(b[21:], uint16(b.Attributes()|attrLogAppendTime))
	binary.BigEndian.PutUint64(b[35:], uint64(ms))
	b.seal()
}

// SetMaxTimestamp sets the header's max timestamp and computes the checksum again.
// The caller owns the bytes and nobody has seen them yet.
func (b Batch) SetMaxTimestamp(ms int64) {
	binary.BigEndian.PutUint64(b[35:], uint64(ms))
	b.seal()
}

func (b Batch) seal() { binary.BigEndian.PutUint32(b[17:], b.Checksum()) }
