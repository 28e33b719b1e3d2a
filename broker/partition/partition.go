package partition

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/broker/segment"
)

// Partition is the log of one partition. It is owned by one loop: its methods are
// called by one goroutine at a time.
type Partition struct {
	o      Options
	config Config
	log    *slog.Logger
	place  segment.Place
	fence  *disk.Fence // around the files of segments

	segments         []*segment.Segment // ascending; only the last may be unsealed
	logStart, logEnd model.Offset
	epoch            model.LeaderEpoch // the newest seen
	epochs           []epochStart      // ascending in both fields
	producers        producers
	aborted          []AbortedTxn // ascending by Last
	sources          map[model.SourceKey]*source
	horizon          model.Offset // tombstones before it may go
	fresh            bool         // it has no files yet
	cache            cache
	held             []*segment.Segment // whose index readers may have loaded, oldest first

	applied      uint64 // raft index
	installed    uint64 // raft index that the files stood at when they came from another node
	checkpointed uint64 // raft index of the checkpoint on disk
	sequence     uint64 // of that checkpoint
	changed      bool   // the checkpoint is behind for another reason than applied
	namesChanged bool   // files were made since the directory was synced
	flushing     bool
	doomed       []*segment.Segment // dropped; the checkpoint on disk may list them
	cleaned      model.Offset       // compaction has passed what is before it
	cleans       []clean
	compacting   bool
	damage       []Damage
	failed       error // after an Apply that could not be finished
}

// Damage names bytes that cannot be read and the offsets that they held.
type Damage = segment.Damage

// epochStart says that epoch's first batch is at start or behind it.
type epochStart struct {
	epoch model.LeaderEpoch
	start model.Offset
}

// Configure changes what is local. It takes effect with the next append,
// retention or compaction.
func (p *Partition) Configure(c Config) {
	p.config = c.withDefaults()
	p.place.IntervalBytes = p.config.IndexIntervalBytes
	p.cache.limit(p.config.CacheBytesMax)
}

// Applied is the raft index of the last applied entry.
func (p *Partition) Applied() uint64 { return p.applied }

// Installed is the raft index that the files stood at when they came from another
// node, 0 if they never did. raft may send entries up to it again, and its log may
// end before it.
func (p *Partition) Installed() uint64 { return p.installed }

// CheckpointIndex is the raft index that the checkpoint on disk covers: the raft
// log may forget what lies at or before it.
func (p *Partition) CheckpointIndex() uint64 { return p.checkpointed }

// LogStart is the first offset that may be read.
func (p *Partition) LogStart() model.Offset { return p.logStart }

// HighWatermark is the end of what is committed, which is all that is applied.
func (p *Partition) HighWatermark() model.Offset { return p.logEnd }

// LSO is the last stable offset: no transaction before it is open.
func (p *Partition) LSO() model.Offset {
	return max(p.producers.stable(p.logEnd), p.logStart)
}

// Epoch is the newest leader epoch that was applied.
func (p *Partition) Epoch() model.LeaderEpoch { return p.epoch }

// Horizon is the offset before which compaction may drop tombstones.
func (p *Partition) Horizon() model.Offset { return p.horizon }

// Bytes is the size of all segments.
func (p *Partition) Bytes() int64 {
	var n int64
	for _, s := range p.segments {
		n += s.Meta().Length
	}
	return n
}

// SegmentCount is how many segments there are.
func (p *Partition) SegmentCount() int { return len(p.segments) }

// Damage lists what Open found unreadable. Reading may find more.
func (p *Partition) Damage() []Damage { return slices.Clone(p.damage) }

// EpochEnd gives the largest epoch at or before wanted, and where it ends: where
// the next begins, or the log end. NoEpoch and NoOffset when nothing is known.
func (p *Partition) EpochEnd(wanted model.LeaderEpoch) (model.LeaderEpoch, model.Offset) {
	if wanted > p.epoch || wanted < 0 {
		return model.NoEpoch, model.NoOffset
	}
	i, exact := slices.BinarySearchFunc(p.epochs, wanted, func(e epochStart, w model.LeaderEpoch) int { return cmp.Compare(e.epoch, w) })
	if !exact {
		i--
	}
	switch {
	case i < 0 && len(p.epochs) == 0:
		return wanted, p.logEnd
	case i < 0:
		return wanted, p.epochs[0].start
	case i+1 < len(p.epochs):
		return p.epochs[i].epoch, p.epochs[i+1].start
	}
	return p.epochs[i].epoch, p.logEnd
}

