package server

import (
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
)

// TestLeft: a replica that has stopped by itself, as one does that hears that it is out of
// its group, is started again while this node is to run it, with all that it had.
func TestLeft(t *testing.T) {
	s, _ := newNode(t, t.TempDir())
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	results, err := s.cluster.CreateTopics(t.Context(), []cluster.CreateTopic{{Name: "a", Partitions: 1, Replication: 1}}, false)
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	topic, _ := s.cluster.Metadata().Topic("a")
	id := topic.PartitionID(0)
	write := func() (model.Offset, error) {
		r := s.produce.Start(produce.Ask{Partition: id, Records: one("x"), Timeout: time.Second}).Result()
		return r.Base, r.Err
	}
	await := func(want model.Offset) {
		t.Helper()
		for deadline := time.Now().Add(6 * retryEvery); ; <-time.After(retryEvery / 100) {
			at, err := write()
			if err == nil && at == want {
				return
			}
			if err == nil || time.Now().After(deadline) {
				t.Fatalf("written at %d, %v; want %d", at, err, want)
			}
		}
	}
	await(0)
	h, _ := s.cores.Handle(id)
	if err := s.raft.Stop(h.Shard); err != nil || s.raft.Running(h.Shard) {
		t.Fatal("it does not stop", err)
	}
	if _, err := write(); err == nil {
		t.Fatal("a replica that has stopped takes a record")
	}
	await(1)
	if again, ok := s.cores.Handle(id); !ok || again == h || !s.raft.Running(h.Shard) {
		t.Error("it is the one that has stopped")
	}
}
