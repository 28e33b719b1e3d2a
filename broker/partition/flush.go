package partition

import (
	"fmt"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/segment"
)

// FlushJob is a flush under way: what FlushStart captured. Run it on any goroutine,
// then give it back to FlushDone on the loop.
type FlushJob struct {
	fs         disk.FS
	dir        string
	syncNames  bool
	flushes    []pinned
	indexes    []pinned
	first      []byte // the checkpoint of a partition without files yet
	checkpoint []byte
	index      uint64 // raft index that the checkpoint covers
	sequence   uint64
	doomed     []*segment.Segment
}

// pinned is a segment with its view at FlushStart.
type pinned struct {
	s    *segment.Segment
	v    *segment.View
	done bool
}

// Dirty is how many bytes a power cut would take, to be replayed by raft.
func (p *Partition) Dirty() int64 {
	var n int64
	for _, s := range p.segments {
		n += s.Unsynced()
	}
	return n
}

// Unwritten is how many bytes are in memory alone: what a flush writes.
func (p *Partition) Unwritten() int64 {
	var n int64
	for i := len(p.segments) - 1; i >= 0 && p.segments[i].InMemory(); i-- {
		n += p.segments[i].Unwritten()
	}
	return n
}

// FlushStart captures what is to be made durable; nil when the checkpoint on disk
// is up to date or a flush is under way.
func (p *Partition) FlushStart() *FlushJob { return p.flushStart(false) }

// flushStart is FlushStart; closing saves the active segment's index too, so that
// the next Open scans nothing.
func (p *Partition) flushStart(closing bool) *FlushJob {
	if p.flushing || p.failed != nil {
		return nil
	}
	if p.applied == p.checkpointed && !p.changed && len(p.doomed) == 0 {
		return nil
	}
	j := &FlushJob{
		fs: p.o.FS, dir: p.o.Dir, syncNames: p.namesChanged, index: p.applied, sequence: p.sequence + 1,
		doomed: p.doomed,
	}
	j.checkpoint = p.encodeCheckpoint(j.sequence)
	j.first, p.first = p.first, nil
	for _, s := range p.segments {
		if s.FlushDue() {
			j.flushes = append(j.flushes, pinned{s: s, v: s.Pin()})
		}
		if s.IndexDue() || closing && !s.Sealed() {
			j.indexes = append(j.indexes, pinned{s: s, v: s.Pin()})
		}
	}
	p.flushing, p.namesChanged, p.changed, p.doomed = true, false, false, nil
	return j
}

// Run writes and syncs the segments, then syncs their names, then replaces the checkpoint, then
// removes files that it no longer lists. Any error must stop the node.
func (j *FlushJob) Run() error {
	if err := j.begin(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	for i := range j.flushes {
		if err := j.flushes[i].v.Flush(); err != nil {
			return err
		}
	}
	for i := range j.indexes {
		// An index is a hint: one that cannot be written is rebuilt when needed.
		j.indexes[i].done = j.indexes[i].v.SaveIndex() == nil
	}
	if j.syncNames {
		if err := j.fs.SyncDir(j.dir); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	if err := writeCheckpoint(j.fs, j.dir, j.checkpoint); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	for _, s := range j.doomed {
		if err := s.Doom(); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	return nil
}

// begin makes the directory of a partition that has none.
func (j *FlushJob) begin() error {
	if j.first == nil {
		return nil
	}
	err := j.fs.MkdirAll(j.dir)
	if err == nil && len(j.flushes) > 0 {
		err = writeCheckpoint(j.fs, j.dir, j.first)
	}
	return err
}

// FlushDone takes a job back. After an error the partition refuses to go on.
func (p *Partition) FlushDone(j *FlushJob, err error) {
	p.flushing = false
	if err == nil {
		p.checkpointed, p.sequence = j.index, j.sequence
	} else if p.failed == nil {
		p.failed = err
	}
	for _, s := range j.flushes {
		if err == nil {
			err = s.s.Flushed(s.v)
		}
		_ = s.v.Release() // what it held is synced, or the node stops
	}
	if p.config.CacheBytesMax < 0 {
		p.shrinkTails(0)
	}
	for _, s := range j.indexes {
		if s.done {
			s.s.IndexSaved(s.v.Meta.Length)
			s.s.ForgetIndex()
		}
		_ = s.v.Release()
	}
}
