package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
)

// opener opens an empty log; reopen closes it, and opens it again. Large says that
// commands of megabytes will come.
type opener func(t *testing.T, large bool) (db raftio.ILogDB, reopen func() raftio.ILogDB)

// TestPebbleConforms proves the suite: it must hold for what dragonboat comes with.
func TestPebbleConforms(t *testing.T) {
	conform(t, func(t *testing.T, _ bool) (raftio.ILogDB, func() raftio.ILogDB) {
		dir := t.TempDir()
		db := openPebble(t, dir)
		t.Cleanup(func() { closed(t, db) })
		return db, func() raftio.ILogDB {
			closed(t, db)
			db = openPebble(t, dir)
			return db
		}
	})
}

// TestConforms holds the journal to it, with and without direct I/O.
func TestConforms(t *testing.T) {
	t.Run("direct", func(t *testing.T) { conform(t, onMemory(openJournal, disk.NewMemory)) })
	t.Run("buffered", func(t *testing.T) {
		conform(t, onMemory(openJournal, func() *disk.Memory {
			fs := disk.NewMemory()
			fs.RefuseDirect()
			return fs
		}))
	})
}

// TestPlainConforms proves the log that proves the other suites.
func TestPlainConforms(t *testing.T) {
	conform(t, onMemory(plainWith(flawless), disk.NewMemory))
}

// onMemory is for logs on a file system.
func onMemory(open opens, empty func() *disk.Memory) opener {
	return func(t *testing.T, large bool) (raftio.ILogDB, func() raftio.ILogDB) {
		fs, s := empty(), small
		if large {
			s = roomy
		}
		db := opened(t, open, fs, s)
		t.Cleanup(func() { closed(t, db) })
		return db, func() raftio.ILogDB {
			closed(t, db)
			db = opened(t, open, fs, s)
			return db
		}
	}
}

// opened opens a log that must be whole.
func opened(t testing.TB, open opens, fs disk.FS, s setup) store {
	t.Helper()
	if s.fatal == nil {
		s.fatal = func(err error) { t.Errorf("fatal: %v", err) }
	}
	db, err := open(fs, s)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if lost := db.Damaged(); len(lost) > 0 {
		t.Fatalf("damaged: %v", lost)
	}
	return db
}

func closed(t testing.TB, db raftio.ILogDB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// conform holds a log to the contract of raftio.ILogDB as dragonboat uses it.
func conform(t *testing.T, open opener) {
	for name, test := range map[string]func(*testing.T, *subject){
		"nothing":          conformNothing,
		"bootstrap":        conformBootstrap,
		"identity":         conformIdentity,
		"hard state":       conformState,
		"range":            conformRange,
		"entries":          conformEntries,
		"every field":      conformFields,
		"sizes":            conformSizes,
		"conflicts":        conformConflicts,
		"iterate":          conformIterate,
		"as the reader":    conformReader,
		"snapshots":        conformSnapshots,
		"install":          conformInstall,
		"removal":          conformRemoval,
		"remove node":      conformRemoveNode,
		"import":           conformImport,
		"several shards":   conformSeveral,
		"ownership":        conformOwnership,
		"workers at once":  conformWorkers,
		"reads and writes": conformReads,
		"snapshots beside": conformSnapshotsBeside,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, reopen := open(t, name == "sizes")
			test(t, &subject{t: t, db: db, open: reopen, m: model{}})
		})
	}
}

// subject is a log with the model of what it must hold.
type subject struct {
	t    *testing.T
	db   raftio.ILogDB
	open func() raftio.ILogDB
	m    model
}

// do makes calls, and sees that all is there, before and after a reopen.
func (s *subject) do(calls ...call) {
	s.t.Helper()
	for _, c := range calls {
		s.make(c)
		s.check(c.String())
	}
	s.reopen()
}

// make makes a call, of which nothing is looked at yet.
func (s *subject) make(c call) {
	s.t.Helper()
	if err := c.on(s.db, nil); err != nil {
		s.t.Fatalf("%v: %v", c, err)
	}
	c.apply(s.m)
}

func (s *subject) reopen() {
	s.t.Helper()
	s.db = s.open()
	s.m.reopened()
	s.check("reopen")
}

func (s *subject) check(after string) {
	s.t.Helper()
	if err := s.m.differs(s.db); err != nil {
		s.t.Fatalf("after %s: %v", after, err)
	}
}

