package raft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// moving are peers whose group is made by node 0 alone.
func moving(t *testing.T, of model.ShardID) *peers {
	t.Helper()
	p := &peers{net: transport.NewMemory(), shard: of}
	for n := range p.hosts {
		p.dirs[n], p.machines[n] = t.TempDir(), &counting{}
		p.open(t, n, memberAddress(n))
	}
	t.Cleanup(func() {
		for _, h := range p.hosts {
			h.Close()
		}
	})
	p.meet()
	if err := p.hosts[0].StartPartition(of, []model.NodeID{0}, p.machines[0]); err != nil {
		t.Fatal(err)
	}
	return p
}

func memberAddress(n int) string { return fmt.Sprintf("node-%d:1", n) }

func (p *peers) meet() {
	for _, h := range p.hosts {
		for m := range p.hosts {
			h.SetAddress(model.NodeID(m), memberAddress(m))
		}
	}
}

// change asks who is in and makes one change, until it is done.
func (p *peers) change(t *testing.T, by int, do func(h *Host, change uint64) error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(peersPatience); time.Now().Before(deadline); {
		var m Members
		if m, err = p.hosts[by].Members(t.Context(), p.shard); err == nil {
			if err = do(p.hosts[by], m.Change); err == nil {
				return
			}
		}
		<-time.After(tickMilliseconds * time.Millisecond / 8)
	}
	t.Fatal(err)
}

// enter has a node join as a learner, catch up and become a voter.
func (p *peers) enter(t *testing.T, by int, m Member) {
	t.Helper()
	p.change(t, by, func(h *Host, change uint64) error { return h.AddLearner(t.Context(), p.shard, m, change) })
	n := int(m.Node)
	p.machines[n] = &counting{}
	if err := p.hosts[n].StartReplica(Replica{Shard: p.shard, Birth: m.Birth, Joins: true}, p.machines[n]); err != nil {
		t.Fatal(err)
	}
	p.same(t, by, n)
	p.change(t, by, func(h *Host, change uint64) error { return h.Promote(t.Context(), p.shard, m, change) })
}

// same waits until one node has applied all that another has now.
func (p *peers) same(t *testing.T, as, n int) {
	t.Helper()
	want := p.machines[as].seen()
	for deadline := time.Now().Add(peersPatience); time.Now().Before(deadline); {
		if got := p.machines[n].seen(); len(got) >= len(want) {
			if !slices.EqualFunc(got[:len(want)], want, bytes.Equal) {
				t.Fatalf("node %d has %q, node %d %q", n, got, as, want)
			}
			return
		}
		<-time.After(tickMilliseconds * time.Millisecond / 8)
	}
	t.Fatalf("node %d has %q, node %d %q", n, p.machines[n].seen(), as, want)
}

func (p *peers) members(t *testing.T, by int) string {
	t.Helper()
	m, err := p.hosts[by].Members(t.Context(), p.shard)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(m.Voters, m.Learners)
}

// leads waits until a node is the leader, which another hands over to it.
func (p *peers) leads(t *testing.T, from, n int) {
	t.Helper()
	for deadline := time.Now().Add(peersPatience); time.Now().Before(deadline); {
		if c, ok := p.hosts[n].Leader(p.shard); ok && int(c.Leader) == n {
			return
		}
		if c, ok := p.hosts[from].Leader(p.shard); ok && int(c.Leader) == from {
			if err := p.hosts[from].Transfer(p.shard, model.NodeID(n)); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(tickMilliseconds * time.Millisecond)
	}
	t.Fatalf("node %d does not lead", n)
}

// TestMembers: a group of one grows to three, leaves its founder, and takes it back
// under another birth; each is started again in between.
func TestMembers(t *testing.T) {
	for name, of := range map[string]model.ShardID{"first host": shard, "fourth host": 3*hostShards + shard} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testMembers(t, of)
		})
	}
}

func testMembers(t *testing.T, of model.ShardID) {
	p := moving(t, of)
	p.propose(t, "alone", 0)
	p.enter(t, 0, Member{1, 1})
	p.enter(t, 0, Member{2, 2})
	if got := p.members(t, 0); got != "[{0 0} {1 1} {2 2}] []" {
		t.Fatalf("members %s", got)
	}
	p.propose(t, "together", 0, 1, 2)
	p.agreed(t)

	// What they hold of each other is in their logs.
	for n := range p.hosts {
		p.restart(t, n, false)
	}
	p.propose(t, "again", 0, 1, 2)
	p.agreed(t)

	p.leads(t, leader(t, p), 1)
	p.change(t, 1, func(h *Host, change uint64) error { return h.RemoveMember(t.Context(), of, Member{0, 0}, change) })
	p.propose(t, "without 0", 1)
	if err := errors.Join(p.hosts[0].Stop(of), p.hosts[0].Remove(of)); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.hosts[0].Birth(of); ok || p.hosts[0].HasLog(of) {
		t.Error("node 0 has a replica that was removed")
	}
	p.refusesDead(t)
	p.enter(t, 1, Member{0, 3})
	if got := p.members(t, 1); got != "[{1 1} {2 2} {0 3}] []" {
		t.Fatalf("members %s", got)
	}
	p.propose(t, "with 0", 0, 1, 2)
	p.agreed(t)
	p.leads(t, 1, 0)
	for n := range p.hosts {
		p.restart(t, n, true)
	}
	p.propose(t, "at last", 0, 1, 2)
	p.agreed(t)
}

