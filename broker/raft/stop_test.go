package raft

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// slow is a machine that takes its time, and knows whether it is to be left alone.
type slow struct {
	counting
	applied, late atomic.Int64
	ended         atomic.Bool
}

func (s *slow) Apply(entries []Entry) error {
	s.applied.Add(1)
	for range 20 {
		if s.ended.Load() {
			s.late.Add(1)
		}
		<-time.After(time.Millisecond)
	}
	return s.counting.Apply(entries)
}

// TestStopEnds: when Stop has returned nobody is in the machine, which its owner closes.
func TestStopEnds(t *testing.T) {
	t.Parallel()
	h := openHost(t, t.TempDir())
	defer h.Close()
	for i := range model.ShardID(10) {
		of, m := shard+i, &slow{}
		if err := h.StartPartition(of, []model.NodeID{0}, m); err != nil {
			t.Fatal(err)
		}
		awaitLeaderOf(t, h, of)
		for range 8 {
			if _, err := h.Propose(of, []byte("x"), time.Second); err != nil {
				t.Fatal(err)
			}
		}
		for m.applied.Load() == 0 { // it is in the middle of one
			<-time.After(time.Millisecond)
		}
		if err := h.Stop(of); err != nil {
			t.Fatal(err)
		}
		m.ended.Store(true)
		<-time.After(30 * time.Millisecond)
		if m.late.Load() > 0 || h.Running(of) {
			t.Fatal("the machine is in use, and Stop has returned")
		}
	}
}