var one = raftio.NodeInfo{ShardID: 1, ReplicaID: 1}

// saves is an update of one node.
func saves(n raftio.NodeInfo, state pb.State, entries ...pb.Entry) saveState {
	return saveState{{ShardID: n.ShardID, ReplicaID: n.ReplicaID, State: state, EntriesToSave: entries}}
}

// entry makes one whose command names it.
func entry(index, term uint64) pb.Entry {
	return pb.Entry{Index: index, Term: term, Cmd: fmt.Appendf(nil, "entry %d of term %d", index, term)}
}

// run makes the entries from..to.
func run(from, to, term uint64) (entries []pb.Entry) {
	for i := from; i <= to; i++ {
		entries = append(entries, entry(i, term))
	}
	return entries
}

func snapshotOf(n raftio.NodeInfo, index, term uint64) pb.Snapshot {
	return pb.Snapshot{Index: index, Term: term, ShardID: n.ShardID, Type: pb.OnDiskStateMachine, OnDiskIndex: index,
		Membership: pb.Membership{ConfigChangeId: 1, Addresses: map[uint64]string{1: "a:1"}}}
}

func takes(n raftio.NodeInfo, index, term uint64) saveSnapshots {
	return saveSnapshots{{ShardID: n.ShardID, ReplicaID: n.ReplicaID, Snapshot: snapshotOf(n, index, term)}}
}

// installs is an update with a snapshot from elsewhere, and entries behind it.
func installs(n raftio.NodeInfo, index, term uint64, entries ...pb.Entry) saveState {
	return saveState{{ShardID: n.ShardID, ReplicaID: n.ReplicaID, State: pb.State{Term: term, Commit: index},
		Snapshot: snapshotOf(n, index, term), EntriesToSave: entries}}
}

