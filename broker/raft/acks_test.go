package raft

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// TestAcks: an acknowledgement counts for the term that it was given in, and only
// answers of followers are noted.
func TestAcks(t *testing.T) {
	const of, node = uint64(shard), model.NodeID(4)
	a := newAcks()
	hear := func(m pb.Message) {
		m.ShardID, m.From = of, replicaID(node, 2)
		a.note([]pb.Message{m})
	}
	want := func(term, match uint64) {
		t.Helper()
		all := a.of(of, term)
		if len(all) != 1 || all[0].Member != (Member{node, 2}) || all[0].Match != match {
			t.Fatalf("of term %d: %+v, want one that has %d", term, all, match)
		}
	}
	hear(pb.Message{Type: pb.Replicate, Term: 3, LogIndex: 9})
	if all := a.of(of, 3); len(all) != 0 {
		t.Fatalf("what a leader says was noted: %+v", all)
	}
	hear(pb.Message{Type: pb.HeartbeatResp, Term: 3})
	want(3, 0)
	hear(pb.Message{Type: pb.ReplicateResp, Term: 3, LogIndex: 9})
	hear(pb.Message{Type: pb.ReplicateResp, Term: 3, LogIndex: 8}) // overtaken on its way
	want(3, 9)
	hear(pb.Message{Type: pb.ReplicateResp, Term: 3, LogIndex: 20, Reject: true})
	want(3, 9)
	hear(pb.Message{Type: pb.ReplicateResp, Term: 5, LogIndex: 7})
	want(5, 7)
	if all := a.of(of, 3); len(all) != 0 {
		t.Errorf("an old term still has %+v", all)
	}
	hear(pb.Message{Type: pb.ReplicateResp, Term: 3, LogIndex: 30})
	want(5, 7)
	before := a.of(of, 5)[0].Answered
	hear(pb.Message{Type: pb.HeartbeatResp, Term: 5})
	if at := a.of(of, 5)[0].Answered; at.Before(before) {
		t.Errorf("heard at %s, then at %s", before, at)
	}
	a.forget(of)
	if all := a.of(of, 5); len(all) != 0 {
		t.Errorf("forgotten, and there is %+v", all)
	}
}

// TestAwaitFollowers: who waits goes on with the answer that it waits for, of a member, of
// this term.
func TestAwaitFollowers(t *testing.T) {
	h := &Host{acks: newAcks()}
	hear := func(m Member, term, index uint64) {
		h.acks.note([]pb.Message{{Type: pb.ReplicateResp, ShardID: uint64(shard), From: m.id(), Term: term, LogIndex: index}})
	}
	one, two, removed := Member{1, 0}, Member{2, 3}, Member{2, 1}
	there := make(chan bool, 1)
	go func() { there <- h.AwaitFollowers(t.Context(), shard, 7, 20, []Member{one, two}, 2) }()
	hear(one, 7, 25)
	hear(removed, 7, 25)
	hear(two, 6, 30)
	hear(two, 7, 19)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if h.AwaitFollowers(ctx, shard, 7, 20, []Member{one, two}, 2) || len(there) > 0 {
		t.Fatal("one of two has it")
	}
	hear(two, 7, 20)
	if !<-there {
		t.Error("both have it")
	}
}

// followed waits until whoever leads, of these nodes, has heard that the rest of them,
// and nobody else, has all of its log.
func (p *peers) followed(t *testing.T, nodes ...int) {
	t.Helper()
	var said []string
	for deadline := time.Now().Add(peersPatience); time.Now().Before(deadline); {
		said = nil
		for _, n := range nodes {
			c, _ := p.hosts[n].Leader(p.shard)
			last, all, err := p.hosts[n].Followers(p.shard, c.Term)
			if err != nil {
				t.Fatal(err)
			}
			whole := []int{n}
			for _, f := range all {
				if f.Match >= last && time.Since(f.Answered) < 2*tickMilliseconds*time.Millisecond {
					whole = append(whole, int(f.Node))
				}
			}
			if slices.Sort(whole); slices.Equal(whole, nodes) {
				return
			}
			said = append(said, fmt.Sprintf("node %d: %d leads in term %d, up to %d: %+v", n, c.Leader, c.Term, last, all))
		}
		<-time.After(tickMilliseconds * time.Millisecond / 4)
	}
	t.Fatalf("none hears that all of %v have all:\n%s", nodes, strings.Join(said, "\n"))
}

// BenchmarkAcks is what a leader of 4,096 shards pays for each answer.
func BenchmarkAcks(b *testing.B) {
	a := newAcks()
	all := make([]pb.Message, 4096)
	for i := range all {
		all[i] = pb.Message{Type: pb.ReplicateResp, ShardID: uint64(i), From: 2, Term: 1}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m := all[i%len(all):][:1]
		m[0].LogIndex++
		a.note(m)
	}
}
