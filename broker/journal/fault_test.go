package journal_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/journal"
)

// TestFaults has each operation fail, one at a time.
func TestFaults(t *testing.T) {
	t.Parallel()
	if err := faulting(openJournal, tight, 60); err != nil {
		t.Error(err)
	}
}

// TestPlainStopsAtFaults proves the suite.
func TestPlainStopsAtFaults(t *testing.T) {
	t.Parallel()
	if err := faulting(plainWith(flawless), small, 14); err != nil {
		t.Error(err)
	}
	for _, f := range []flaw{deaf, hopeful, mute} {
		if err := faulting(plainWith(f), small, 14); err == nil {
			t.Errorf("%s: not noticed", f)
		} else {
			t.Log(err)
		}
	}
}

// faulting tries each way in which a disk fails, at each operation of its kind in
// turn, once directly and once without direct I/O, where a sync is a call of its own.
func faulting(open opens, s setup, calls int) error {
	for _, buffered := range []bool{false, true} {
		for _, f := range []disk.Fault{
			{Op: disk.OpWrite, Err: unix.EIO},
			{Op: disk.OpWrite, Err: unix.ENOSPC, Partial: 600},
			{Op: disk.OpWrite, Err: unix.EIO, Partial: 8192},
			{Op: disk.OpSync, Err: unix.EIO},
			{Op: disk.OpCreate, Err: unix.ENOSPC},
			{Op: disk.OpRename, Err: unix.EIO},
			{Op: disk.OpSyncDir, Err: unix.EIO},
			{Op: disk.OpOpen, Err: unix.EMFILE},
			{Op: disk.OpRemove, Err: unix.EIO},
			{Op: disk.OpTruncate, Err: unix.ENOSPC},
		} {
			for f.Skip = 0; ; f.Skip += 1 + f.Skip/8 { // all of the first, then fewer
				hit, err := faultAt(open, s, f, calls, buffered)
				if err != nil {
					return fmt.Errorf("%s number %d gives %v with %d bytes done, buffered %v: %w", f.Op, f.Skip+1, f.Err, f.Partial, buffered, err)
				}
				if !hit {
					break
				}
			}
		}
	}
	return nil
}

// verdicts are what a log told its Fatal.
type verdicts struct {
	mu  sync.Mutex
	all []error
}

func (v *verdicts) tell(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, err)
}

func (v *verdicts) told() []error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.all
}

// faultAt lives until one operation fails, once: a disk that answers well afterwards
// must not be believed. Then the disk is healed, and the log opened, as it stands and
// as a power cut leaves it.
func faultAt(open opens, s setup, f disk.Fault, calls int, buffered bool) (hit bool, err error) {
	crashing := disk.NewCrashing()
	if buffered {
		crashing.RefuseDirect()
	}
	faulty := disk.NewFaulty(crashing)
	watched := watch(faulty)
	f.Times = 1
	faulty.Inject(f)
	hits := func() bool { return watched.counts()[f.Op] > f.Skip }

	var fatal verdicts
	l := &life{setup: s, fs: crashing, told: tellSeed(uint64(f.Skip))}
	l.open = func(_ disk.FS, s setup) (store, error) {
		end := s.fatal
		s.fatal = func(err error) {
			fatal.tell(err)
			end(err)
		}
		return open(watched, s)
	}
	// outlives opens what a power cut now would leave.
	outlives := func(lucks uint64) error {
		for luck := range lucks {
			after := l.crash(luck)
			after.open = open
			err := after.recover()
			if err == nil {
				err = after.db.Close()
			}
			if err != nil {
				return fmt.Errorf("power cut, outcome %d: %w", luck, err)
			}
		}
		return nil
	}
	failed, err := l.liveUntil(&fatal, hits, calls, func() error { return outlives(6) })
	if err != nil {
		return true, err
	}
	if failed {
		select {
		case <-l.stopped:
		case <-time.After(2 * time.Second):
			return true, errors.New("fatal was not told")
		}
	}
	if told := fatal.told(); len(told) > 1 || len(told) == 1 && !errors.Is(told[0], f.Err) {
		return true, fmt.Errorf("fatal was told %v, want %w, once", told, f.Err)
	}
	faulty.Heal()
	if err := outlives(2); err != nil {
		return true, err
	}
	after := l.crash(1)
	after.open, after.fs = open, crashing // no power cut: the same files
	if err := after.recover(); err != nil {
		return true, fmt.Errorf("healed: %w", err)
	}
	if err := after.goOn(); err != nil {
		return true, fmt.Errorf("healed, and it recovered, but then: %w", err)
	}
	return hits(), nil
}

// liveUntil makes calls until one fails, as one may only when the disk has. If none
// does though the disk has failed, what was acknowledged is looked at there and then.
func (l *life) liveUntil(fatal *verdicts, hit func() bool, calls int, look func() error) (failed bool, err error) {
	looked, late := false, 0
	if err := l.start(); err != nil {
		return false, unless(hit(), err)
	}
	for i := range calls {
		if i == calls/2 && len(fatal.told()) == 0 {
			if err := l.db.Close(); err != nil || len(fatal.told()) > 0 {
				return false, unless(hit(), err)
			}
			if err := l.start(); err != nil {
				return false, unless(hit(), err)
			}
			l.told.m.reopened()
		}
		over := len(fatal.told()) > 0
		c := l.told.next()
		err := c.on(l.db, l.stopped)
		if err == nil && over && !idle(c) {
			// What was written before another goroutine's failure got around is well
			// acknowledged, as long as it is there. In the product Fatal ends the process.
			late++
			if late > 3 {
				return true, fmt.Errorf("%v was acknowledged after fatal was told %v", c, fatal.told())
			}
		}
		if err != nil {
			l.flight = c
			defer l.db.Close() // which may fail as well
			return true, errors.Join(unless(hit(), fmt.Errorf("%v: %w", c, err)), refuses(l.db))
		}
		c.apply(l.told.m)
		if hit() && !looked {
			looked = true
			if err := look(); err != nil {
				return true, fmt.Errorf("%v did not fail: %w", c, err)
			}
		}
	}
	if len(fatal.told()) > 0 {
		defer l.db.Close()
		return true, refuses(l.db)
	}
	return false, unless(hit(), l.db.Close())
}