// A log that was told nothing answers so, of any node, and takes nothing amiss.
func conformNothing(t *testing.T, s *subject) {
	check := func() {
		t.Helper()
		if err := s.m.differs(s.db, one, raftio.NodeInfo{ShardID: math.MaxUint64, ReplicaID: math.MaxUint64}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.db.ReadRaftState(1, 1, 77); !errors.Is(err, raftio.ErrNoSavedLog) {
			t.Errorf("raft state behind a snapshot: %v, want ErrNoSavedLog", err)
		}
	}
	check()
	for _, c := range []call{
		saveState(nil), saveState{}, saves(one, pb.State{}), saveState{{ShardID: 1}, {ShardID: 17}},
		saveSnapshots(nil), saveSnapshots{{ShardID: 1, ReplicaID: 1}},
		removeTo{one, 5}, compactTo{one, 5}, compactTo{one, math.MaxUint64}, removeNode{one},
	} {
		if err := c.on(s.db, nil); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		check()
	}
	s.reopen()
	check()
}

// Name and format go into dragonboat's own files at the first start: another one
// later is refused.
func conformIdentity(t *testing.T, s *subject) {
	name, format := s.db.Name(), s.db.BinaryFormat()
	if name == "" || format == 0 {
		t.Errorf("name %q, format %d", name, format)
	}
	s.reopen()
	if s.db.Name() != name || s.db.BinaryFormat() != format {
		t.Errorf("reopened: %q %d, was %q %d", s.db.Name(), s.db.BinaryFormat(), name, format)
	}
}

func conformBootstrap(_ *testing.T, s *subject) {
	s.do(
		saveBootstrap{one, pb.Bootstrap{Addresses: map[uint64]string{1: "a:1", 2: "b:2"}, Type: pb.OnDiskStateMachine}},
		saveBootstrap{raftio.NodeInfo{ShardID: 1, ReplicaID: 2}, pb.Bootstrap{Join: true, Type: pb.RegularStateMachine}},
		saveBootstrap{raftio.NodeInfo{ShardID: math.MaxUint64, ReplicaID: math.MaxUint64 - 1}, pb.Bootstrap{}},
		saveBootstrap{one, pb.Bootstrap{Join: true}}, // over the first
	)
	s.do(saves(raftio.NodeInfo{ShardID: 2, ReplicaID: 1}, pb.State{Term: 1})) // a node without one is not listed
}

// An empty state leaves the last as it is, every other replaces it, also by a commit
// that is older: raft may have restarted from one.
func conformState(t *testing.T, s *subject) {
	s.do(saves(one, pb.State{Term: 1, Vote: 1}))
	s.do(saves(one, pb.State{}))
	s.do(saves(one, pb.State{Term: 2}), saves(one, pb.State{Term: 2, Vote: 3}), saves(one, pb.State{}))
	s.do(saves(one, pb.State{Term: 2, Vote: 3}, run(1, 9, 2)...))
	s.do(saves(one, pb.State{Term: 2, Vote: 3, Commit: 5}), saves(one, pb.State{Term: 2, Vote: 3, Commit: 9}))
	s.do(saves(one, pb.State{Term: 3, Commit: 6}))
	s.do(saves(one, pb.State{Term: math.MaxUint64, Vote: math.MaxUint64, Commit: 9}))

	// Bootstrap, entries or a snapshot alone are no saved log.
	two := raftio.NodeInfo{ShardID: 2, ReplicaID: 1}
	s.do(saveBootstrap{two, pb.Bootstrap{Join: true}}, saves(two, pb.State{}, run(1, 3, 1)...), takes(two, 2, 1))
	if _, err := s.db.ReadRaftState(2, 1, 2); !errors.Is(err, raftio.ErrNoSavedLog) {
		t.Errorf("entries without a state: %v, want ErrNoSavedLog", err)
	}
}

// ReadRaftState tells what is behind a snapshot.
func conformRange(t *testing.T, s *subject) {
	ask := func(snapshot, wantFirst, wantCount uint64) {
		t.Helper()
		got, err := s.db.ReadRaftState(1, 1, snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if first, count := behind(got, snapshot); first != wantFirst || count != wantCount {
			t.Errorf("behind %d: first %d, count %d, want %d, %d", snapshot, first, count, wantFirst, wantCount)
		}
	}
	s.do(saves(one, pb.State{Term: 1}))
	ask(0, 0, 0)
	ask(7, 0, 0)
	s.do(saves(one, pb.State{Term: 1, Commit: 8}, run(1, 10, 1)...))
	for range 2 {
		ask(0, 1, 10)
		ask(1, 2, 9)
		ask(9, 10, 1)
		ask(10, 0, 0)
		s.reopen()
	}
	s.do(takes(one, 8, 1), removeTo{one, 6})
	ask(8, 9, 2)
	s.do(installs(one, 30, 2))
	ask(30, 0, 0)
	s.do(saves(one, pb.State{}, run(31, 33, 2)...))
	ask(30, 31, 3)
	s.do(saves(one, pb.State{Term: 3, Commit: 30}, run(31, 31, 3)...))
	ask(30, 31, 1)
}

func conformEntries(_ *testing.T, s *subject) {
	s.do(saves(one, pb.State{Term: 1}, entry(1, 1)))
	s.do(saves(one, pb.State{}, run(2, 4, 1)...), saves(one, pb.State{}, entry(5, 1)))
	s.do(saves(one, pb.State{Term: 2, Commit: 5}, run(6, 500, 2)...))
	other := raftio.NodeInfo{ShardID: 1, ReplicaID: 2}
	s.do(saves(other, pb.State{Term: 9}, run(1, 3, 9)...)) // another replica's log is another log
}

// Every field of every type must come back. Reflection fills them, so that a field
// that a later dragonboat adds is noticed.
func conformFields(t *testing.T, s *subject) {
	if n := reflect.TypeFor[pb.Entry]().NumField(); n != 8 {
		t.Fatalf("an entry has %d fields: teach sameEntry", n)
	}
	var entries []pb.Entry
	for i, kind := range []pb.EntryType{pb.ApplicationEntry, pb.ConfigChangeEntry, pb.EncodedEntry, pb.MetadataEntry} {
		var e pb.Entry
		fill(t, reflect.ValueOf(&e).Elem())
		e.Index, e.Type = uint64(i+1), kind
		entries = append(entries, e)
	}
	entries = append(entries, pb.Entry{Index: 5, Term: entries[0].Term}, pb.Entry{Index: 6, Term: entries[0].Term, Cmd: []byte{}})
	for i := range uint64(64) { // each width of each number
		entries = append(entries, pb.Entry{Index: 7 + i, Term: math.MaxUint64, Key: 1 << i, ClientID: math.MaxUint64 >> i, SeriesID: 1<<i - 1, RespondedTo: 1<<i + 1})
	}
	var snapshot pb.Snapshot
	fill(t, reflect.ValueOf(&snapshot).Elem())
	snapshot.Index, snapshot.ShardID = 4, one.ShardID
	var boot pb.Bootstrap
	fill(t, reflect.ValueOf(&boot).Elem())
	s.do(
		saveBootstrap{one, boot},
		saves(one, pb.State{Term: math.MaxUint64, Vote: 3, Commit: 6}, entries...),
		saveSnapshots{{ShardID: 1, ReplicaID: 1, Snapshot: snapshot}},
	)
}

// fill gives every exported field a value that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint64:
		v.SetUint(1<<63 + 12345)
	case reflect.Int32:
		v.SetInt(3)
	case reflect.Uint8:
		v.SetUint(77)
	case reflect.String:
		v.SetString("a:1")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i))
			}
		}
	default:
		t.Fatalf("a field of kind %v: teach fill", v.Kind())
	}
}

