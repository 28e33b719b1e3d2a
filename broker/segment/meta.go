package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

var (
	// ErrCorrupt says that stored bytes are not what was written: never serve them.
	ErrCorrupt = errors.New("stored log is corrupt")
	// ErrFormat says that a newer version wrote the file.
	ErrFormat = errors.New("unsupported format version")
)

const (
	// HeaderSize is where the first frame begins.
	HeaderSize = 32
	// FrameOverhead is what a frame has besides its batch, in bytes.
	FrameOverhead = 4

	version     = 1
	logMagic    = "millrseg"
	headCovered = 21 // bytes of a batch that the frame's checksum covers
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Meta is what a checkpoint knows of a segment.
type Meta struct {
	Base, End  model.Offset // End is behind the last batch
	Generation uint32       // how often it was compacted
	Length     int64        // of the file, in bytes
	// FirstTime is the first batch's largest timestamp, MaxTime the segment's;
	// record.NoTimestamp while there is none. Milliseconds.
	FirstTime, MaxTime    int64
	FirstEpoch, LastEpoch model.LeaderEpoch
}

// NewMeta describes an empty segment.
func NewMeta(base model.Offset, generation uint32) Meta {
	return Meta{
		Base: base, End: base, Generation: generation, Length: HeaderSize,
		FirstTime: record.NoTimestamp, MaxTime: record.NoTimestamp,
		FirstEpoch: model.NoEpoch, LastEpoch: model.NoEpoch,
	}
}

// Empty tells whether the segment has no batch.
func (m *Meta) Empty() bool { return m.Length == HeaderSize }

// Name is the log file's name in the partition's directory.
func (m *Meta) Name() string { return m.stem() + ".log" }

// IndexName is the index file's name.
func (m *Meta) IndexName() string { return m.stem() + ".index" }

func (m *Meta) stem() string {
	if m.Generation == 0 {
		return fmt.Sprintf("%020d", m.Base)
	}
	return fmt.Sprintf("%020d.%d", m.Base, m.Generation)
}

// add accounts for a batch that follows the others.
func (m *Meta) add(b record.Batch, size int) {
	if m.Empty() {
		m.FirstTime, m.FirstEpoch = b.MaxTimestamp(), b.LeaderEpoch()
	}
	m.MaxTime = max(m.MaxTime, b.MaxTimestamp())
	m.LastEpoch = b.LeaderEpoch()
	m.End = b.NextOffset()
	m.Length += int64(FrameOverhead + size)
}

func (m *Meta) appendHeader(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, logMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, version)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(m.Base))
	dst = binary.LittleEndian.AppendUint32(dst, m.Generation)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// checkHeader compares a file's first bytes with what the segment must begin with.
func (m *Meta) checkHeader(b []byte) error {
	if len(b) < HeaderSize || crc32.Checksum(b[:28], castagnoli) != binary.LittleEndian.Uint32(b[28:]) {
		return errors.New("file header does not match its checksum")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); string(b[:8]) == logMagic && v > version {
		return fmt.Errorf("%w: segment version %d, this node reads %d", ErrFormat, v, version)
	}
	if string(m.appendHeader(nil)) != string(b[:HeaderSize]) {
		return errors.New("file header is another segment's")
	}
	return nil
}

// headSum is the checksum of a batch's first bytes.
func headSum(b []byte) uint32 { return crc32.Checksum(b[:headCovered], castagnoli) }

// Damage names bytes that cannot be read and the offsets that they held.
type Damage struct {
	File        string
	Pos         int64
	First, Last model.Offset
	Reason      string
}

// CorruptError is the ErrCorrupt that says where.
type CorruptError struct{ Damage }

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: %s at %d, offsets %d to %d: %s", ErrCorrupt, e.File, e.Pos, e.First, e.Last, e.Reason)
}

// Unwrap makes errors.Is find ErrCorrupt.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }
