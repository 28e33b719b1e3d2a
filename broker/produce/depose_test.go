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