// Commands of every size up to the largest that is proposed, and their neighbours
// around pages and powers of two.
func conformSizes(_ *testing.T, s *subject) {
	state, index := pb.State{Term: 1}, uint64(0)
	cmd := func(size int) pb.Entry {
		index++
		return pb.Entry{Index: index, Term: 1, Cmd: bytes.Repeat([]byte{byte(index), byte(size)}, size/2+1)[:size]}
	}
	var batch []pb.Entry
	for _, around := range []int{0, 64, 512, 4096, 8192, 1 << 16, 1 << 20} {
		for _, size := range []int{around - 1, around, around + 1} {
			if size >= 0 {
				s.make(saves(one, state, cmd(size)))
				batch = append(batch, pb.Entry{Cmd: make([]byte, size)})
			}
		}
	}
	s.do(saves(one, state, cmd(4<<20)))
	for i := range batch { // and all of them at once
		batch[i].Index, batch[i].Term = index+1, 1
		index++
	}
	s.do(saves(one, pb.State{Term: 1, Commit: index}, batch...))
}

// New entries replace all from their first index on.
func conformConflicts(_ *testing.T, s *subject) {
	s.do(saves(one, pb.State{Term: 1, Commit: 2}, run(1, 10, 1)...))
	s.do(saves(one, pb.State{Term: 2, Commit: 2}, run(10, 10, 2)...))                                               // the last alone
	s.do(saves(one, pb.State{Term: 3, Commit: 2}, run(5, 7, 3)...))                                                 // shorter than before
	s.do(saves(one, pb.State{}, run(8, 8, 3)...))                                                                   // goes on where the new ones end
	s.do(saves(one, pb.State{Term: 4, Commit: 2}, run(3, 40, 4)...))                                                // longer than before
	s.do(saves(one, pb.State{Term: 5, Commit: 2}, run(3, 3, 5)...), saves(one, pb.State{Term: 6}, run(3, 4, 6)...)) // twice, unread between

	// One batch with two terms, over a whole log.
	two := raftio.NodeInfo{ShardID: 2, ReplicaID: 1}
	s.do(saves(two, pb.State{Term: 1}, run(1, 6, 1)...))
	s.do(saves(two, pb.State{Term: 3}, append(run(1, 2, 2), run(3, 4, 3)...)...))
}

