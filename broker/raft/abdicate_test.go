package raft

import (
	"slices"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// TestAbdicates: a leader that hears nobody, and is heard, has its followers elect another
// before any of them misses it.
func TestAbdicates(t *testing.T) {
	t.Parallel()
	p := united(t, shard)
	leader := p.propose(t, "together", 0, 1, 2)
	p.agreed(t)
	led, _ := p.hosts[leader].Leader(shard)
	others := []int{(leader + 1) % 3, (leader + 2) % 3}
	var heard []<-chan pb.Message
	for _, n := range others {
		heard = append(heard, p.overhear(n, func(m pb.Message) bool { return m.Type == pb.RequestPreVote || unasked(m) }))
	}
	e := p.hosts[leader].ears[hostOf(shard)].Load()
	deaf := *e
	deaf.messages = func(pb.MessageBatch) {}
	p.hosts[leader].ears[hostOf(shard)].Store(&deaf)

	var first pb.Message
	select {
	case first = <-heard[0]:
	case first = <-heard[1]:
	case <-time.After(peersPatience):
		t.Fatal("nobody stands")
	}
	if !unasked(first) {
		t.Errorf("the first that a follower heard of an election is %+v", first)
	}
	p.propose(t, "without him", others...)
	if now, ok := p.hosts[others[0]].Leader(shard); !ok || int(now.Leader) == leader || now.Term <= led.Term {
		t.Errorf("%+v leads, after %+v", now, led)
	}
}

// TestReigns: a reign has ended without a successor where the term goes on without leader.
func TestReigns(t *testing.T) {
	const us, them = 1, 2
	var r reigns
	lead := func(shard, leader, term uint64) bool {
		return r.note(raftio.LeaderInfo{ShardID: shard, ReplicaID: us, LeaderID: leader, Term: term})
	}
	for shard := range uint64(4) {
		lead(shard, 0, 1)
		lead(shard, us, 2)
	}
	if lead(0, them, 3) || lead(1, 0, 3) {
		t.Error("who is deposed abdicates")
	}
	if !lead(2, 0, 2) || lead(3, 0, 2) || lead(3, 0, 2) {
		t.Error("of two that abdicate not the first is the first")
	}
	if got, want := r.take(), []reign{{2, 2}, {3, 2}}; !slices.Equal(got, want) {
		t.Errorf("ended: %v, want %v", got, want)
	}
	lead(3, us, 4)
	if r.forget(3); lead(3, 0, 4) {
		t.Error("a shard that is gone is abdicated")
	}
}

// TestTakeOverBytes: a node is asked for several shards at once; what it does not have it refuses,
// and takes the rest.
func TestTakeOverBytes(t *testing.T) {
	t.Parallel()
	p := united(t, shard)
	leader := p.propose(t, "together", 0, 1, 2)
	p.agreed(t)
	h := p.hosts[(leader+1)%3]
	for _, b := range [][]byte{nil, make([]byte, takeOverBytes-1), make([]byte, takeOverBytes+1)} {
		if h.takeOver(model.NodeID(leader), b) == nil {
			t.Errorf("%d bytes are taken", len(b))
		}
	}
	const missing = 3 * hostShards
	if err := h.takeOver(model.NodeID(leader), appendTakeOver(appendTakeOver(nil, missing, 0), shard, 0)); err == nil {
		t.Error("a shard that is not here is taken over")
	}
	p.propose(t, "by another", (leader+1)%3)
}