// refusesDead: an id that was removed never comes back, and an older replica is never
// taken for a newer.
func (p *peers) refusesDead(t *testing.T) {
	t.Helper()
	m, err := p.hosts[1].Members(t.Context(), p.shard)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.hosts[1].AddLearner(t.Context(), p.shard, Member{0, 0}, m.Change); !errors.Is(err, ErrMembersChanged) {
		t.Errorf("a removed replica comes back: %v", err)
	}
	if err := p.hosts[1].AddLearner(t.Context(), p.shard, Member{2, 7}, m.Change); !errors.Is(err, ErrMembersChanged) {
		t.Errorf("a node has two replicas: %v", err)
	}
	if err := p.hosts[1].RemoveMember(t.Context(), p.shard, Member{2, 2}, m.Change-1); !errors.Is(err, ErrMembersChanged) {
		t.Errorf("a change of other members: %v", err)
	}
	err = p.hosts[2].StartReplica(Replica{Shard: p.shard, Birth: 7, Joins: true}, &counting{})
	if !errors.Is(err, ErrOtherReplica) {
		t.Errorf("a second replica starts: %v", err)
	}
	ahead := &counting{durable: 5, index: 5}
	err = p.hosts[0].StartReplica(Replica{Shard: p.shard, Birth: 3, Joins: true}, ahead)
	if _, has := p.hosts[0].Birth(p.shard); !errors.Is(err, ErrLogDamaged) || has {
		t.Errorf("a machine without its log starts: %v", err)
	}
}

func leader(t *testing.T, p *peers) int {
	t.Helper()
	return p.propose(t, "who leads", 0, 1, 2)
}

// restart closes a node and starts its replica with all that it had, where its log has
// forgotten that, or with nothing, so that the log brings it all again.
func (p *peers) restart(t *testing.T, n int, forgotten bool) {
	t.Helper()
	h, was, m := p.hosts[n], p.machines[n], &counting{}
	birth, ok := h.Birth(p.shard)
	if forgotten {
		was.mu.Lock()
		through := was.index
		was.mu.Unlock()
		if err := h.Snapshot(t.Context(), p.shard, through); err != nil {
			t.Fatal(err)
		}
	}
	h.Close()
	if forgotten {
		m.entries, m.index, m.durable = was.seen(), was.durable, was.durable
	}
	p.machines[n] = m
	p.open(t, n, memberAddress(n))
	p.meet()
	if again, found := p.hosts[n].Birth(p.shard); again != birth || found != ok {
		t.Fatalf("node %d has birth %d after %d", n, again, birth)
	}
	err := p.hosts[n].StartReplica(Replica{Shard: p.shard, Birth: birth, Members: []model.NodeID{0, 1, 2}, Joins: true}, m)
	if err != nil {
		t.Fatal(err)
	}
}

// TestFounderComesLate: a founder that first starts when the group has changed joins it
// under birth 0: what it would make the group of is not what the group is.
func TestFounderComesLate(t *testing.T) {
	t.Parallel()
	p := &peers{net: transport.NewMemory(), shard: shard}
	for n := range p.hosts {
		p.dirs[n], p.machines[n] = t.TempDir(), &counting{}
		p.open(t, n, memberAddress(n))
	}
	t.Cleanup(func() {
		for _, h := range p.hosts {
			h.Close()
		}
	})
	p.meet()
	p.start(t, 0)
	p.start(t, 1)
	p.propose(t, "without 2", 0, 1)
	for _, n := range []int{0, 1} {
		p.leads(t, 1-n, n)
	}
	late := Replica{Shard: shard, Members: []model.NodeID{1, 2}, Joins: true}
	if err := p.hosts[2].StartReplica(late, p.machines[2]); err != nil {
		t.Fatal(err)
	}
	p.same(t, 1, 2)
	p.change(t, 1, func(h *Host, change uint64) error { return h.RemoveMember(t.Context(), shard, Member{0, 0}, change) })
	p.propose(t, "without 0", 1, 2)
	p.same(t, 1, 2)
	p.restart(t, 2, false)
	p.leads(t, 1, 2)
	p.propose(t, "led by 2", 1, 2)
	p.same(t, 2, 1)
}