// IterateEntries gives [low, high) as far as there is, and stops behind the entry
// that takes size above maxSize: dragonboat takes a size within maxSize to mean that
// it has all it asked for, and otherwise drops the last entry itself.
func conformIterate(t *testing.T, s *subject) {
	entries := run(1, 20, 1)
	entries[4].Cmd = make([]byte, 5000)
	s.do(saves(one, pb.State{Term: 1, Commit: 20}, entries...))
	each := uint64(entries[0].SizeUpperLimit())
	prefix := []pb.Entry{{Index: 99}}
	for range 2 {
		for _, c := range []struct {
			low, high, max uint64
			to             uint64 // the last that comes
		}{
			{1, 21, math.MaxUint64, 20},
			{1, 2, math.MaxUint64, 1},
			{20, 21, math.MaxUint64, 20},
			{7, 12, math.MaxUint64, 11},
			{15, 99, math.MaxUint64, 20},           // beyond the end: what there is
			{21, 22, math.MaxUint64, 20},           // nothing there
			{21, 30, math.MaxUint64, 20},           // nothing there
			{7, 7, math.MaxUint64, 6},              // nothing asked for
			{1, 21, 0, 1},                          // always one
			{5, 6, 0, 5},                           // however large
			{5, 20, 1, 5},                          //
			{1, 21, each - 1, 1},                   //
			{1, 21, each, 2},                       // the first fits, the second shows that there is more
			{1, 4, 3 * each, 3},                    // all fit exactly
			{1, 21, 3 * each, 4},                   //
			{1, 21, 4 * each, 5},                   // the large one goes beyond
			{1, 21, 4*each + 5000, 5},              // as it does here
			{6, 21, sizeOf(entries[5:20]), 20},     // all fit exactly
			{6, 21, sizeOf(entries[5:20]) - 1, 20}, // the last goes beyond
			{6, 21, sizeOf(entries[5:19]) - 1, 19}, //
			{6, 21, sizeOf(entries[5:19]), 20},     //
		} {
			want := entries[c.low-1 : max(c.to, c.low-1)]
			got, size, err := s.db.IterateEntries(nil, 0, 1, 1, c.low, c.high, c.max)
			if err != nil || entriesDiffer(got, want) != nil || size != sizeOf(want) {
				t.Errorf("[%d,%d) max %d: %s of %d bytes, %v; want %s of %d", c.low, c.high, c.max, span(got), size, err, span(want), sizeOf(want))
			}
			if c.max < math.MaxUint64 {
				continue
			}
			got, size, err = s.db.IterateEntries(prefix, 1000, 1, 1, c.low, c.high, c.max)
			if err != nil || len(got) != 1+len(want) || got[0].Index != 99 || entriesDiffer(got[1:], want) != nil || size != 1000+sizeOf(want) {
				t.Errorf("[%d,%d) behind others: %s of %d bytes, %v", c.low, c.high, span(got), size, err)
			}
		}
		// What is counted already counts.
		if got, size, err := s.db.IterateEntries(prefix, 1000, 1, 1, 1, 10, 1000+each); err != nil || len(got) != 3 || size != 1000+2*each {
			t.Errorf("with 1000 bytes counted: %s of %d bytes, %v", span(got), size, err)
		}
		s.reopen()
	}
	// A node that was never heard of.
	if got, size, err := s.db.IterateEntries(prefix, 7, 5, 5, 1, 10, 100); err != nil || len(got) != 1 || size != 7 {
		t.Errorf("of an unknown node: %s, %d, %v", span(got), size, err)
	}
}

// conformReader asks as dragonboat's log reader does for a follower that lags:
// batches of limited size, one behind the other, must give the whole log.
func conformReader(t *testing.T, s *subject) {
	r := rand.New(rand.NewPCG(1, 1))
	var entries []pb.Entry
	for i := range uint64(300) {
		entries = append(entries, pb.Entry{Index: i + 1, Term: 1, Cmd: make([]byte, r.IntN(400)*r.IntN(20))})
	}
	s.do(saves(one, pb.State{Term: 1}, entries...))
	for _, limit := range []uint64{0, 1, 100, 1000, 10_000, 100_000, math.MaxUint64} {
		for low := uint64(1); low <= 300; {
			got, err := readerEntries(s.db, one, low, 301, limit)
			if err != nil {
				t.Fatalf("limit %d: %v", limit, err)
			}
			if err := entriesDiffer(got, entries[low-1:low-1+uint64(len(got))]); err != nil {
				t.Fatalf("limit %d: %v", limit, err)
			}
			if size := sizeOf(got); size > limit && len(got) > 1 {
				t.Fatalf("limit %d: %d bytes", limit, size)
			}
			low += uint64(len(got))
		}
	}
}

// readerEntries is what dragonboat's logReader makes of IterateEntries.
func readerEntries(db raftio.ILogDB, n raftio.NodeInfo, low, high, maxSize uint64) ([]pb.Entry, error) {
	got, size, err := db.IterateEntries(make([]pb.Entry, 0, high-low), 0, n.ShardID, n.ReplicaID, low, high, maxSize)
	if err != nil {
		return nil, err
	}
	if uint64(len(got)) < high-low && size <= maxSize {
		return nil, fmt.Errorf("[%d,%d): only %s, though %d bytes are within %d: the reader takes it for a gap", low, high, span(got), size, maxSize)
	}
	if size > maxSize && len(got) > 1 {
		if maxSize == 0 {
			return got[:1], nil
		}
		got = got[:len(got)-1]
	}
	return got, nil
}

