package raft

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// TestFates shows what a proposer is told and what the machine then sees.
func TestFates(t *testing.T) {
	for _, c := range []struct {
		fate           Fate
		refused, told  error
		seen, released int
	}{
		{fate: Taken, seen: 1},
		{fate: Dropped, told: ErrDropped},
		{fate: Busy, refused: ErrBusy},
		{fate: Lost, told: ErrUnknown},
		{fate: Late, told: ErrUnknown, released: 1},
		{fate: Deaf, told: ErrUnknown, seen: 1},
	} {
		f := NewFake(0, NewDisk())
		m := &counting{}
		if err := f.StartPartition(shard, nil, m); err != nil {
			t.Fatal(err)
		}
		f.Elect(shard, 0)
		f.Decide(func(model.ShardID, []byte) Fate { return c.fate })
		before := len(m.seen())
		p, err := f.Propose(shard, []byte("x"), time.Second)
		if !errors.Is(err, c.refused) {
			t.Errorf("fate %d: refused with %v, want %v", c.fate, err, c.refused)
		}
		if err == nil {
			if told := p.Failed(); !errors.Is(told, c.told) {
				t.Errorf("fate %d: told %v, want %v", c.fate, told, c.told)
			}
		}
		if got := len(m.seen()) - before; got != c.seen {
			t.Errorf("fate %d: %d applied, want %d", c.fate, got, c.seen)
		}
		f.Elect(shard, 0)
		before = len(m.seen())
		if got := f.Release(shard); got != c.released || len(m.seen())-before != c.released {
			t.Errorf("fate %d: %d ghosts, want %d", c.fate, got, c.released)
		}
		f.Close()
	}
}

// TestLeaderless: without a leader nothing is taken, and a barrier proves nothing.
func TestLeaderless(t *testing.T) {
	f := NewFake(0, NewDisk())
	defer f.Close()
	if err := f.StartPartition(shard, nil, &counting{}); err != nil {
		t.Fatal(err)
	}
	p, err := f.Propose(shard, []byte("x"), time.Second)
	if err != nil || !errors.Is(p.Failed(), ErrDropped) {
		t.Errorf("proposed without a leader: %v", err)
	}
	if err := f.Barrier(t.Context(), shard); !errors.Is(err, ErrDropped) {
		t.Errorf("barrier without a leader: %v", err)
	}
	if _, ok := f.Leader(shard); ok {
		t.Error("there is a leader")
	}
	want := []LeaderChange{f.Elect(shard, 0), f.Elect(shard, 3)}
	got := []LeaderChange{<-f.Changes(), <-f.Changes()}
	if !slices.Equal(got, want) || got[0].Term >= got[1].Term {
		t.Errorf("changes %v, want %v", got, want)
	}
}

// TestAwait: an outcome that is there wins over the log's word, also over an
// unknown one; a ctx that ends leaves the outcome unknown.
func TestAwait(t *testing.T) {
	early := make(chan int, 1)
	early <- 7
	told := make(chan verdict, 1)
	told <- verdict{err: ErrUnknown}
	v, got, _, err := Await(t.Context(), &Proposal{fake: told}, early)
	if v != 7 || !got || err != nil {
		t.Errorf("%d, %v, %v; want the outcome", v, got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, got, _, err = Await(ctx, &Proposal{fake: make(chan verdict)}, early)
	if got || !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v; want unknown", got, err)
	}
}

// TestInstall: a log that was left behind goes on where the machine was brought to.
func TestInstall(t *testing.T) {
	d := NewDisk()
	f := NewFake(0, d)
	defer f.Close()
	p := &peers{}
	p.machines[1] = &counting{index: 9, entries: [][]byte{[]byte("there")}}
	m := newPulling(p, 0)
	if err := f.StartPartition(shard, nil, m); err != nil {
		t.Fatal(err)
	}
	f.Elect(shard, 0)
	if err := f.Install(shard, 7, []byte{1, 7, 0, 0, 0, 0, 0, 0, 0}, nil); err != nil {
		t.Fatal(err)
	}
	f.Close() // and it restarts, with a log that ends before what the machine has
	f = NewFake(0, d)
	defer f.Close()
	if err := f.StartPartition(shard, nil, m); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"8", "9", "10"} { // the first two came with the machine
		f.Foreign(shard, []byte(cmd))
	}
	if got := bytes.Join(m.seen(), []byte(" ")); string(got) != "there 10" {
		t.Errorf("the machine has %q", got)
	}
	if err := f.Install(shard+1, 7, nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a shard that does not run: %v", err)
	}
}

// TestKeyLeavesOrder: of commands with one key, in whatever order they come, the same is
// first in the log.
func TestKeyLeavesOrder(t *testing.T) {
	for _, come := range [][]string{{"a", "b"}, {"b", "a"}} {
		net := NewFakeNet()
		net.Key = func(model.ShardID, []byte) []byte { return nil }
		o := net.Open(0, make(chan struct{}))
		m := &counting{}
		if err := o.StartPartition(shard, []model.NodeID{0}, m); err != nil {
			t.Fatal(err)
		}
		if !net.Elect(shard, 0) {
			t.Fatal("not elected")
		}
		for _, cmd := range come {
			if _, err := o.Propose(shard, []byte(cmd), time.Second); err != nil {
				t.Fatal(err)
			}
		}
		for dice := rand.New(rand.NewPCG(1, 1)); net.Step(dice, false) != ""; {
		}
		if got := m.seen(); len(got) != 2 || string(got[0]) != "a" {
			t.Errorf("%q came, %q was applied", come, got)
		}
		o.Close()
	}
}

// deadlines counts what is proposed.
type deadlines struct{ proposed int }

func (d *deadlines) Propose(model.ShardID, []byte, time.Duration) (*Proposal, error) {
	d.proposed++
	return nil, ErrBusy
}

// TestNoTimeNoProposal: a command is tried again until its time is over, and not then.
func TestNoTimeNoProposal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*controllerRetry)
		defer cancel()
		d := &deadlines{}
		if _, err := proposeController(ctx, d, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if d.proposed != 3 {
			t.Errorf("proposed %d times", d.proposed)
		}
	})
}
