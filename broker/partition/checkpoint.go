package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	iofs "io/fs"
	"path/filepath"
	"slices"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/segment"
)

const (
	checkpointMagic   = "millrchk"
	checkpointVersion = 4
	// versionBefore has no index of the last install; it is read.
	versionBefore    = 3
	checkpointHead   = 16 // magic, version, length
	checkpointCopies = 2
	// checkpointMax bounds what is read as a checkpoint: every producer there can be
	// takes some 100 bytes, every source with all its verdicts some 20 KiB.
	checkpointMax = 256 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checkpointName(dir string, copy int) string {
	return filepath.Join(dir, fmt.Sprintf("checkpoint.%d", copy))
}

// encodeCheckpoint writes down everything that Apply has decided, in a fixed order.
func (p *Partition) encodeCheckpoint(sequence uint64) []byte {
	list := make([]listed, 0, len(p.segments))
	for _, s := range p.segments {
		list = append(list, listed{s.Meta(), s.Sealed()})
	}
	return p.encodeWith(list, sequence)
}

// encodeWith is encodeCheckpoint with the segments given.
func (p *Partition) encodeWith(list []listed, sequence uint64) []byte {
	b := make([]byte, 0, 256+len(list)*48+len(p.producers.byID)*96+len(p.sources)*64)
	b = append(b, checkpointMagic...)
	b = binary.LittleEndian.AppendUint32(b, checkpointVersion)
	b = binary.LittleEndian.AppendUint32(b, 0) // length, below
	b = append(b, p.o.ID.Topic[:]...)
	b = binary.AppendVarint(b, int64(p.o.ID.Index))
	b = binary.AppendUvarint(b, sequence)
	b = binary.AppendUvarint(b, p.applied)
	b = binary.AppendUvarint(b, p.installed)
	for _, o := range []model.Offset{p.logStart, p.logEnd, p.horizon, p.cleaned} {
		b = binary.AppendVarint(b, int64(o))
	}
	b = binary.AppendVarint(b, int64(p.epoch))
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, l := range list {
		b = appendMeta(b, l.meta, l.sealed)
	}
	b = binary.AppendUvarint(b, uint64(len(p.epochs)))
	for _, e := range p.epochs {
		b = binary.AppendVarint(b, int64(e.epoch))
		b = binary.AppendVarint(b, int64(e.start))
	}
	b = p.producers.append(b)
	b = binary.AppendUvarint(b, uint64(len(p.aborted)))
	for _, a := range p.aborted {
		b = binary.AppendVarint(b, int64(a.Producer))
		b = binary.AppendVarint(b, int64(a.First))
		b = binary.AppendVarint(b, int64(a.Last))
	}
	b = p.appendSources(b)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)+4))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendMeta(b []byte, m segment.Meta, sealed bool) []byte {
	b = binary.AppendVarint(b, int64(m.Base))
	b = binary.AppendVarint(b, int64(m.End))
	b = binary.AppendUvarint(b, uint64(m.Generation))
	b = binary.AppendVarint(b, m.Length)
	b = binary.AppendVarint(b, m.FirstTime)
	b = binary.AppendVarint(b, m.MaxTime)
	b = binary.AppendVarint(b, int64(m.FirstEpoch))
	b = binary.AppendVarint(b, int64(m.LastEpoch))
	return append(b, boolByte(sealed))
}

func (p *producers) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p.byID)))
	for _, id := range p.ids() {
		pr := p.byID[id]
		b = binary.AppendVarint(b, int64(id))
		b = binary.AppendVarint(b, int64(pr.epoch))
		b = binary.AppendVarint(b, int64(pr.last))
		b = binary.AppendVarint(b, pr.time)
		b = binary.AppendVarint(b, int64(pr.txnStart))
		b = append(b, pr.count)
		for _, s := range pr.batches[:pr.count] {
			b = binary.AppendVarint(b, int64(s.first))
			b = binary.AppendVarint(b, int64(s.last))
			b = binary.AppendVarint(b, int64(s.base))
			b = binary.AppendVarint(b, s.appendTime)
		}
	}
	return b
}

