package journal_test

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// teller makes up what dragonboat might do next, call by call. It is legal as raft
// is: terms and commits do not go back, only what is not committed is overwritten, a
// snapshot made here is of what is committed, and one from elsewhere is beyond it.
type teller struct {
	r *rand.Rand
	// m is what the log holds. The teller reads it; who makes the calls applies them.
	m        model
	cast     []raftio.NodeInfo
	cmdMax   int // bytes of the largest command
	removals bool
	retired  map[raftio.NodeInfo]bool // ids that are not used again, if not nil
	ahead    []call                   // the rest of what it has begun to tell
	made     uint64                   // commands so far, so that no two are alike
}

// cast has shards of one worker and of several, and two replicas of one shard.
var cast = []raftio.NodeInfo{
	{ShardID: 1, ReplicaID: 1}, {ShardID: 17, ReplicaID: 1}, {ShardID: 33, ReplicaID: 1}, {ShardID: 33, ReplicaID: 2},
	{ShardID: 2, ReplicaID: 1}, {ShardID: 15, ReplicaID: 3}, {ShardID: 1<<40 + 2, ReplicaID: 1 << 50},
}

func tell(r *rand.Rand, m model) *teller {
	return &teller{r: r, m: m, cast: cast, cmdMax: 20 << 10, removals: true}
}

func tellSeed(seed uint64) *teller { return tell(rand.New(rand.NewPCG(seed, 1)), model{}) }

// next is the next call, to be made and applied before the one after it is asked for.
func (s *teller) next() call {
	if len(s.ahead) > 0 {
		c := s.ahead[0]
		s.ahead = s.ahead[1:]
		return c
	}
	n := s.cast[s.r.IntN(len(s.cast))]
	for s.retired[n] {
		n.ReplicaID++
	}
	r := s.m.of(n)
	if r.boot == nil {
		return saveBootstrap{n, s.bootstrap()}
	}
	switch s.r.IntN(20) {
	case 0, 1, 2:
		if r.state.Commit > r.snapshot.Index {
			return s.snapshot(n, r)
		}
	case 3:
		if s.removals && s.r.IntN(3) == 0 {
			if s.retired != nil {
				s.retired[n] = true
			}
			return removeNode{n}
		}
	}
	return s.turn(n)
}

// turn is what one step of a worker saves: an update of n, and of some of the other
// shards of its worker.
func (s *teller) turn(n raftio.NodeInfo) saveState {
	updates := saveState{s.update(n)}
	taken := map[uint64]bool{n.ShardID: true} // a worker has one replica of a shard
	for _, other := range s.cast {
		if !taken[other.ShardID] && worker(other.ShardID) == worker(n.ShardID) && s.m.of(other).boot != nil && s.r.IntN(2) == 0 {
			updates = append(updates, s.update(other))
			taken[other.ShardID] = true
		}
	}
	return updates
}

func (s *teller) update(n raftio.NodeInfo) pb.Update {
	r := s.m.of(n)
	u := pb.Update{ShardID: n.ShardID, ReplicaID: n.ReplicaID, FastApply: s.r.IntN(2) == 0}
	state := r.state
	if state.Term == 0 || s.r.IntN(10) == 0 {
		state.Term, state.Vote = state.Term+1, s.r.Uint64N(4)
	}
	last := r.last()
	switch s.r.IntN(16) {
	case 0:
		return u // a turn without anything to save
	case 1: // the term alone, or not even that
	case 2, 3: // the commit alone
		state.Commit += s.r.Uint64N(last - state.Commit + 1)
	case 4: // entries of a new leader over those of an old one
		if last > state.Commit {
			state.Term++
			from := state.Commit + 1 + s.r.Uint64N(last-state.Commit)
			u.EntriesToSave = s.entries(from, state.Term)
		}
	case 5: // a snapshot from the leader, behind a gap or over what was not committed
		state.Commit += 1 + s.r.Uint64N(last-state.Commit+20)
		u.Snapshot = s.snapshotAt(n, state.Commit, state.Term)
		if s.r.IntN(2) == 0 {
			u.EntriesToSave = s.entries(state.Commit+1, state.Term)
		}
	default:
		u.EntriesToSave = s.entries(last+1, state.Term)
		last += uint64(len(u.EntriesToSave))
		if s.r.IntN(3) == 0 { // a leader tells what is committed along with entries
			state.Commit += s.r.Uint64N(last - state.Commit + 1)
		}
	}
	if state != r.state {
		u.State = state
	}
	return u
}

