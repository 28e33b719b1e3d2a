package journal_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
)

// slack is what the directory may hold beyond BytesMax: the file that is in use, and
// two that are being prepared while old ones are freed, in files.
const slack = 3

var idler, busy, long = raftio.NodeInfo{ShardID: 1, ReplicaID: 1}, raftio.NodeInfo{ShardID: 2, ReplicaID: 1}, raftio.NodeInfo{ShardID: 3, ReplicaID: 1}

// lasting is a log that is written for a long time, with the model of it.
type lasting struct {
	t       *testing.T
	fs      *disk.Crashing
	watched *watching
	s       setup
	db      store
	m       model
}

func lasts(t *testing.T, s setup) *lasting {
	t.Helper()
	fs := disk.NewCrashing()
	l := &lasting{t: t, fs: fs, watched: watch(fs), s: s, m: model{}}
	l.db = opened(t, openJournal, l.watched, s)
	t.Cleanup(func() { closed(t, l.db) })
	return l
}

func (l *lasting) do(calls ...call) {
	l.t.Helper()
	for _, c := range calls {
		if err := c.on(l.db, nil); err != nil {
			l.t.Fatalf("%v: %v", c, err)
		}
		c.apply(l.m)
	}
}

// begin makes a node with a log of some entries.
func (l *lasting) begin(n raftio.NodeInfo, entries, bytes int) {
	l.t.Helper()
	l.do(saveBootstrap{n, pb.Bootstrap{Addresses: map[uint64]string{1: "a:1"}, Type: pb.OnDiskStateMachine}})
	l.grow(n, entries, bytes)
}

// grow appends entries to a node's log, one call each.
func (l *lasting) grow(n raftio.NodeInfo, entries, bytes int) {
	l.t.Helper()
	for range entries {
		r := l.m.of(n)
		e := entry(r.last()+1, 1)
		e.Cmd = append(e.Cmd, make([]byte, bytes)...)
		l.do(saves(n, pb.State{Term: 1, Vote: 1, Commit: r.last()}, e))
	}
}

// snapshot takes one of all that is committed, and removes the log before it.
func (l *lasting) snapshot(n raftio.NodeInfo) {
	l.t.Helper()
	index := l.m.of(n).state.Commit
	l.do(takes(n, index, 1), removeTo{n, index}, compactTo{n, index})
}

// bytes is what the directory holds.
func (l *lasting) bytes() (total int64) {
	l.t.Helper()
	for _, name := range l.fs.Files(dir) {
		info, err := l.fs.Stat(name)
		if err == nil { // else it was renamed meanwhile
			total += info.Size
		}
	}
	return total
}

// bounded sees that the directory comes back to its size. It may be larger for a
// while: a disk in memory is written faster than the trimmer follows.
func (l *lasting) bounded() {
	l.t.Helper()
	most := l.s.bytesMax + slack*l.s.fileBytes
	turnsUntil(l.t, func() bool {
		if l.bytes() <= most {
			return true
		}
		l.grow(busy, 5, 1500)
		l.snapshot(busy)
		return false
	})
}

// whole sees that a start now, after a power cut, would find everything.
func (l *lasting) whole(luck uint64) {
	l.t.Helper()
	db := opened(l.t, openJournal, l.fs.Crash(luck), l.s)
	defer closed(l.t, db)
	m := l.m.clone()
	m.reopened()
	if err := m.differs(db); err != nil {
		l.t.Fatalf("after a power cut: %v", err)
	}
}

// A busy node that snapshots leaves the files of an idle one behind it: the idle one
// moves along, whatever happens meanwhile, and files are used again.
func TestIdleNodeMovesAlong(t *testing.T) {
	t.Parallel()
	l := lasts(t, small)
	l.begin(idler, 20, 100)
	l.do(takes(idler, 5, 1))
	l.begin(busy, 1, 10)
	for round := range 400 {
		l.grow(busy, 20, 1500)
		l.snapshot(busy)
		l.bounded()
		if round%16 == 0 {
			l.whole(uint64(round))
		}
	}
	if err := l.m.differs(l.db); err != nil {
		t.Error(err)
	}
	if did := l.watched.counts(); did[disk.OpCreate] > did[disk.OpRename]*2/3 { // a disk in memory may outrun the trimmer
		t.Errorf("%d files were made and %d times one was renamed: they should be used again", did[disk.OpCreate], did[disk.OpRename])
	}
}

// So do many idle nodes, of which a file holds a few items each.
func TestManyIdleNodesMoveAlong(t *testing.T) {
	t.Parallel()
	l := lasts(t, small)
	for i := range uint64(60) {
		l.begin(raftio.NodeInfo{ShardID: 100 + i, ReplicaID: 1}, 2, 50)
	}
	l.begin(busy, 1, 10)
	for round := range 200 {
		l.grow(busy, 20, 1500)
		l.snapshot(busy)
		l.bounded()
		if round%16 == 0 {
			l.whole(uint64(round))
		}
	}
	if err := l.m.differs(l.db); err != nil {
		t.Error(err)
	}
}

