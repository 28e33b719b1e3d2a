package raft

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
)

// TestRosterAgrees: changes of members that the library takes and refuses are read from the
// stopped log as it applied them, before a snapshot and behind it.
func TestRosterAgrees(t *testing.T) {
	t.Parallel()
	p := losing(t, 0)
	p.propose(t, "one", 0)
	h := p.hosts[0]
	type change func(m Member, at uint64) error
	add := func(m Member, at uint64) error { return h.AddLearner(t.Context(), p.shard, m, at) }
	remove := func(m Member, at uint64) error { return h.RemoveMember(t.Context(), p.shard, m, at) }
	promote := func(m Member, at uint64) error { return h.Promote(t.Context(), p.shard, m, at) }
	for i, c := range []struct {
		do    change
		m     Member
		stale uint64 // by how much the change it names is too old
		takes bool
	}{
		{add, Member{7, 1}, 0, true},
		{add, Member{7, 1}, 0, false}, // it is one
		{add, Member{7, 2}, 0, false}, // its node has one
		{add, Member{8, 1}, 1, false}, // asked of older members
		{promote, Member{0, 0}, 0, false},
		{remove, Member{0, 0}, 0, false}, // the last voter
		{remove, Member{7, 1}, 0, true},
		{add, Member{7, 1}, 0, false},   // it was removed
		{remove, Member{9, 9}, 0, true}, // a stranger: the library counts it as a change
		{add, Member{7, 2}, 0, true},
		{add, Member{5, 0}, 0, true},
	} {
		if i == 6 {
			if err := h.Snapshot(t.Context(), p.shard, 0); err != nil {
				t.Fatal(err)
			}
		}
		now, err := h.Members(t.Context(), p.shard)
		if err != nil {
			t.Fatal(err)
		}
		err = c.do(c.m, now.Change-c.stale)
		if c.takes && err != nil || !c.takes && !errors.Is(err, ErrMembersChanged) {
			t.Fatalf("change %d: %v, taken should be %v", i, err, c.takes)
		}
	}
	want, err := h.Members(t.Context(), p.shard)
	if err != nil {
		t.Fatal(err)
	}
	p.close()
	l, g := p.stopped(t, 0)
	defer l.Close()
	if fmt.Sprint(g.Members) != fmt.Sprint(want) || len(want.Learners) != 2 {
		t.Errorf("the log says %+v, the library said %+v", g.Members, want)
	}
}

// TestGoOnBehindASnapshot: what the log has forgotten is in the machine, and its members are
// in the snapshot's record.
func TestGoOnBehindASnapshot(t *testing.T) {
	t.Parallel()
	p := losing(t, 0, 1, 2)
	p.propose(t, "one", 0, 1, 2)
	p.agreed(t)
	m := p.machines[2]
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	kept := &counting{durable: m.durable, index: m.durable, entries: slices.Clone(m.entries)}
	m.mu.Unlock()
	if err := p.hosts[2].Snapshot(t.Context(), p.shard, kept.durable); err != nil {
		t.Fatal(err)
	}
	p.propose(t, "two", 0, 1, 2)
	p.agreed(t)
	if before := p.goOn(t, 2); before.Taken || len(before.Members.Voters) != 3 {
		t.Errorf("before it had %+v", before)
	}
	p.open(t, 2, memberAddress(2))
	p.machines[2] = kept
	if err := p.hosts[2].StartPartition(p.shard, []model.NodeID{2}, kept); err != nil {
		t.Fatal(err)
	}
	p.propose(t, "three", 2)
	if got := p.text(2); got != "one,two,three" {
		t.Errorf("the node that is left has %q", got)
	}
}

// TestLostAreNotAnswered: a node that was given up is told who it meets, and nothing else.
func TestLostAreNotAnswered(t *testing.T) {
	t.Parallel()
	p := calls(t)
	p.hosts[0].options.Lost = []model.NodeID{1}
	for _, c := range []struct {
		from   int
		m      Method
		answer bool
	}{{1, MethodIdentity, true}, {1, MethodLeaders, false}, {1, methodTakeOver, false}, {2, MethodLeaders, true}} {
		_, err := p.hosts[c.from].Call(t.Context(), 0, c.m, []byte("hello"))
		if r := (*Refusal)(nil); (err == nil) != c.answer || err != nil && (!errors.As(err, &r) || r.Text != errGivenUp(1).Error()) {
			t.Errorf("call %d of node %d: %v", c.m, c.from, err)
		}
	}
}
