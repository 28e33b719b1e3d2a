package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// replica is what the log must hold of one node, by the contract of raftio.ILogDB.
type replica struct {
	boot     *pb.Bootstrap
	state    pb.State
	snapshot pb.Snapshot
	// entries are those after base. dragonboat never asks at or below base: it is
	// where it removed entries to, or where a snapshot from elsewhere was installed.
	entries []pb.Entry
	base    uint64
	// stale says that the log was reopened since the last hard state. One that only
	// moves the commit need not be durable, since raft learns it again from its peers
	// or its own log. So Commit may then be an older one, but never newer than what
	// was saved, and never below the snapshot; Term and Vote are exact.
	stale bool
}

func (r *replica) last() uint64 { return r.base + uint64(len(r.entries)) }

// after gives the entries behind an index.
func (r *replica) after(index uint64) []pb.Entry {
	return r.entries[min(max(index, r.base)-r.base, uint64(len(r.entries))):]
}

func (r *replica) term(index uint64) uint64 {
	if index > r.base {
		return r.entries[index-r.base-1].Term
	}
	return 0
}

func (r *replica) save(u pb.Update) {
	if !pb.IsEmptyState(u.State) {
		r.state, r.stale = u.State, false
	}
	if !pb.IsEmptySnapshot(u.Snapshot) { // installed: what was there is of no use
		r.snapshot, r.base, r.entries = u.Snapshot, u.Snapshot.Index, nil
	}
	if len(u.EntriesToSave) > 0 {
		keep := u.EntriesToSave[0].Index - r.base - 1
		r.entries = append(r.entries[:keep:keep], u.EntriesToSave...)
	}
}

func (r *replica) removeTo(index uint64) {
	if index > r.base {
		r.entries, r.base = r.after(index), index
	}
}