func (p *Partition) appendSources(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p.sources)))
	for _, k := range p.sourceKeys() {
		s := p.sources[k]
		b = appendKey(b, k)
		b = binary.AppendUvarint(b, uint64(s.activation))
		b = binary.AppendUvarint(b, uint64(s.announced))
		b = binary.AppendVarint(b, int64(s.offset))
		b = binary.AppendVarint(b, s.gap)
		b = append(b, boolByte(s.removed))
		b = appendOffsets(b, s.verdicts)
	}
	return b
}

// listed is a segment as a checkpoint has it.
type listed struct {
	meta   segment.Meta
	sealed bool
}

// decodeCheckpoint reads a checkpoint of p's partition into p, but for its segments.
// What lies behind it in the file is padding.
func (p *Partition) decodeCheckpoint(b []byte) ([]listed, error) {
	if len(b) < checkpointHead+4 || string(b[:8]) != checkpointMagic {
		return nil, errors.New("not a checkpoint")
	}
	length := binary.LittleEndian.Uint32(b[12:])
	if length < checkpointHead+4 || uint64(length) > uint64(len(b)) {
		return nil, fmt.Errorf("its length is %d of %d bytes", length, len(b))
	}
	b = b[:length]
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, errors.New("checksum mismatch")
	}
	v := binary.LittleEndian.Uint32(b[8:])
	if v != checkpointVersion && v != versionBefore {
		return nil, fmt.Errorf("%w: checkpoint version %d, this node reads %d and %d", ErrFormat, v, versionBefore, checkpointVersion)
	}
	d := decoder{b: body[checkpointHead:]}
	var id model.PartitionID
	copy(id.Topic[:], d.take(uint64(len(id.Topic)), "topic id"))
	id.Index = d.i32()
	if d.err == nil && id != p.o.ID {
		return nil, fmt.Errorf("it is partition %s's, want %s", id, p.o.ID)
	}
	p.sequence, p.applied = d.uvarint(), d.uvarint()
	if v > versionBefore {
		p.installed = d.uvarint()
	}
	p.logStart, p.logEnd, p.horizon, p.cleaned = d.offset(), d.offset(), d.offset(), d.offset()
	p.epoch = model.LeaderEpoch(d.i32())
	segments := make([]listed, 0, d.count(9))
	for range cap(segments) {
		segments = append(segments, d.segment())
	}
	p.epochs = make([]epochStart, 0, d.count(2))
	for range cap(p.epochs) {
		p.epochs = append(p.epochs, epochStart{model.LeaderEpoch(d.i32()), d.offset()})
	}
	p.producers = d.producers()
	for range d.count(3) {
		p.aborted = append(p.aborted, AbortedTxn{model.ProducerID(d.varint()), d.offset(), d.offset()})
	}
	p.sources = d.sources()
	if d.err == nil && len(d.b) != 0 {
		d.fail("%d bytes behind the end", len(d.b))
	}
	return segments, d.err
}

func (d *decoder) segment() (l listed) {
	l.meta = segment.Meta{
		Base: d.offset(), End: d.offset(), Generation: uint32(d.uvarint()), Length: d.varint(),
		FirstTime: d.varint(), MaxTime: d.varint(),
		FirstEpoch: model.LeaderEpoch(d.i32()), LastEpoch: model.LeaderEpoch(d.i32()),
	}
	l.sealed = d.bool()
	return l
}

