package journal_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/journal"
)

// gated is a file system that can be made to wait: for a device, or for space.
type gated struct {
	disk.FS
	writes, creates gate
}

// gate lets everything pass until it is shut.
type gate struct {
	mu   sync.Mutex
	shut chan struct{}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut = nil
}

func (g *gate) pass() {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

func (g *gated) Create(name string) (disk.File, error) {
	g.creates.pass()
	return g.FS.Create(name)
}

func (g *gated) OpenDirect(name string, synced bool) (disk.File, error) {
	f, err := g.FS.OpenDirect(name, synced)
	if err != nil {
		return nil, err
	}
	return &gatedFile{f, g}, nil
}

type gatedFile struct {
	disk.File
	g *gated
}

func (f *gatedFile) WriteAt(b []byte, at int64) (int, error) {
	f.g.writes.pass()
	return f.File.WriteAt(b, at)
}

// stats gives what a journal counts.
func stats(db store) journal.Stats { return db.(*journal.Journal).Stats() }

// A turn of a worker costs one sync, whatever it saves, and none if raft could do
// without what it saves.
func TestATurnIsOneSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := opened(t, openJournal, disk.NewMemory(), small)
		defer closed(t, db)
		first := saves(one, pb.State{Term: 1, Vote: 1}, run(1, 9, 1)...)
		several := saveState{}
		for i := range uint64(20) {
			several = append(several, saves(raftio.NodeInfo{ShardID: 2 + 16*i, ReplicaID: 1}, pb.State{Term: 1}, run(1, 3, 1)...)...)
		}
		for _, c := range []struct {
			call  call
			syncs uint64
		}{
			{first, 1},
			{saveState{}, 0},
			{saves(one, pb.State{}), 0},
			{saves(one, pb.State{Term: 1, Vote: 1, Commit: 5}), 0},
			{saves(one, pb.State{Term: 1, Vote: 1, Commit: 5}), 0},
			{saves(one, pb.State{Term: 2, Commit: 5}), 1},
			{saves(one, pb.State{Term: 2, Vote: 3, Commit: 5}), 1},
			{saves(one, pb.State{Term: 2, Vote: 3, Commit: 6}, entry(10, 2)), 1},
			{several, 1},
			{takes(one, 5, 1), 1},
			{takes(one, 5, 1), 0},
			{removeTo{one, 5}, 0},
			{compactTo{one, 5}, 0},
			{saveBootstrap{one, pb.Bootstrap{Join: true}}, 1},
		} {
			before := stats(db).Syncs
			if err := c.call.on(db, nil); err != nil {
				t.Fatalf("%v: %v", c.call, err)
			}
			if got := stats(db).Syncs - before; got != c.syncs {
				t.Errorf("%v: %d syncs, want %d", c.call, got, c.syncs)
			}
		}
	})
}

// Whoever comes while the device is busy shares the next write.
func TestWorkersShareAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &gated{FS: disk.NewMemory()}
		db := opened(t, openJournal, fs, small)
		defer closed(t, db)
		synctest.Wait() // the next files are prepared
		before := stats(db).Syncs
		fs.writes.close()
		var done atomic.Int32
		m := model{}
		for i := range uint64(workers) {
			c := saves(raftio.NodeInfo{ShardID: i, ReplicaID: 1}, pb.State{Term: 1}, entry(1, 1))
			c.apply(m)
			go func() {
				if err := c.on(db, nil); err != nil {
					t.Error(err)
				}
				done.Add(1)
			}()
			if i == 0 {
				synctest.Wait() // this one's write is under way
			}
		}
		synctest.Wait()
		if n := done.Load(); n > 0 {
			t.Errorf("%d saves were acknowledged before the device was", n)
		}
		fs.writes.open()
		synctest.Wait()
		if n := done.Load(); n != workers {
			t.Errorf("%d saves were acknowledged, want %d", n, workers)
		}
		if got := stats(db).Syncs - before; got != 2 {
			t.Errorf("%d syncs, want 2", got)
		}
		if err := m.differs(db); err != nil {
			t.Error(err)
		}
	})
}

// Nothing is acknowledged, and nothing of it is shown to a reader, before it is
// durable.
func TestNothingIsSeenBeforeItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &gated{FS: disk.NewMemory()}
		db := opened(t, openJournal, fs, small)
		defer closed(t, db)
		synctest.Wait()
		fs.writes.close()
		go func() {
			if err := saves(one, pb.State{Term: 1}, run(1, 3, 1)...).on(db, nil); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if got, _, err := db.IterateEntries(nil, 0, 1, 1, 1, 4, 1<<20); err != nil || len(got) > 0 {
			t.Errorf("read %s, %v", span(got), err)
		}
		fs.writes.open()
		synctest.Wait()
		if got, _, err := db.IterateEntries(nil, 0, 1, 1, 1, 4, 1<<20); err != nil || len(got) != 3 {
			t.Errorf("read %s, %v", span(got), err)
		}
	})
}

// A pause is sealed once.
func TestAPauseIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := opened(t, openJournal, disk.NewMemory(), small)
		defer closed(t, db)
		for round := range uint64(3) {
			if err := saves(one, pb.State{Term: round + 1}).on(db, nil); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Minute)
			if got := stats(db).Seals; got != round+1 {
				t.Errorf("%d seals after %d pauses", got, round+1)
			}
		}
	})
}