// The newest snapshot is the one.
func conformSnapshots(_ *testing.T, s *subject) {
	two := raftio.NodeInfo{ShardID: 17, ReplicaID: 1}
	s.do(saves(one, pb.State{Term: 2, Commit: 50}, run(1, 60, 2)...), saves(two, pb.State{Term: 2, Commit: 50}, run(1, 60, 2)...))
	s.do(takes(one, 10, 1))
	s.do(takes(one, 20, 2), takes(one, 15, 2), takes(one, 20, 2)) // older ones and the same do nothing
	s.do(takes(one, 19, 2))
	s.do(append(takes(one, 30, 2), takes(two, 40, 2)...)) // several in one call
	s.do(installs(one, 100, 3), takes(one, 50, 2))        // one made here comes behind one from the leader
	s.do(saves(one, pb.State{}, run(101, 102, 3)...))
}

// A snapshot from the leader makes the log begin anew behind it.
func conformInstall(_ *testing.T, s *subject) {
	s.do(installs(one, 1000, 7)) // as the first thing ever
	s.do(saves(one, pb.State{}, run(1001, 1005, 7)...))
	s.do(installs(one, 2000, 8, run(2001, 2003, 8)...)) // with entries behind it in the same update
	s.do(saves(one, pb.State{}, run(2004, 2010, 8)...))

	// Over entries that were never committed, which are gone with it.
	s.do(installs(one, 2005, 9))
	s.do(saves(one, pb.State{}, run(2006, 2006, 9)...))

	two := raftio.NodeInfo{ShardID: 17, ReplicaID: 1}
	s.do(saves(two, pb.State{Term: 1, Commit: 5}, run(1, 50, 1)...))
	s.do(append(installs(two, 60, 2, run(61, 62, 2)...), saves(one, pb.State{}, run(2007, 2007, 9)...)...))
}

func conformRemoval(t *testing.T, s *subject) {
	s.do(saves(one, pb.State{Term: 1, Commit: 90}, run(1, 100, 1)...))
	s.do(takes(one, 50, 1), removeTo{one, 40}, compactTo{one, 40})
	s.do(removeTo{one, 30}, removeTo{one, 40}) // again, and less: nothing
	s.do(takes(one, 90, 1), removeTo{one, 90}, compactTo{one, 90}, compactTo{one, 90})
	s.do(saves(one, pb.State{}, run(101, 120, 1)...))
	s.do(saves(one, pb.State{Term: 2, Commit: 91}, run(95, 96, 2)...))

	// Everything, when all of it is in a snapshot.
	two := raftio.NodeInfo{ShardID: 17, ReplicaID: 1}
	s.do(saves(two, pb.State{Term: 1, Commit: 10}, run(1, 10, 1)...), takes(two, 10, 1), removeTo{two, 10}, compactTo{two, 10})
	s.do(saves(two, pb.State{}, run(11, 12, 1)...))

	// Compactions are answered by closing, each of several at a time.
	for range 5 {
		done, err := s.db.CompactEntriesTo(1, 1, 90)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { <-done }()
	}
}

// A removed node leaves nothing, and another may have its ids.
func conformRemoveNode(t *testing.T, s *subject) {
	two := raftio.NodeInfo{ShardID: 1, ReplicaID: 2}
	for _, n := range []raftio.NodeInfo{one, two} {
		s.do(saveBootstrap{n, pb.Bootstrap{Join: true}}, saves(n, pb.State{Term: 3, Vote: 2, Commit: 20}, run(1, 30, 3)...), takes(n, 20, 3))
	}
	gone := func() {
		t.Helper()
		if err := s.m.differs(s.db, one); err != nil {
			t.Fatal(err)
		}
		if got, _, err := s.db.IterateEntries(nil, 0, 1, 1, 21, 31, math.MaxUint64); err != nil || len(got) > 0 {
			t.Fatalf("entries of a removed node: %s, %v", span(got), err)
		}
	}
	if err := s.db.RemoveNodeData(1, 1); err != nil {
		t.Fatal(err)
	}
	delete(s.m, one)
	gone()
	// NodeHost compacts what it has removed.
	if err := (compactTo{one, math.MaxUint64}).on(s.db, nil); err != nil {
		t.Fatal(err)
	}
	gone()
	s.reopen()
	gone()
	s.do(removeNode{one}) // again: nothing

	// The same ids, from the beginning, with less of everything than before.
	s.do(saveBootstrap{one, pb.Bootstrap{Addresses: map[uint64]string{1: "a:1"}}}, saves(one, pb.State{Term: 1, Commit: 3}, run(1, 5, 1)...), takes(one, 2, 1))
	s.do(saves(one, pb.State{}, run(6, 8, 1)...))
	// And once more without a reopen between. (The state is another one: pebble would
	// not save one that is as before the removal.)
	s.do(removeNode{one}, saveBootstrap{one, pb.Bootstrap{Join: true}}, saves(one, pb.State{Term: 2}, run(1, 2, 2)...))
}

