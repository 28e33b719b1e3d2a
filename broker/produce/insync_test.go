package produce_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/produce"
)

// TestMinInsync: while too few replicas are in sync nothing that asks for all of them
// reaches the log, and all else does.
func TestMinInsync(t *testing.T) {
	topic := topicOf()
	topic.MinInsyncReplicas = 3
	r := newRig(t, topic)
	write := func(value string, all bool) error {
		return r.service.Start(produce.Ask{Partition: id, Records: batch(value), All: all}).Result().Err
	}
	r.inSync.Store(2)
	r.synced.Store(3)
	if err := write("refused", true); !errors.Is(err, produce.ErrNotEnoughReplicas) || !strings.Contains(err.Error(), "2 are, of at least 3") {
		t.Errorf("two in sync: %v", err)
	}
	if err := write("acks=1", false); err != nil {
		t.Errorf("acks=1: %v", err)
	}
	r.inSync.Store(3)
	if err := write("three", true); err != nil {
		t.Errorf("three in sync: %v", err)
	}
	r.inSync.Store(1)
	one := topic
	one.MinInsyncReplicas = 1
	r.h.SetConfig(&one)
	if err := write("lowered", true); err != nil {
		t.Errorf("one is enough: %v", err)
	}
	if got, want := fmt.Sprint(r.values()), "map[0:acks=1 1:three 2:lowered]"; got != want {
		t.Errorf("the log has %s, want %s", got, want)
	}
	// It does not speak for a partition that others lead.
	r.raft.Elect(shard, 1)
	r.await(core.Leadership{Partition: id, Epoch: 1})
	if err := write("elsewhere", true); !errors.Is(err, produce.ErrNotLeader) {
		t.Errorf("elsewhere: %v", err)
	}
}

// TestMinInsyncAfterAppend: a write is not acknowledged before as many replicas have it as
// the topic asks for. If they do not come to, it stays, and the producer that sends it
// again is told where it is.
func TestMinInsyncAfterAppend(t *testing.T) {
	topic := topicOf()
	topic.MinInsyncReplicas = 3
	r := newRig(t, topic)
	r.inSync.Store(3)
	r.synced.Store(2) // a majority
	ask := func(sequence int32, all bool) produce.Ask {
		return produce.Ask{Partition: id, Records: numbered(7, 0, sequence, fmt.Sprint(sequence)), All: all}
	}
	late := r.service.Start(ask(0, true))
	if got := r.service.Start(ask(1, false)).Result(); got.Err != nil || got.Base != 1 {
		t.Errorf("acks=1: %+v", got)
	}
	select {
	case <-late.Done():
		t.Fatalf("acknowledged though a majority has it only: %+v", late.Result())
	default:
	}
	r.synced.Store(3)
	if got := late.Result(); got.Err != nil || got.Base != 0 {
		t.Errorf("once the third has it: %+v", got)
	}

	r.synced.Store(2)
	slow, lost := r.service.Start(ask(2, true)), r.service.Start(produce.Ask{Partition: id, Records: batch("3"), All: true, Timeout: time.Minute})
	if got := slow.Result(); !errors.Is(got.Err, produce.ErrTimedOut) {
		t.Errorf("the third is slow: %+v", got)
	}
	r.inSync.Store(2)
	if got := lost.Result(); !errors.Is(got.Err, produce.ErrNotEnoughAfterAppend) {
		t.Errorf("the third is out: %+v", got)
	}
	r.inSync.Store(3)
	r.synced.Store(3)
	if got := r.service.Start(ask(2, true)).Result(); got.Err != nil || got.Base != 2 {
		t.Errorf("sent again: %+v", got)
	}
	if got, want := fmt.Sprint(r.values()), "map[0:0 1:1 2:2 3:3]"; got != want {
		t.Errorf("the log has %s, want %s", got, want)
	}
}