// startEpoch notes where an epoch begins. One that wrote nothing leaves no trace.
func (p *Partition) startEpoch(epoch model.LeaderEpoch) {
	p.epoch = epoch
	for n := len(p.epochs); n > 0 && p.epochs[n-1].start == p.logEnd; n-- {
		p.epochs = p.epochs[:n-1]
	}
	p.epochs = append(p.epochs, epochStart{epoch, p.logEnd})
}

// trimEpochs forgets epochs that end at or before the log start.
func (p *Partition) trimEpochs() {
	n := 0
	for n+1 < len(p.epochs) && p.epochs[n+1].start <= p.logStart {
		n++
	}
	p.epochs = slices.Delete(p.epochs, 0, n)
	if len(p.epochs) > 0 {
		p.epochs[0].start = max(p.epochs[0].start, p.logStart)
	}
}

// active gives the segment that takes a batch of size bytes and its time, rolling
// if the last one is full or old. Both the sizes and the times come from the log.
func (p *Partition) active(size int, ms int64) *segment.Segment {
	if n := len(p.segments); n > 0 {
		last := p.segments[n-1]
		if !last.Sealed() && !p.full(last.Meta(), size, ms) {
			return last
		}
		last.Seal()
	}
	s := segment.New(p.place, p.logEnd, 0)
	p.namesChanged = true
	p.segments = append(p.segments, s)
	return s
}

func (p *Partition) full(m segment.Meta, size int, ms int64) bool {
	if m.Empty() {
		return false
	}
	if m.Length+int64(size+segment.FrameOverhead) > p.config.SegmentBytesMax {
		return true
	}
	age := p.config.SegmentAgeMax.Milliseconds()
	return age > 0 && ms != record.NoTimestamp && m.FirstTime != record.NoTimestamp && ms-m.FirstTime > age
}

// append numbers a batch and puts it at the end of the log, in memory: the next flush
// writes it.
func (p *Partition) append(b record.Batch) (base model.Offset) {
	s := p.active(len(b), b.MaxTimestamp())
	h := b.WithOffset(p.logEnd, p.epoch)
	s.Append(&h, b[record.HeaderSize:])
	p.cache.add(h, b[record.HeaderSize:])
	base = p.logEnd
	p.logEnd = h.Batch().NextOffset()
	return base
}

// trim raises the log start and drops the segments that lie before it. Their files
// go once a checkpoint without them is on disk.
func (p *Partition) trim(to model.Offset) {
	p.logStart = to
	n := 0
	for n < len(p.segments) && p.segments[n].Meta().End <= to {
		p.segments[n].Seal()
		p.segments[n].Free()
		n++
	}
	p.doomed = append(p.doomed, p.segments[:n]...)
	p.segments = slices.Delete(p.segments, 0, n)
	p.aborted = slices.DeleteFunc(p.aborted, func(a AbortedTxn) bool { return a.Last < to })
	p.damage = slices.DeleteFunc(p.damage, func(d Damage) bool { return d.Last < to })
	p.horizon = max(p.horizon, to)
	p.cleaned = max(p.cleaned, to)
	p.cache.trim(to)
	p.trimEpochs()
}

// replayMax is how many bytes a partition without files may leave to raft to replay
// when it is closed: that takes less than to make files and open them again.
const replayMax = 256 << 10

// Close flushes, checkpoints, and lets go of all files. Jobs must have ended.
func (p *Partition) Close() error {
	if p.failed != nil {
		p.Abandon()
		return nil // whoever got the error has stopped the node
	}
	var err error
	if !p.fresh || p.Unwritten() > replayMax {
		if j := p.flushStart(true); j != nil {
			err = j.Run()
			p.FlushDone(j, err)
		}
	}
	p.Abandon()
	if err != nil {
		return fmt.Errorf("close partition %s: %w", p.o.ID, err)
	}
	return nil
}

// Abandon lets go of all files and flushes nothing: raft replays what is lost.
func (p *Partition) Abandon() {
	var errs []error
	for _, s := range slices.Concat(p.segments, p.doomed) {
		errs = append(errs, s.Close())
	}
	if err := errors.Join(errs...); err != nil {
		p.log.Warn("segment not closed", "partition", p.o.ID.String(), "err", err)
	}
	if p.failed == nil {
		p.failed = ErrClosed
	}
	p.segments, p.doomed = nil, nil
	p.cache.limit(0)
}