// A node with a long log that takes no snapshot is asked for one; when it has taken
// it, the files it kept are free.
func TestLongLogIsAskedForASnapshot(t *testing.T) {
	t.Parallel()
	asked := make(chan raftio.NodeInfo, 1000)
	s := setup{fileBytes: 128 << 10, bytesMax: 8 * 128 << 10, pinned: func(n raftio.NodeInfo) {
		select {
		case asked <- n:
		default:
		}
	}}
	l := lasts(t, s)
	l.begin(busy, 1, 10)
	l.begin(long, 150, 2000) // more than is moved without asking
	turnsUntil(t, func() bool {
		l.grow(busy, 20, 1500)
		l.snapshot(busy)
		l.bounded()
		return among(asked, long)
	})
	l.whole(1)
	l.do(saves(long, pb.State{Term: 1, Vote: 1, Commit: l.m.of(long).last()}))
	l.snapshot(long)
	among(asked, raftio.NodeInfo{})
	for range 40 {
		l.grow(busy, 20, 1500)
		l.snapshot(busy)
		l.bounded()
	}
	if among(asked, long) {
		t.Errorf("%v is asked for a snapshot again", long)
	}
	l.whole(2)
	if err := l.m.differs(l.db); err != nil {
		t.Error(err)
	}
}

// among takes all who were asked for a snapshot, and tells whether one is among them.
// The busy one may be, while something of it is under way.
func among(asked <-chan raftio.NodeInfo, n raftio.NodeInfo) (found bool) {
	for len(asked) > 0 {
		found = <-asked == n || found
	}
	return found
}

// turnsUntil takes turns until one is the last. What they wait for is another
// goroutine's work, which a busy machine may take long to come to: no number of turns
// says that it never will.
func turnsUntil(t *testing.T, last func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(100 * time.Microsecond) {
		if last() {
			return
		}
	}
	t.Fatalf("turns for %v, and nothing came of them", patience)
}

// A restart counts what is there: it neither forgets to free files nor grows with
// every start.
func TestStartsDoNotGrow(t *testing.T) {
	t.Parallel()
	l := lasts(t, small)
	l.begin(idler, 20, 100)
	l.begin(busy, 1, 10)
	for range 40 {
		closed(t, l.db)
		l.db = opened(t, openJournal, l.watched, l.s)
		l.m.reopened()
		l.grow(busy, 5, 1500)
		l.snapshot(busy)
		l.bounded()
		if err := l.m.differs(l.db); err != nil {
			t.Fatal(err)
		}
	}
}

// Removed nodes hold no file.
func TestRemovedNodesFreeFiles(t *testing.T) {
	t.Parallel()
	l := lasts(t, small)
	l.begin(busy, 1, 10)
	var ids []raftio.NodeInfo
	for i := range uint64(30) {
		n := raftio.NodeInfo{ShardID: 200, ReplicaID: i + 1}
		l.begin(n, 20, 2000)
		l.do(removeNode{n})
		ids = append(ids, n)
		l.bounded()
	}
	if err := l.m.differs(l.db, ids...); err != nil {
		t.Error(err)
	}
	l.whole(1)
	listed, err := l.db.ListNodeInfo()
	if err != nil || !slices.Equal(listed, []raftio.NodeInfo{busy}) {
		t.Errorf("nodes %v, %v", listed, err)
	}
}

// Files of another size than those that are there: a setting changed between starts.
func TestFileSizeChanges(t *testing.T) {
	t.Parallel()
	l := lasts(t, small)
	l.begin(idler, 20, 100)
	l.begin(busy, 60, 1500)
	for i, fileBytes := range []int64{128 << 10, 64 << 10, 256 << 10, 64 << 10} {
		t.Run(fmt.Sprintf("%d to %d", i, fileBytes), func(t *testing.T) {
			closed(t, l.db)
			l.s.fileBytes, l.s.bytesMax = fileBytes, 8*fileBytes
			l.db = opened(t, openJournal, l.watched, l.s)
			l.m.reopened()
			l.grow(busy, 100, 1500)
			l.snapshot(busy)
			l.whole(uint64(i))
			if err := l.m.differs(l.db); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// An idle node of which something cannot be read any more cannot be moved. It is asked
// for a snapshot as well, which makes the bytes needless, and holds nobody up.
func TestUnreadableLogIsAskedForASnapshot(t *testing.T) {
	t.Parallel()
	asked := make(chan raftio.NodeInfo, 1000)
	s := small
	s.pinned = func(n raftio.NodeInfo) {
		select {
		case asked <- n:
		default:
		}
	}
	l := lasts(t, s)
	l.begin(idler, 10, 1000)
	for at := int64(4096); at < 4096+6*4096; at += 512 {
		if err := l.fs.Corrupt(dir+"/0000000000000001.journal", at+200, 1); err != nil {
			t.Fatal(err)
		}
	}
	l.begin(busy, 1, 10)
	turnsUntil(t, func() bool {
		l.grow(busy, 20, 1500)
		l.snapshot(busy)
		return among(asked, idler)
	})
	l.do(saves(idler, pb.State{Term: 1, Vote: 1, Commit: l.m.of(idler).last()}))
	l.snapshot(idler)
	l.bounded()
	l.whole(1)
}