// idle tells whether a call may come to nothing: it acknowledges nothing either.
func idle(c call) bool {
	switch c.(type) {
	case removeTo, compactTo:
		return true
	}
	return false
}

func unless(expected bool, err error) error {
	if expected {
		return nil
	}
	return err
}

// A file that cannot be read stops the start, which names it: what it holds is not
// lost, so nobody is damaged. Once it can be read again, all is there.
func TestUnreadableFiles(t *testing.T) {
	t.Parallel()
	l := &life{open: openJournal, setup: small, fs: disk.NewCrashing(), told: tellSeed(1)}
	if err := errors.Join(l.start(), l.makes(60), l.db.Close()); err != nil {
		t.Fatal(err)
	}
	l.told.m.reopened()
	for _, name := range l.fs.Files(dir) {
		if filepath.Ext(name) != ".journal" {
			continue
		}
		for _, f := range []disk.Fault{
			{Op: disk.OpOpen, Err: unix.EMFILE},
			{Op: disk.OpRead, Err: unix.EIO},
			{Op: disk.OpRead, Err: unix.EIO, Partial: 5000},
		} {
			f.Path = filepath.Base(name)
			faulty := disk.NewFaulty(l.fs.Crash(0))
			faulty.Inject(f)
			s := small
			s.fatal = func(err error) { t.Errorf("fatal: %v", err) }
			if _, err := openJournal(faulty, s); !errors.Is(err, f.Err) || !strings.Contains(err.Error(), f.Path) {
				t.Errorf("%s of %s gives %v: open says %v", f.Op, f.Path, f.Err, err)
			}
			faulty.Heal()
			db := opened(t, openJournal, faulty, small)
			if err := l.told.m.differs(db); err != nil {
				t.Errorf("healed: %v", err)
			}
			closed(t, db)
		}
	}
}

// A directory that cannot be listed, or a spare that is not to be found, stop it too.
func TestUnreadableDirectory(t *testing.T) {
	t.Parallel()
	for _, f := range []disk.Fault{{Op: disk.OpList, Err: unix.EIO}, {Op: disk.OpMkdir, Err: unix.EROFS}} {
		faulty := disk.NewFaulty(disk.NewMemory())
		faulty.Inject(f)
		if _, err := openJournal(faulty, small); !errors.Is(err, f.Err) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s gives %v: open says %v", f.Op, f.Err, err)
		}
	}
}

// What is read is checked. A bit that is wrong once, in memory or on the way, is read
// right the second time; one that stays wrong is an error, and so is a disk's: never
// another entry, and nobody's else.
func TestReadsAreChecked(t *testing.T) {
	t.Parallel()
	two := raftio.NodeInfo{ShardID: 2, ReplicaID: 1}
	entries := run(1, 20, 1)
	for _, c := range []struct {
		name  string
		fault disk.Fault
		want  error
	}{
		{"no fault", disk.Fault{Op: disk.OpRead, Times: 1}, nil},
		{"wrong once", disk.Fault{Op: disk.OpRead, At: 4096 + 1000, Mask: 1, Times: 1}, nil},
		{"wrong", disk.Fault{Op: disk.OpRead, At: 4096 + 1000, Mask: 1}, journal.ErrDamaged},
		{"short", disk.Fault{Op: disk.OpRead, Err: io.EOF, Partial: 100}, journal.ErrDamaged},
		{"failed", disk.Fault{Op: disk.OpRead, Err: unix.EIO}, unix.EIO},
		{"no handle", disk.Fault{Op: disk.OpOpen, Err: unix.EMFILE}, unix.EMFILE},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				faulty := disk.NewFaulty(disk.NewMemory())
				db := opened(t, openJournal, faulty, small)
				defer closed(t, db)
				for _, n := range []raftio.NodeInfo{one, two} {
					if err := saves(n, pb.State{Term: 1}, entries...).on(db, nil); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait() // the next files are prepared: what is read now is asked for here
				faulty.Inject(c.fault)
				got, _, err := db.IterateEntries(nil, 0, 1, 1, 1, 21, math.MaxUint64)
				if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
					t.Errorf("read %s, %v, want %v", span(got), err, c.want)
				}
				if err == nil {
					err = entriesDiffer(got, entries)
					if err != nil {
						t.Error(err)
					}
				}
				faulty.Heal()
				for _, n := range []raftio.NodeInfo{one, two} {
					got, _, err := db.IterateEntries(nil, 0, n.ShardID, n.ReplicaID, 1, 21, math.MaxUint64)
					if err != nil || entriesDiffer(got, entries) != nil {
						t.Errorf("healed: of %v %s, %v", n, span(got), err)
					}
				}
			})
		})
	}
}
