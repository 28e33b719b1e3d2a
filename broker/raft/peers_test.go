package raft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// peers are three Hosts on a network in memory.
type peers struct {
	shard    model.ShardID
	net      *transport.Memory
	dirs     [3]string
	hosts    [3]*Host
	machines [3]*counting
	// answer, if set, is what a node does with calls.
	answer func(n int, from model.NodeID, m Method, body []byte) ([]byte, error)
	// pullers, where set, are started instead of machines, which they have in them.
	pullers [3]*pulling
	// synced, if set, is told of every write to a node's log, which has not returned yet.
	synced func(n int)
}

func (p *peers) open(t *testing.T, n int, address string) {
	t.Helper()
	var answer func(context.Context, model.NodeID, Method, []byte) ([]byte, error)
	if p.answer != nil {
		answer = func(_ context.Context, from model.NodeID, m Method, body []byte) ([]byte, error) {
			return p.answer(n, from, m, body)
		}
	}
	h, err := Open(Options{
		Answer: answer,
		Synced: func(int, time.Duration) {
			if p.synced != nil {
				p.synced(n)
			}
		},
		Dir: p.dirs[n], Node: model.NodeID(n), Listen: address, Advertise: address,
		Network: p.net.Node(fmt.Sprint(n)), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		JournalFileBytes: 4 << 20, JournalBytesMax: 32 << 20, Fatal: func(err error) { panic(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.hosts[n] = h
}

func (p *peers) start(t *testing.T, n int) {
	t.Helper()
	var m StateMachine = p.machines[n]
	if p.pullers[n] != nil {
		m = p.pullers[n]
	}
	if err := p.hosts[n].StartPartition(p.shard, []model.NodeID{0, 1, 2}, m); err != nil {
		t.Fatal(err)
	}
}

const peersPatience = 30 * time.Second

// propose has whoever leads, of these nodes, take a command.
func (p *peers) propose(t *testing.T, command string, nodes ...int) (leader int) {
	t.Helper()
	for deadline := time.Now().Add(peersPatience); time.Now().Before(deadline); {
		for _, n := range nodes {
			c, ok := p.hosts[n].Leader(p.shard)
			if !ok || int(c.Leader) != n {
				continue
			}
			q, err := p.hosts[n].Propose(p.shard, []byte(command), 2*time.Second)
			if err == nil && q.Failed() == nil {
				return n
			}
		}
		<-time.After(tickMilliseconds * time.Millisecond / 4)
	}
	t.Fatalf("none of %v takes %q", nodes, command)
	return 0
}

// agreed waits until every node has applied what one proposed last, and compares.
func (p *peers) agreed(t *testing.T) {
	t.Helper()
	for n, h := range p.hosts {
		err := h.Barrier(t.Context(), p.shard)
		for deadline := time.Now().Add(peersPatience); (errors.Is(err, ErrDropped) || errors.Is(err, ErrClosed)) && time.Now().Before(deadline); {
			<-time.After(tickMilliseconds * time.Millisecond / 4) // it has not started, or not heard of the leader, yet
			err = h.Barrier(t.Context(), p.shard)
		}
		if err != nil {
			t.Fatalf("node %d: %v", n, err)
		}
		if want, got := p.machines[0].seen(), p.machines[n].seen(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("node %d has %q, node 0 %q", n, got, want)
		}
	}
}

// TestPeers has three nodes elect, lose their leader to a cut, elect another, and
// agree once it is back; then one moves to another address. Of a shard of another
// NodeHost than the first they hear by the first's ear.
func TestPeers(t *testing.T) {
	for name, of := range map[string]model.ShardID{"first host": shard, "fourth host": 3*hostShards + shard} {
		t.Run(name, func(t *testing.T) { testPeers(t, of) })
	}
}

// united starts three nodes that all have a replica of a shard.
func united(t *testing.T, of model.ShardID) *peers {
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
	for n := range p.hosts {
		p.start(t, n)
	}
	return p
}

// apart cuts a node off, both ways.
func (p *peers) apart(from int) (rest []int) {
	for n := range p.hosts {
		if n != from {
			rest = append(rest, n)
			p.net.Cut(fmt.Sprint(n), fmt.Sprint(from))
			p.net.Cut(fmt.Sprint(from), fmt.Sprint(n))
		}
	}
	return rest
}

func testPeers(t *testing.T, of model.ShardID) {
	t.Parallel()
	p := united(t, of)
	all := []int{0, 1, 2}
	first := p.propose(t, "together", all...)
	p.agreed(t)

	rest := p.apart(first)
	p.propose(t, "without the first", rest...)
	p.followed(t, rest...)
	for _, n := range rest {
		p.net.Heal(fmt.Sprint(n), fmt.Sprint(first))
		p.net.Heal(fmt.Sprint(first), fmt.Sprint(n))
	}
	p.propose(t, "together again", all...)
	p.agreed(t)
	p.followed(t, all...)

	p.hosts[first].Close()
	const elsewhere = "elsewhere:1"
	p.machines[first] = &counting{}
	p.open(t, first, elsewhere)
	for n, h := range p.hosts {
		h.SetAddress(model.NodeID(first), elsewhere)
		p.hosts[first].SetAddress(model.NodeID(n), memberAddress(n))
	}
	p.hosts[first].SetAddress(model.NodeID(first), elsewhere)
	p.start(t, first)
	p.propose(t, "moved", all...)
	p.agreed(t)
	// A command whose outcome was unknown is there twice.
	got := slices.CompactFunc(p.machines[first].seen(), bytes.Equal)
	if want := "together,without the first,together again,moved"; string(bytes.Join(got, []byte(","))) != want {
		t.Errorf("after the move %q, want %s", got, want)
	}
}

// TestRegistry: a replica is reached by its node's name and present address.
func TestRegistry(t *testing.T) {
	r := newRegistry()
	if _, _, err := r.Resolve(7, 2); err == nil {
		t.Error("a strange replica resolves")
	}
	r.Add(7, 2, target(1))
	r.Add(7, 2, target(1))
	if _, _, err := r.Resolve(7, 2); err == nil {
		t.Error("a node without an address resolves")
	}
	r.setAddress(1, "one:1")
	was, key, err := r.Resolve(7, 2)
	if want := target(1) + "@one:1"; err != nil || was != want || key != want {
		t.Errorf("resolves to %q, %q, %v, want %q", was, key, err, want)
	}
	r.setAddress(1, "two:1")
	if now, key, _ := r.Resolve(7, 2); now == was || key != now {
		t.Errorf("after a move it resolves to %q, %q", now, key)
	}
	r.Add(7, 2, target(3))
	r.setAddress(3, "two:1")
	if now, _, err := r.Resolve(7, 2); err != nil || now != target(3)+"@two:1" {
		t.Errorf("another node's replica resolves to %q, %v", now, err)
	}
	r.Remove(7, 2)
	if _, _, err := r.Resolve(7, 2); err == nil {
		t.Error("a removed replica resolves")
	}
	if err := checkPeer(target(5)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "node-5", targetPrefix, targetPrefix + "xyz"} {
		if checkPeer(name) == nil {
			t.Errorf("%q may connect", name)
		}
	}
}
