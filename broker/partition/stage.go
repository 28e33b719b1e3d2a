package partition

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"slices"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/segment"
)

// Files that are to replace a partition's lie beside its directory until they are
// whole; so do, for the moment of the swap, those that were replaced.
func stagedDir(dir string) string { return dir + ".pull" }
func oldDir(dir string) string    { return dir + ".old" }

// Stage is where another node's partition comes together, beside the directory that
// it is to replace. What is there survives a restart. It has one user at a time, and
// the partition itself may be open meanwhile.
type Stage struct {
	o     Options
	place segment.Place
	state *Partition // what the manifest says, without segments
	list  []listed
}

// NewStage reads a manifest and makes room for what it lists: files of segments that
// it does not list are removed. ErrCorrupt says that it is none of this partition.
func NewStage(o Options, manifest []byte) (*Stage, error) {
	s := &Stage{o: o, state: &Partition{o: o}}
	var err error
	if s.list, err = s.state.decodeCheckpoint(manifest); err == nil {
		err = checkList(s.list, s.state.logStart, s.state.logEnd)
	}
	switch {
	case errors.Is(err, ErrFormat):
		return nil, fmt.Errorf("manifest of partition %s: %w", o.ID, err)
	case err != nil:
		return nil, fmt.Errorf("%w: manifest of partition %s: %w", ErrCorrupt, o.ID, err)
	}
	s.place = segment.Place{
		FS: o.FS, Dir: stagedDir(o.Dir), IntervalBytes: o.Config.withDefaults().IndexIntervalBytes, Memory: o.Memory, Breathe: o.Breathe,
	}
	if err := s.clear(); err != nil {
		return nil, fmt.Errorf("stage partition %s: %w", o.ID, err)
	}
	return s, nil
}

// clear makes the directory, with nothing in it but wanted segments and their indexes.
func (s *Stage) clear() error {
	if err := s.o.FS.MkdirAll(s.place.Dir); err != nil {
		return err
	}
	names, err := s.o.FS.List(s.place.Dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		wanted := slices.ContainsFunc(s.list, func(l listed) bool { return l.meta.Name() == n || l.meta.IndexName() == n })
		if wanted {
			continue
		}
		if err := s.o.FS.Remove(filepath.Join(s.place.Dir, n)); err != nil {
			return err
		}
	}
	return nil
}

// Applied is the raft index that the manifest stands at.
func (s *Stage) Applied() uint64 { return s.state.applied }

// Segments describes the files that are wanted.
func (s *Stage) Segments() []segment.Meta {
	metas := make([]segment.Meta, len(s.list))
	for i, l := range s.list {
		metas[i] = l.meta
	}
	return metas
}

// Receive opens a segment's file to be filled. What is there of it is kept with keep:
// of generation 0 that is always the beginning of the same file, of another only if
// it came from the same node.
func (s *Stage) Receive(i int, keep bool) (*segment.Incoming, error) {
	return segment.Receive(s.place, s.list[i].meta, keep)
}

// Verify reads a segment's file and compares it with the manifest. ErrCorrupt says
// that it must come again: Drop it. goOn, if not nil, is asked now and then; its error
// ends it.
func (s *Stage) Verify(i int, goOn func() error) error {
	return segment.Verify(s.place, s.list[i].meta, func() error {
		if s.o.Breathe != nil {
			s.o.Breathe()
		}
		if goOn == nil {
			return nil
		}
		return goOn()
	})
}

// Drop removes a segment's file.
func (s *Stage) Drop(i int) error {
	err := s.o.FS.Remove(filepath.Join(s.place.Dir, s.list[i].meta.Name()))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("drop staged segment: %w", err)
	}
	return nil
}

// Whole tells whether a segment's file is there, as long as it must be.
func (s *Stage) Whole(i int) bool {
	info, err := s.o.FS.Stat(filepath.Join(s.place.Dir, s.list[i].meta.Name()))
	return err == nil && info.Size == s.list[i].meta.Length
}

