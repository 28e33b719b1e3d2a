package raft

import (
	"context"
	"slices"
	"testing"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// TestNudge: a learner that the library would never ask is asked once it is nudged. Where the
// machine is so busy that nothing is left unconfirmed it is tried again.
func TestNudge(t *testing.T) {
	t.Parallel()
	for range 10 {
		p := moving(t, shard)
		if !leftUnasked(t, p) {
			continue
		}
		p.hosts[0].Nudge(shard, Member{2, 1})
		p.same(t, 0, 2)
		return
	}
	t.Error("it comes on by itself, each time")
}

// leftUnasked has a voter leave while a read index waits for its word. One is left alone,
// and a learner that first hears of it late should get no log.
func leftUnasked(t *testing.T, p *peers) bool {
	p.propose(t, "alone", 0)
	p.enter(t, 0, Member{1, 1})
	p.propose(t, "together", 0, 1)
	p.leads(t, 1, 0)
	e := p.hosts[0].ears[hostOf(shard)].Load()
	unconfirmed := *e
	unconfirmed.messages = func(b pb.MessageBatch) {
		b.Requests = slices.DeleteFunc(slices.Clone(b.Requests), func(m pb.Message) bool { return m.Type == pb.HeartbeatResp && m.Hint != 0 })
		e.messages(b)
	}
	m, err := p.hosts[0].Members(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	p.hosts[0].ears[hostOf(shard)].Store(&unconfirmed)
	waiting := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		waiting <- p.hosts[0].Barrier(ctx, shard)
	}()
	<-time.After(tickMilliseconds * time.Millisecond / 8)
	removed := p.hosts[0].RemoveMember(t.Context(), shard, Member{1, 1}, m.Change)
	confirmed := <-waiting == nil
	p.hosts[0].ears[hostOf(shard)].Store(e)
	if removed != nil || confirmed {
		return false
	}
	p.propose(t, "alone again", 0)
	p.change(t, 0, func(h *Host, change uint64) error { return h.AddLearner(t.Context(), shard, Member{2, 1}, change) })
	p.propose(t, "to nobody", 0) // it is sent, and lost
	p.machines[2] = &counting{}
	if err := p.hosts[2].StartReplica(Replica{Shard: shard, Birth: 1, Joins: true}, p.machines[2]); err != nil {
		t.Fatal(err)
	}
	p.propose(t, "more", 0)
	<-time.After(5 * tickMilliseconds * time.Millisecond)
	return len(p.machines[2].seen()) == 0
}