// An imported snapshot is all that a node has left. The tool that imports opens the
// log for it alone, so nothing is asked before a reopen.
func conformImport(t *testing.T, s *subject) {
	imports := func(n raftio.NodeInfo, index, term uint64) {
		t.Helper()
		ss := snapshotOf(n, index, term)
		ss.Imported = true
		c := importSnapshot{n, ss}
		if err := c.on(s.db, nil); err != nil {
			t.Fatal(err)
		}
		c.apply(s.m)
		s.reopen()
	}
	imports(one, 100, 5) // of a node that was not here
	s.do(saves(one, pb.State{Term: 5, Commit: 105}, run(101, 110, 5)...), takes(one, 105, 5))

	imports(one, 50, 5) // over newer things, which are gone
	s.do(saves(one, pb.State{Term: 6, Commit: 50}, run(51, 52, 6)...))
	imports(one, 50, 6)
	s.do(saves(one, pb.State{}, run(51, 60, 6)...))
	imports(one, 200, 7)
	s.do(saves(one, pb.State{}, run(201, 203, 7)...))

	two := raftio.NodeInfo{ShardID: 17, ReplicaID: 5}
	s.do(saveBootstrap{two, pb.Bootstrap{Addresses: map[uint64]string{5: "a:1"}}}, saves(two, pb.State{Term: 9, Vote: 5, Commit: 1}, run(1, 9, 9)...))
	imports(two, 4, 2) // in an older term, without a vote
}

// One call saves the updates of several shards.
func conformSeveral(_ *testing.T, s *subject) {
	all := saveState{}
	for i := range uint64(20) {
		n := raftio.NodeInfo{ShardID: 3 + 16*i, ReplicaID: i + 1}
		switch i % 4 {
		case 0:
			all = append(all, saves(n, pb.State{Term: i + 1}, run(1, i+1, i+1)...)...)
		case 1:
			all = append(all, saves(n, pb.State{Term: i + 1, Vote: i})...)
		case 2:
			all = append(all, installs(n, 10*i, i+1)...)
		case 3:
			all = append(all, saves(n, pb.State{})...)
		}
	}
	s.do(all)
	s.do(all[0:1], all[4:10])
}

// The slice of entries is a window of raft's memory, and what comes back is the
// asker's: neither changes what is saved. (Cmd itself is never written by anyone.)
func conformOwnership(t *testing.T, s *subject) {
	window := run(1, 10, 1)
	c := saves(one, pb.State{Term: 1}, window...)
	if err := c.on(s.db, nil); err != nil {
		t.Fatal(err)
	}
	saves(one, pb.State{Term: 1}, run(1, 10, 1)...).apply(s.m)
	clear(window)
	clear(c)
	s.check("the window has moved")
	got, _, err := s.db.IterateEntries(nil, 0, 1, 1, 1, 11, math.MaxUint64)
	if err != nil {
		t.Fatal(err)
	}
	clear(got[:5])
	_ = append(got[:7], entry(99, 9))
	s.check("the asker has written to its answer")
	s.reopen()
}

