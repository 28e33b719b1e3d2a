package raft

import (
	"errors"
	"slices"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// pad takes the log of a replica that is alone to where its machine stands, if that has files
// from another node which are ahead of it: nobody is left to send what is between, which
// the machine has and passes over. New commands would be passed over with it.
func (h *Host) pad(r *Replica, m StateMachine) error {
	applied, err := m.Open(nil)
	if err != nil || applied == 0 || applied > r.Installed {
		return err // beyond what was installed the log has lost something: CheckLog says so
	}
	l := &StoppedLog{node: h.node, dir: h.options.Dir, journal: h.journal}
	g := Group{Shard: r.Shard, Birth: r.Birth}
	self := l.Self(&g)
	ss, err := h.journal.GetSnapshot(uint64(r.Shard), self.id())
	if err != nil {
		return err
	}
	rs, err := h.journal.ReadRaftState(uint64(r.Shard), self.id(), ss.Index)
	if errors.Is(err, raftio.ErrNoSavedLog) || err == nil && rs.FirstIndex+rs.EntryCount > applied {
		return nil
	}
	if err == nil {
		err = l.read(&g)
	}
	if err != nil {
		return err
	}
	alone := []Member{self}
	if g.Damaged != "" || !slices.Equal(g.Members.Voters, alone) || !slices.Equal(g.Decided.Voters, alone) {
		return nil // its leader sends it
	}
	h.log.Warn("raft log padded to where its partition stands", "shard", r.Shard, "last", g.LastIndex, "applied", applied)
	var es []pb.Entry
	for i := g.LastIndex + 1; i <= applied; i++ {
		es = append(es, pb.Entry{Type: pb.ApplicationEntry, Term: g.Term + 1, Index: i})
	}
	state := pb.State{Term: g.Term + 1, Vote: self.id(), Commit: applied}
	return h.journal.SaveRaftState([]pb.Update{{ShardID: uint64(r.Shard), ReplicaID: self.id(), State: state, EntriesToSave: es}}, 0)
}
