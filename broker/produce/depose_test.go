package produce_test

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/raft"
)

// TestDeposed: what was on its way when another was heard to lead has timed out, though it
// may be stored; what comes afterwards is told to go elsewhere.
func TestDeposed(t *testing.T) {
	r := newRig(t, topicOf())
	epoch, _ := r.h.Serving()
	proposed, decide := make(chan struct{}), make(chan struct{})
	r.raft.Decide(func(_ model.ShardID, cmd []byte) raft.Fate {
		if c, err := partition.Decode(cmd); err == nil && c.Kind == partition.KindProduce {
			close(proposed)
			<-decide
			return raft.Silent
		}
		return raft.Taken
	})
	p := r.start(batch("a"))
	select {
	case <-proposed:
	case <-p.Done():
		t.Fatal(p.Result())
	}
	r.h.Depose(epoch + 1)
	r.await(core.Leadership{Partition: id, Epoch: epoch})
	late := r.start(batch("b"))
	close(decide)
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the write is not answered")
	}
	if got := p.Result(); !errors.Is(got.Err, produce.ErrTimedOut) || !errors.Is(got.Err, core.ErrDeposed) {
		t.Errorf("a write that was on its way: %v", got.Err)
	}
	if got := late.Result(); !errors.Is(got.Err, produce.ErrNotLeader) {
		t.Errorf("a write that comes late: %v", got.Err)
	}
}

// TestLeadsAgain: what waited behind a write when the node lost the lead is not written once
// it leads again: whoever asked may have written something newer under the leader between.
func TestLeadsAgain(t *testing.T) {
	r := newRig(t, topicOf())
	proposed, decide := make(chan struct{}), make(chan struct{})
	first := true
	r.raft.Decide(func(_ model.ShardID, cmd []byte) raft.Fate {
		if c, err := partition.Decode(cmd); err == nil && c.Kind == partition.KindProduce && first {
			first = false
			close(proposed)
			<-decide
			return raft.Lost
		}
		return raft.Taken
	})
	lost := r.start(batch("a"))
	<-proposed
	late := r.start(batch("b"))
	r.raft.Elect(shard, 1)
	r.elect()
	close(decide)
	<-late.Done()
	if got := late.Result(); !errors.Is(got.Err, produce.ErrNotLeader) {
		t.Errorf("a write that was taken before: %+v", got)
	}
	<-lost.Done()
	again := r.start(batch("c"))
	<-again.Done()
	if got := again.Result(); got.Err != nil || got.Base != 0 {
		t.Errorf("a write that was taken afterwards: %+v", got)
	}
}
