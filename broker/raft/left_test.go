package raft

import (
	"slices"
	"testing"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// TestLeft: of two voters the leader is taken out, by itself, and stops before the other
// knows that this is decided. Started again it votes, though its own log says that it is out.
func TestLeft(t *testing.T) {
	t.Parallel()
	p := moving(t, shard)
	p.propose(t, "alone", 0)
	p.enter(t, 0, Member{1, 1})
	p.leads(t, 0, 1)
	p.propose(t, "together", 1)
	h := p.hosts[1]
	p.same(t, 1, 0)
	last, _, err := h.Followers(shard, 0)
	if err != nil {
		t.Fatal(err)
	}
	e := p.hosts[0].ears[hostOf(shard)].Load()
	unaware := *e
	unaware.messages = func(b pb.MessageBatch) {
		b.Requests = slices.Clone(b.Requests)
		for i := range b.Requests {
			b.Requests[i].Commit = min(b.Requests[i].Commit, last)
		}
		e.messages(b)
	}
	p.hosts[0].ears[hostOf(shard)].Store(&unaware)
	m, err := h.Members(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.RemoveMember(t.Context(), shard, Member{1, 1}, m.Change); err != nil {
		t.Log(err) // it stops before it has answered
	}
	for deadline := time.Now().Add(peersPatience); h.Running(shard) && time.Now().Before(deadline); {
		<-time.After(tickMilliseconds * time.Millisecond / 8)
	}
	<-time.After(tickMilliseconds * time.Millisecond / 4) // what was held back has come
	p.hosts[0].ears[hostOf(shard)].Store(e)
	if err := h.Stop(shard); err != nil {
		t.Fatal(err)
	}
	s, err := h.journal.ReadRaftState(uint64(shard), h.own(shard), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.State.Commit = s.FirstIndex + s.EntryCount - 1
	if err := h.journal.SaveRaftState([]pb.Update{{ShardID: uint64(shard), ReplicaID: h.own(shard), State: s.State}}, 1); err != nil {
		t.Fatal(err)
	}
	p.machines[1] = &counting{}
	if err := h.StartReplica(Replica{Shard: shard, Birth: 1, Joins: true}, p.machines[1]); err != nil {
		t.Fatal(err)
	}
	p.propose(t, "alone again", 0)
	if got := p.members(t, 0); got != "[{0 0}] []" {
		t.Errorf("members %s", got)
	}
}