// Adoptable tells whether the partition itself has a segment's file: a sealed segment
// of generation 0 that both list is the same bytes. own is the partition's, from this
// node.
func (s *Stage) Adoptable(own *Export, i int) bool {
	l := s.list[i]
	return l.meta.Generation == 0 && l.sealed && slices.Contains(own.durable, l.meta)
}

// Adopt gives the partition's own file a second name among the staged ones, which must
// not be received into any more. False: it has none.
func (s *Stage) Adopt(own *Export, i int) (bool, error) {
	if !s.Adoptable(own, i) {
		return false, nil
	}
	l := s.list[i]
	name := filepath.Join(s.place.Dir, l.meta.Name())
	if err := s.Drop(i); err != nil {
		return false, err
	}
	if err := s.o.FS.Link(filepath.Join(s.o.Dir, l.meta.Name()), name); err != nil {
		return false, fmt.Errorf("adopt segment: %w", err)
	}
	return true, nil
}

// Finish makes the staged files a partition: all of them were verified. It is durable
// when Finish returns. ErrCorrupt says that one is not there.
func (s *Stage) Finish() error {
	for _, l := range s.list {
		info, err := s.o.FS.Stat(filepath.Join(s.place.Dir, l.meta.Name()))
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return fmt.Errorf("finish staged partition: %w", err)
		}
		if err != nil || info.Size < l.meta.Length {
			return fmt.Errorf("%w: finish staged partition %s: %s is not there, or cut", ErrCorrupt, s.o.ID, l.meta.Name())
		}
	}
	if err := s.o.FS.SyncDir(s.place.Dir); err != nil {
		return fmt.Errorf("finish staged partition: %w", err)
	}
	s.state.installed = s.state.applied
	b := s.state.encodeWith(s.list, s.state.sequence)
	if err := writeCheckpoint(s.o.FS, s.place.Dir, b); err != nil {
		return fmt.Errorf("finish staged partition: %w", err)
	}
	return nil
}

// Swap puts the staged partition in the place of the one in dir, which is not open:
// Retire has let go of it. A power cut leaves one or the other for Open.
func Swap(fs disk.FS, dir string) error {
	if err := swap(fs, dir); err != nil {
		return fmt.Errorf("swap partition: %w", err)
	}
	return nil
}

func swap(fs disk.FS, dir string) error {
	parent, old := filepath.Dir(dir), oldDir(dir)
	if _, err := fs.Stat(dir); err == nil {
		if err := disk.RemoveAll(fs, old); err != nil {
			return err
		}
		if err := fs.Rename(dir, old); err != nil {
			return err
		}
		// A power cut must not leave the new directory's name on the old one.
		if err := fs.SyncDir(parent); err != nil {
			return err
		}
	}
	if err := fs.Rename(stagedDir(dir), dir); err != nil {
		return err
	}
	if err := fs.SyncDir(parent); err != nil {
		return err
	}
	return disk.RemoveAll(fs, old)
}

// settle ends a Swap that was cut short: without a checkpoint in dir the old partition
// is the one that counts, else the new one.
func settle(fs disk.FS, dir string) error {
	old := oldDir(dir)
	if _, err := fs.Stat(old); errors.Is(err, iofs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for i := range checkpointCopies {
		if _, err := fs.Stat(checkpointName(dir, i)); err == nil {
			return disk.RemoveAll(fs, old)
		}
	}
	if err := disk.RemoveAll(fs, dir); err != nil {
		return err
	}
	if err := fs.Rename(old, dir); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(dir))
}

// Unstage removes what was staged beside dir, if anything.
func Unstage(fs disk.FS, dir string) error {
	if err := disk.RemoveAll(fs, stagedDir(dir)); err != nil {
		return fmt.Errorf("remove staged partition: %w", err)
	}
	return nil
}

// Retire is Abandon for a partition whose files are to be replaced: who still holds
// some of them touches nothing by its name any more, and reads no more than it has
// open. Exports of it end with ErrReplaced.
func (p *Partition) Retire() {
	p.Abandon()
	p.fence.Fall()
}
