package partition

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/segment"
)

// Open recovers a partition: it takes the newest checkpoint, cuts the last segment
// to it and removes what it does not list. raft replays from Applied on. Without
// checkpoint and segments it is a new partition, which has no files before its
// first flush. What a Swap that was cut short has left is put in order first.
//
// Damaged segments do not keep a partition from opening: see Damage. ErrCorrupt
// means that both checkpoints are lost, ErrFormat that a newer version wrote here.
func Open(o Options) (*Partition, error) {
	p := &Partition{o: o, log: o.Log, epoch: model.NoEpoch}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.fence = disk.NewFence(o.FS)
	p.place = segment.Place{FS: p.fence, Dir: o.Dir, Memory: o.Memory, Past: o.Past, Breathe: o.Breathe}
	p.Configure(o.Config)
	if err := settle(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("open partition %s: %w", o.ID, err)
	}
	names, err := o.FS.List(o.Dir)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("open partition %s: %w", o.ID, err)
	}
	list, found, err := p.readCheckpoint()
	switch {
	case err != nil:
		return nil, fmt.Errorf("open partition %s: %w", o.ID, err)
	case found:
		err = p.recover(list, names)
	default:
		p.fresh = true // what segments there may be stay until the first flush: raft may refuse
	}
	if err != nil {
		p.Abandon()
		return nil, fmt.Errorf("open partition %s: %w", o.ID, err)
	}
	return p, nil
}

func (p *Partition) recover(list []listed, names []string) error {
	p.checkpointed = p.applied
	if err := checkList(list, p.logStart, p.logEnd); err != nil {
		return fmt.Errorf("%w: checkpoint of %s: %w", ErrCorrupt, p.o.Dir, err)
	}
	for i, l := range list {
		if err := p.openSegment(l, i == len(list)-1); err != nil {
			return err
		}
	}
	return p.removeUnlisted(names)
}

func checkList(list []listed, start, end model.Offset) error {
	if start > end || start < 0 {
		return fmt.Errorf("log from %d to %d", start, end)
	}
	var at model.Offset
	for _, l := range list {
		if l.meta.Base < at || l.meta.End <= l.meta.Base || l.meta.Length < segment.HeaderSize || l.meta.End > end {
			return fmt.Errorf("segment %s from %d to %d", l.meta.Name(), l.meta.Base, l.meta.End)
		}
		at = l.meta.End
	}
	if len(list) > 0 && at != end || len(list) == 0 && start != end {
		return fmt.Errorf("segments end at %d, the log at %d", at, end)
	}
	return nil
}

func (p *Partition) openSegment(l listed, last bool) error {
	var s *segment.Segment
	var damage *Damage
	var err error
	if last && !l.sealed {
		s, damage, err = segment.OpenActive(p.place, l.meta)
	} else {
		s, damage = segment.OpenSealed(p.place, l.meta)
	}
	if err != nil {
		return err
	}
	p.segments = append(p.segments, s)
	if damage != nil {
		p.damage = append(p.damage, *damage)
		p.log.Error("segment is damaged", "partition", p.o.ID.String(), "file", damage.File, "pos", damage.Pos,
			"first", int64(damage.First), "last", int64(damage.Last), "reason", damage.Reason)
	}
	return nil
}

// removeUnlisted deletes our files that the checkpoint does not list: they were
// made after it, or replaced before it.
func (p *Partition) removeUnlisted(names []string) error {
	keep := make([]string, 0, 2*len(p.segments))
	for _, s := range p.segments {
		m := s.Meta()
		keep = append(keep, m.Name(), m.IndexName())
	}
	for _, n := range names {
		ours := strings.HasSuffix(n, ".log") || strings.HasSuffix(n, ".index") || strings.HasSuffix(n, ".new")
		if !ours || slices.Contains(keep, n) {
			continue
		}
		if err := p.o.FS.Remove(filepath.Join(p.o.Dir, n)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	return nil
}

// Destroy removes a partition's directory, and what lies beside it to replace it; the
// partition was closed.
func Destroy(fs disk.FS, dir string) error {
	for _, d := range []string{stagedDir(dir), oldDir(dir), dir} {
		if err := disk.RemoveAll(fs, d); err != nil {
			return fmt.Errorf("destroy partition: %w", err)
		}
	}
	if err := fs.SyncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("destroy partition: %w", err)
	}
	return nil
}