func (d *decoder) producers() (p producers) {
	n := d.count(6)
	if n > 0 {
		p.byID = make(map[model.ProducerID]*producer, n)
	}
	for range n {
		id := model.ProducerID(d.varint())
		pr := &producer{epoch: int16(d.varint()), last: d.offset(), time: d.varint(), txnStart: d.offset(), count: d.byte()}
		if pr.count > seenMax {
			d.fail("producer %d with %d batches", id, pr.count)
			return p
		}
		for i := range pr.batches[:pr.count] {
			pr.batches[i] = seen{d.i32(), d.i32(), d.offset(), d.varint()}
		}
		if pr.txnStart != model.NoOffset {
			p.begin(id, pr.txnStart)
		}
		p.byID[id] = pr
	}
	return p
}

func (d *decoder) sources() map[model.SourceKey]*source {
	n := d.count(22)
	if n == 0 {
		return nil
	}
	m := make(map[model.SourceKey]*source, n)
	for range n {
		k := d.key()
		m[k] = &source{
			activation: model.Activation(d.uvarint()), announced: model.Activation(d.uvarint()), offset: d.offset(),
			gap: d.varint(), removed: d.bool(), verdicts: d.offsets(),
		}
	}
	return m
}

// writeCheckpoint writes both copies, one after the other: a power cut tears one at
// most, and the other is whole. Where there is room a copy is overwritten in place,
// which is one synced write of a page; else it is written anew, synced and renamed.
func writeCheckpoint(fs disk.FS, dir string, b []byte) error {
	padded := disk.Aligned(int(disk.AlignUp(int64(len(b)))))
	copy(padded, b)
	renamed := false
	for i := range checkpointCopies {
		name := checkpointName(dir, i)
		done, err := overwriteCopy(fs, name, padded)
		if err == nil && !done {
			renamed = true
			err = replaceCopy(fs, name, padded)
		}
		if err != nil {
			return fmt.Errorf("write checkpoint: %w", err)
		}
	}
	if !renamed {
		return nil
	}
	if err := fs.SyncDir(dir); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// overwriteCopy writes b over a file that is as large, and makes it durable. False: there
// is none.
func overwriteCopy(fs disk.FS, name string, b []byte) (done bool, err error) {
	f, err := fs.OpenDirect(name, true)
	synced := err == nil
	if errors.Is(err, disk.ErrNoDirect) {
		f, err = fs.OpenAppend(name)
	}
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	size, err := f.Size()
	if err == nil && size >= int64(len(b)) {
		done = true
		_, err = f.WriteAt(b, 0)
		if err == nil && !synced {
			err = f.Sync()
		}
	}
	return done, errors.Join(err, f.Close())
}

// replaceCopy replaces a file by one that has room for b to grow by half.
func replaceCopy(fs disk.FS, name string, b []byte) error {
	f, err := fs.Create(name + ".new")
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Truncate(disk.AlignUp(int64(len(b) + len(b)/2)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return fs.Rename(name+".new", name)
}

// readCheckpoint fills p from the newest sound copy. found is false when there is
// no copy at all.
func (p *Partition) readCheckpoint() (segments []listed, found bool, err error) {
	var best *Partition
	var broken []error
	for i := range checkpointCopies {
		name := checkpointName(p.o.Dir, i)
		b, err := disk.ReadFile(p.o.FS, name, checkpointMax)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		candidate := *p
		var list []listed
		if err == nil {
			list, err = candidate.decodeCheckpoint(b)
		}
		switch {
		case errors.Is(err, ErrFormat):
			return nil, true, fmt.Errorf("%s: %w", name, err)
		case err != nil:
			broken = append(broken, fmt.Errorf("%w: %s: %w", ErrCorrupt, name, err))
		case best == nil || candidate.sequence > best.sequence:
			best, segments = &candidate, slices.Clone(list)
		}
	}
	if best == nil {
		return nil, len(broken) > 0, errors.Join(broken...)
	}
	*p = *best
	for _, err := range broken {
		p.changed = true // the next flush writes the copy again
		p.log.Warn("checkpoint copy is damaged, the other is used", "partition", p.o.ID.String(), "err", err)
	}
	return segments, true, nil
}