// As many workers as dragonboat has save their shards at once, while others take
// snapshots, remove entries, start and remove nodes.
func conformWorkers(t *testing.T, s *subject) {
	const rounds = 30
	models := make([]model, workers)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range uint64(workers) {
		wg.Go(func() {
			w := tellSeed(i)
			w.cast = []raftio.NodeInfo{{ShardID: i, ReplicaID: 1}, {ShardID: i + 16, ReplicaID: 2}, {ShardID: i + 160, ReplicaID: 1}}
			w.removals = false // pebble needs a reopen behind one, see conformRemoveNode
			models[i], errs[i] = w.m, live(w, s.db, rounds)
		})
	}
	stop := make(chan struct{})
	var beside sync.WaitGroup
	for i := range uint64(4) { // starts and removals of nodes, which no worker has a hand in
		beside.Go(func() {
			for round := uint64(0); ; round++ {
				n := raftio.NodeInfo{ShardID: 1000 + i, ReplicaID: round + 1}
				for _, c := range []call{
					saveBootstrap{n, pb.Bootstrap{Join: true}}, takes(n, 5, 1), importSnapshot{n, snapshotOf(n, 9, 1)}, removeNode{n}, compactTo{n, math.MaxUint64},
				} {
					_, errListed := s.db.ListNodeInfo()
					if err := errors.Join(c.on(s.db, nil), errListed); err != nil {
						t.Errorf("%v: %v", c, err)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	beside.Wait()
	for i, m := range models {
		if errs[i] != nil {
			t.Fatalf("worker %d: %v", i+1, errs[i])
		}
		for n, r := range m {
			s.m[n] = r
		}
	}
	s.check("all have ended")
	s.reopen()
}

// live makes calls and looks at what they changed, as the only one who has to do
// with these nodes.
func live(w *teller, db raftio.ILogDB, rounds int) error {
	for range rounds {
		c := w.next()
		if err := c.on(db, nil); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
		c.apply(w.m)
		for _, n := range c.nodes() {
			if err := w.m.of(n).differs(db, n); err != nil {
				return fmt.Errorf("after %v: %v: %w", c, n, err)
			}
		}
	}
	return nil
}

// Others read a log that its worker writes. As with dragonboat's log reader, they ask
// for what was reported saved and not yet removed, and find it.
func conformReads(t *testing.T, s *subject) {
	const last = 160
	s.do(saveBootstrap{one, pb.Bootstrap{Join: true}}, saves(one, pb.State{Term: 1}, run(1, 10, 1)...))
	w := &window{db: s.db, node: one, first: 1, last: 10}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := w.read(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := uint64(11); i <= last; i++ {
		calls := []call{saves(one, pb.State{Term: 1, Commit: i - 5}, entry(i, 1))}
		if i%50 == 0 {
			calls = append(calls, takes(one, i-10, 1), removeTo{one, i - 30}, compactTo{one, i - 30})
			w.move(i-29, i-1)
		}
		for _, c := range calls {
			s.make(c)
		}
		w.move(w.first, i)
	}
	close(stop)
	wg.Wait()
	s.check("the readers have ended")
	s.reopen()
}

// window is what dragonboat's log reader knows to be there, and the lock under which
// it reads.
type window struct {
	db          raftio.ILogDB
	node        raftio.NodeInfo
	mu          sync.Mutex
	first, last uint64
}

func (w *window) move(first, last uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first, w.last = first, last
}

func (w *window) read() error {
	if err := w.readEntries(); err != nil {
		return err
	}
	if ss, err := w.db.GetSnapshot(w.node.ShardID, w.node.ReplicaID); err != nil || ss.Index%10 != 0 {
		return fmt.Errorf("snapshot %+v, %w", ss, err)
	}
	if nodes, err := w.db.ListNodeInfo(); err != nil || len(nodes) != 1 {
		return fmt.Errorf("nodes %v, %w", nodes, err)
	}
	_, err := w.db.GetBootstrapInfo(w.node.ShardID, w.node.ReplicaID)
	return err
}

func (w *window) readEntries() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	got, err := readerEntries(w.db, w.node, w.first, w.last+1, math.MaxUint64)
	if err != nil {
		return err
	}
	return entriesDiffer(got, run(w.first, w.last, 1))
}

// The snapshot worker saves snapshots of a node while its step worker saves entries;
// the step worker removes those that are in one.
func conformSnapshotsBeside(t *testing.T, s *subject) {
	const last = 300
	s.do(saveBootstrap{one, pb.Bootstrap{Join: true}}, saves(one, pb.State{Term: 1}, entry(1, 1)))
	committed, taken := make(chan uint64, 1), make(chan uint64, 1)
	go func() {
		defer close(taken)
		for index := range committed {
			if err := takes(one, index, 1).on(s.db, nil); err != nil {
				t.Errorf("snapshot at %d: %v", index, err)
				return
			}
			taken <- index
		}
	}()
	snapshot := func(index uint64) {
		takes(one, index, 1).apply(s.m)
		s.make(removeTo{one, max(index, 6) - 5})
		s.make(compactTo{one, max(index, 6) - 5})
	}
	for i := uint64(2); i <= last; i++ {
		s.make(saves(one, pb.State{Term: 1, Commit: i - 1}, entry(i, 1)))
		select {
		case index := <-taken:
			snapshot(index)
		case committed <- i - 1:
		default:
		}
	}
	close(committed)
	for index := range taken {
		snapshot(index)
	}
	s.check("both have ended")
	s.reopen()
}