// differs tells how a log answers differently from what it must hold, nil if it
// does not.
func (r *replica) differs(db raftio.ILogDB, n raftio.NodeInfo) error {
	for _, differs := range []func(raftio.ILogDB, raftio.NodeInfo) error{r.bootDiffers, r.snapshotDiffers, r.stateDiffers, r.entriesDiffer} {
		if err := differs(db, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *replica) snapshotDiffers(db raftio.ILogDB, n raftio.NodeInfo) error {
	got, err := db.GetSnapshot(n.ShardID, n.ReplicaID)
	if err != nil {
		return fmt.Errorf("get snapshot: %w", err)
	}
	if got, want := plainSnapshot(got), plainSnapshot(r.snapshot); !reflect.DeepEqual(got, want) {
		return fmt.Errorf("snapshot %+v, want %+v", got, want)
	}
	return nil
}

func (r *replica) bootDiffers(db raftio.ILogDB, n raftio.NodeInfo) error {
	boot, err := db.GetBootstrapInfo(n.ShardID, n.ReplicaID)
	if r.boot == nil {
		if !errors.Is(err, raftio.ErrNoBootstrapInfo) {
			return fmt.Errorf("bootstrap %+v, %v, want ErrNoBootstrapInfo", boot, err)
		}
		return nil
	}
	if got, want := plainBootstrap(boot), plainBootstrap(*r.boot); err != nil || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("bootstrap %+v, %v, want %+v", got, err, want)
	}
	return nil
}

// stateDiffers asks as node.replayLog does when a replica starts.
func (r *replica) stateDiffers(db raftio.ILogDB, n raftio.NodeInfo) error {
	got, err := db.ReadRaftState(n.ShardID, n.ReplicaID, r.snapshot.Index)
	if pb.IsEmptyState(r.state) {
		if !errors.Is(err, raftio.ErrNoSavedLog) {
			return fmt.Errorf("raft state %+v, %v, want ErrNoSavedLog", got, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read raft state: %w", err)
	}
	commit := got.State.Commit
	if commit > max(r.last(), r.snapshot.Index) {
		return fmt.Errorf("commit %d is beyond the log, which ends at %d: raft does not start", commit, r.last())
	}
	exact := r.state
	exact.Commit = commit
	if got.State != exact || commit > r.state.Commit || commit < r.snapshot.Index || (commit != r.state.Commit && !r.stale) {
		return fmt.Errorf("state %+v, want %+v (stale commit allowed: %v; snapshot at %d)", got.State, r.state, r.stale, r.snapshot.Index)
	}
	want := r.after(r.snapshot.Index)
	if first, count := behind(got, r.snapshot.Index); count != uint64(len(want)) || (count > 0 && first != want[0].Index) {
		return fmt.Errorf("range: first %d, count %d behind the snapshot at %d; want %s", got.FirstIndex, got.EntryCount, r.snapshot.Index, span(want))
	}
	return nil
}

// behind cuts the range of a RaftState at the snapshot, as dragonboat's log reader
// does: a log may count the snapshot's own entry, or older ones, or not.
func behind(s raftio.RaftState, snapshot uint64) (first, count uint64) {
	end := s.FirstIndex + s.EntryCount
	first = max(s.FirstIndex, snapshot+1)
	if s.EntryCount == 0 || end <= first {
		return 0, 0
	}
	return first, end - first
}

func (r *replica) entriesDiffer(db raftio.ILogDB, n raftio.NodeInfo) error {
	got, size, err := db.IterateEntries(nil, 0, n.ShardID, n.ReplicaID, r.base+1, r.last()+1, math.MaxUint64)
	if err != nil {
		return fmt.Errorf("iterate %d..%d: %w", r.base+1, r.last(), err)
	}
	if err := entriesDiffer(got, r.entries); err != nil {
		return err
	}
	if want := sizeOf(r.entries); size != want {
		return fmt.Errorf("entries %s have %d bytes, want %d", span(got), size, want)
	}
	return nil
}

func entriesDiffer(got, want []pb.Entry) error {
	if len(got) != len(want) {
		return fmt.Errorf("entries %s, want %s", span(got), span(want))
	}
	for i := range got {
		if !sameEntry(got[i], want[i]) {
			return fmt.Errorf("entry %s, want %s", show(got[i]), show(want[i]))
		}
	}
	return nil
}

// sameEntry compares all fields; see conformFields. No command and an empty one are
// one.
func sameEntry(a, b pb.Entry) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && a.Key == b.Key && a.ClientID == b.ClientID &&
		a.SeriesID == b.SeriesID && a.RespondedTo == b.RespondedTo && bytes.Equal(a.Cmd, b.Cmd)
}

// sizeOf is how dragonboat counts entries against a maxSize, in bytes.
func sizeOf(entries []pb.Entry) (size uint64) {
	for _, e := range entries {
		size += uint64(e.SizeUpperLimit())
	}
	return size
}

func span(entries []pb.Entry) string {
	if len(entries) == 0 {
		return "none"
	}
	a, z := entries[0], entries[len(entries)-1]
	return fmt.Sprintf("%d..%d (%d of them, terms %d..%d)", a.Index, z.Index, len(entries), a.Term, z.Term)
}

func show(e pb.Entry) string {
	cmd := e.Cmd
	e.Cmd = nil
	return fmt.Sprintf("%+v with %d bytes %.16x", e, len(cmd), cmd)
}

// plainSnapshot and plainBootstrap give what decoding gives, where nil and empty
// maps are one.
func plainSnapshot(s pb.Snapshot) (plain pb.Snapshot) {
	pb.MustUnmarshal(&plain, pb.MustMarshal(&s))
	return plain
}

func plainBootstrap(b pb.Bootstrap) (plain pb.Bootstrap) {
	pb.MustUnmarshal(&plain, pb.MustMarshal(&b))
	return plain
}

// model is what a log must hold, by node. A node that is not in it left nothing.
type model map[raftio.NodeInfo]*replica

// of gives a node's replica, an empty one if there is none.
func (m model) of(n raftio.NodeInfo) *replica {
	if r := m[n]; r != nil {
		return r
	}
	return &replica{}
}

func (m model) make(n raftio.NodeInfo) *replica {
	if m[n] == nil {
		m[n] = &replica{}
	}
	return m[n]
}

func (m model) clone() model {
	c := maps.Clone(m)
	for n, r := range c {
		copied := *r
		copied.entries = slices.Clone(r.entries)
		c[n] = &copied
	}
	return c
}

// reopened says that the log is opened anew. Then dragonboat begins behind the
// snapshot, and never asks for what it had kept before it for laggards.
func (m model) reopened() {
	for _, r := range m {
		r.stale = true
		r.removeTo(r.snapshot.Index)
	}
}

// differs compares all a log holds, and of the nodes in gone that nothing is left.
func (m model) differs(db raftio.ILogDB, gone ...raftio.NodeInfo) error {
	for _, n := range append(slices.Collect(maps.Keys(m)), gone...) {
		if err := m.of(n).differs(db, n); err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
	}
	return m.listDiffers(db)
}

func (m model) listDiffers(db raftio.ILogDB) error {
	got, err := db.ListNodeInfo()
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	want := map[raftio.NodeInfo]bool{}
	for n, r := range m {
		if r.boot != nil {
			want[n] = true
		}
	}
	seen := map[raftio.NodeInfo]bool{}
	for _, n := range got {
		if seen[n] || !want[n] {
			return fmt.Errorf("listed nodes %v, want each of %v once", got, slices.Collect(maps.Keys(want)))
		}
		seen[n] = true
	}
	if len(seen) != len(want) {
		return fmt.Errorf("listed nodes %v, want %v", got, slices.Collect(maps.Keys(want)))
	}
	return nil
}
