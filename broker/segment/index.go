package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"sort"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

const (
	indexMagic      = "millridx"
	indexHeaderSize = 40
	indexEntrySize  = 20
	// indexFileMax bounds what is read as an index: every batch of the largest
	// segment with an entry, were each as small as a batch can be.
	indexFileMax = 1 << 30
)

// entry says that a frame begins at pos with a batch of base offset; maxTime is the
// largest timestamp of the batches before it.
type entry struct {
	offset  model.Offset
	maxTime int64
	pos     uint32
}

// index is ascending entries. It only grows: a prefix may be shared.
type index []entry

// before finds the last entry at or before an offset; the segment's first frame
// when there is none.
func (x index) before(m *Meta, o model.Offset) (pos int64, base model.Offset) {
	i := sort.Search(len(x), func(i int) bool { return x[i].offset > o })
	if i == 0 {
		return HeaderSize, m.Base
	}
	return int64(x[i-1].pos), x[i-1].offset
}

// after finds where the next entry behind pos begins: the segment's end when there
// is none.
func (x index) after(m *Meta, pos int64) model.Offset {
	i := sort.Search(len(x), func(i int) bool { return int64(x[i].pos) > pos })
	if i == len(x) {
		return m.End
	}
	return x[i].offset
}

// holding finds the offset of the last entry at or before pos.
func (x index) holding(m *Meta, pos int64) model.Offset {
	i := sort.Search(len(x), func(i int) bool { return int64(x[i].pos) > pos })
	if i == 0 {
		return m.Base
	}
	return x[i-1].offset
}

// beforeTime finds the last entry of which all batches before it are older than ms.
func (x index) beforeTime(m *Meta, ms int64) (pos int64, base model.Offset) {
	i := sort.Search(len(x), func(i int) bool { return x[i].maxTime >= ms })
	if i == 0 {
		return HeaderSize, m.Base
	}
	return int64(x[i-1].pos), x[i-1].offset
}

// encode gives the index file: magic, version, base, generation, covered length of
// the log, entry count, the largest timestamp, entries, checksum.
func (x index) encode(m *Meta) []byte {
	b := make([]byte, 0, indexHeaderSize+len(x)*indexEntrySize+4)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Base))
	b = binary.LittleEndian.AppendUint32(b, m.Generation)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Length))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(x)))
	for _, e := range x {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.offset))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.maxTime))
		b = binary.LittleEndian.AppendUint32(b, e.pos)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeIndex reads an index file of the segment and how much of its log it covers.
func decodeIndex(b []byte, m *Meta) (index, int64, error) {
	if len(b) < indexHeaderSize+4 || string(b[:8]) != indexMagic {
		return nil, 0, errors.New("not an index file")
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, 0, errors.New("checksum mismatch")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return nil, 0, fmt.Errorf("%w: index version %d", ErrFormat, v)
	}
	if model.Offset(binary.LittleEndian.Uint64(b[12:])) != m.Base || binary.LittleEndian.Uint32(b[20:]) != m.Generation {
		return nil, 0, errors.New("another segment's index")
	}
	covered := int64(binary.LittleEndian.Uint64(b[24:]))
	entries := body[indexHeaderSize:]
	if n := binary.LittleEndian.Uint64(b[32:]); n*indexEntrySize != uint64(len(entries)) || covered > m.Length {
		return nil, 0, fmt.Errorf("%d entries in %d bytes over %d of %d", n, len(entries), covered, m.Length)
	}
	x := make(index, 0, len(entries)/indexEntrySize)
	for ; len(entries) > 0; entries = entries[indexEntrySize:] {
		x = append(x, entry{
			offset:  model.Offset(binary.LittleEndian.Uint64(entries)),
			maxTime: int64(binary.LittleEndian.Uint64(entries[8:])),
			pos:     binary.LittleEndian.Uint32(entries[16:]),
		})
	}
	return x, covered, nil
}

func readIndex(fs disk.FS, dir string, m *Meta) (index, int64, error) {
	b, err := disk.ReadFile(fs, filepath.Join(dir, m.IndexName()), indexFileMax)
	if err != nil {
		return nil, 0, err
	}
	return decodeIndex(b, m)
}

// writeIndex replaces the index file. It is not synced: what a power cut leaves of
// it fails its checksum or is right.
func writeIndex(fs disk.FS, dir string, m *Meta, x index) error {
	name := filepath.Join(dir, m.IndexName())
	f, err := fs.Create(name + ".new")
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	_, err = f.Write(x.encode(m))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	if err := fs.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}