// A disk that is full keeps a save waiting for the next file; a Close then ends the
// wait with an error, and the next start misses nothing that was acknowledged.
func TestCloseWhileTheDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disk.NewFaulty(disk.NewMemory())
		db := opened(t, openJournal, fs, small)
		synctest.Wait()
		fs.Inject(disk.Fault{Op: disk.OpCreate, Err: unix.ENOSPC})
		m := model{}
		failed := make(chan error, 1)
		go func() {
			for i := uint64(1); ; i++ {
				e := entry(i, 1)
				e.Cmd = append(e.Cmd, make([]byte, 13_000)...) // a seal still has room behind the last
				c := saves(one, pb.State{Term: 1, Commit: i - 1}, e)
				if err := c.on(db, nil); err != nil {
					failed <- err
					return
				}
				c.apply(m)
			}
		}()
		synctest.Wait()
		closed(t, db)
		if err := <-failed; !errors.Is(err, journal.ErrClosed) {
			t.Errorf("the save that waited: %v, want ErrClosed", err)
		}
		fs.Heal()
		m.reopened()
		db = opened(t, openJournal, fs, small)
		defer closed(t, db)
		if err := m.differs(db); err != nil {
			t.Error(err)
		}
	})
}

// A Close seals the last block also when it ends its file, and the next file is not
// prepared yet: the Close waits for it.
func TestCloseSeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &gated{FS: disk.NewMemory()}
		db := opened(t, openJournal, fs, small)
		synctest.Wait()
		fs.creates.close() // two files are there
		for i := range uint64(2 * 15) {
			if err := saves(one, pb.State{Term: 1}, entry(i+1, 1)).on(db, nil); err != nil {
				t.Fatal(err)
			}
		}
		ended := make(chan error, 1)
		go func() { ended <- db.Close() }()
		synctest.Wait()
		fs.creates.open()
		if err := <-ended; err != nil {
			t.Errorf("close: %v", err)
		}
		if got := stats(db).Seals; got != 1 {
			t.Errorf("%d seals, want 1", got)
		}
	})
}

// A disk that is full fails nothing: what has no file to go to waits until there is
// space, and is then acknowledged.
func TestFullDiskIsWaitedFor(t *testing.T) {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT} {
		synctest.Test(t, func(t *testing.T) {
			fs := disk.NewFaulty(disk.NewMemory())
			db := opened(t, openJournal, fs, small)
			defer closed(t, db)
			synctest.Wait()
			fs.Inject(disk.Fault{Op: disk.OpCreate, Err: errno})
			m := model{}
			var done atomic.Int32
			const calls = 60
			go func() {
				for i := uint64(1); i <= calls; i++ {
					e := entry(i, 1)
					e.Cmd = append(e.Cmd, make([]byte, 9000)...)
					c := saves(one, pb.State{Term: 1, Commit: i - 1}, e)
					if err := c.on(db, nil); err != nil {
						t.Error(err)
						return
					}
					c.apply(m)
					done.Add(1)
				}
			}()
			<-time.After(time.Minute)
			if n := done.Load(); n == 0 || n == calls {
				t.Errorf("%d of %d calls were done on a full disk", n, calls)
			}
			fs.Heal()
			<-time.After(time.Minute)
			if n := done.Load(); n != calls {
				t.Errorf("%d calls were done when there was space, want %d", n, calls)
			}
			if err := m.differs(db); err != nil {
				t.Error(err)
			}
		})
	}
}

// A snapshot from the leader makes a log needless, but not before it is durable: until
// then no file of that log is used again.
func TestInstallFreesNothingEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := disk.NewCrashing()
		slow := &gated{FS: fs}
		db := opened(t, openJournal, slow, small)
		defer closed(t, db)
		m := model{}
		do := func(c call) {
			t.Helper()
			if err := c.on(db, nil); err != nil {
				t.Fatalf("%v: %v", c, err)
			}
			c.apply(m)
		}
		do(saveBootstrap{one, pb.Bootstrap{Join: true}})
		do(saves(one, pb.State{Term: 1}, run(1, 20, 1)...))
		for i := uint64(1); i < 10; i++ { // away from the first file, which holds the entries
			e := entry(i, 1)
			e.Cmd = append(e.Cmd, make([]byte, 9000)...)
			do(saves(busy, pb.State{Term: 1, Commit: i - 1}, e))
		}
		do(takes(busy, 8, 1))
		do(removeTo{busy, 8})
		do(saveBootstrap{one, pb.Bootstrap{Addresses: map[uint64]string{1: "a:1"}}})
		do(saves(one, pb.State{Term: 2, Commit: 5}))
		synctest.Wait()
		slow.writes.close()
		install := installs(one, 30, 3)
		go func() {
			if err := install.on(db, nil); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		do(compactTo{busy, 8}) // wakes who frees files
		synctest.Wait()
		m.reopened()
		after := opened(t, openJournal, fs.Crash(0), small)
		if err := m.differs(after); err != nil {
			t.Errorf("power cut before the snapshot was durable: %v", err)
		}
		closed(t, after)
		slow.writes.open()
	})
}