// snapshot is a snapshot made here, and the log's removal behind it.
func (s *teller) snapshot(n raftio.NodeInfo, r *replica) call {
	index := r.snapshot.Index + 1 + s.r.Uint64N(r.state.Commit-r.snapshot.Index)
	index = max(index, r.base) // no term is known below
	term := max(r.term(index), r.snapshot.Term, 1)
	if keep := s.r.Uint64N(8); index > r.base+keep && s.r.IntN(4) > 0 {
		s.ahead = append(s.ahead, removeTo{n, index - keep}, compactTo{n, index - keep})
	}
	return saveSnapshots{{ShardID: n.ShardID, ReplicaID: n.ReplicaID, Snapshot: s.snapshotAt(n, index, term)}}
}

func (s *teller) snapshotAt(n raftio.NodeInfo, index, term uint64) pb.Snapshot {
	ss := pb.Snapshot{
		Filepath: "snapshot", FileSize: s.r.Uint64N(1 << 30), Index: index, Term: term, ShardID: n.ShardID,
		Membership: pb.Membership{ConfigChangeId: index, Addresses: map[uint64]string{n.ReplicaID: "a:1", 7: "b:2"}},
		Type:       pb.OnDiskStateMachine, OnDiskIndex: index, Dummy: s.r.IntN(2) == 0,
	}
	if s.r.IntN(4) == 0 {
		ss.Membership.Removed = map[uint64]bool{9: true}
		ss.Files = []*pb.SnapshotFile{{Filepath: "f", FileSize: 3, FileId: 1, Metadata: []byte("m")}}
		ss.Checksum = []byte("12345678")
	}
	return ss
}

func (s *teller) bootstrap() pb.Bootstrap {
	return pb.Bootstrap{Addresses: map[uint64]string{1: "a:1", s.r.Uint64N(100): "b:2"}, Join: s.r.IntN(2) == 0, Type: pb.OnDiskStateMachine}
}

// imported is an import of a snapshot for any node.
func (s *teller) imported() importSnapshot {
	n := s.cast[s.r.IntN(len(s.cast))]
	r := s.m.of(n)
	index := 1 + s.r.Uint64N(r.last()+10)
	return importSnapshot{n, s.snapshotAt(n, index, max(r.state.Term, 1))}
}

func (s *teller) entries(from, term uint64) []pb.Entry {
	n := 1 + s.r.Uint64N(5)
	if s.r.IntN(10) == 0 {
		n = 40
	}
	entries := make([]pb.Entry, n)
	for i := range entries {
		entries[i] = pb.Entry{Index: from + uint64(i), Term: term, Type: pb.EntryType(s.r.IntN(4)), Cmd: s.command()}
		if s.r.IntN(4) == 0 {
			entries[i].Key, entries[i].ClientID = s.r.Uint64(), s.r.Uint64()
			entries[i].SeriesID, entries[i].RespondedTo = s.r.Uint64(), s.r.Uint64N(100)
		}
	}
	return entries
}

// command makes mostly small commands, no two of which are alike.
func (s *teller) command() []byte {
	s.made++
	size := s.r.IntN(200)
	switch s.r.IntN(40) {
	case 0:
		size = s.r.IntN(s.cmdMax + 1)
	case 1, 2:
		size = s.r.IntN(min(s.cmdMax, 5000) + 1)
	case 3:
		return nil
	}
	b := make([]byte, 0, size+8)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, s.made<<20|uint64(len(b)))
	}
	return b[:size]
}
