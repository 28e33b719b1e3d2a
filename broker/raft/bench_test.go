package raft

import (
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// Where the time of a serial write goes: the device alone is journal's
// BenchmarkDevice, with the journal BenchmarkSave; here is all of raft, without
// the Kafka protocol.

func benchHost(b *testing.B, shards int) *Host {
	b.Helper()
	h := openHost(b, b.TempDir())
	b.Cleanup(h.Close)
	for i := range shards {
		if err := h.StartPartition(shard+model.ShardID(i), []model.NodeID{0}, &forgetful{}); err != nil {
			b.Fatal(err)
		}
		awaitLeaderOf(b, h, shard+model.ShardID(i))
	}
	return h
}

// forgetful is a StateMachine that keeps nothing.
type forgetful struct{ counting }

func (f *forgetful) Apply([]Entry) error { return nil }

func BenchmarkSerial(b *testing.B) {
	h := benchHost(b, 1)
	cmd := make([]byte, 1024)
	before := h.Journal()
	b.ResetTimer()
	for b.Loop() {
		p, err := h.Propose(shard, cmd, 10*time.Second)
		if err == nil {
			err = p.Failed()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(h.Journal().Syncs-before.Syncs)/float64(b.N), "syncs/op")
}

// BenchmarkShards has 16 proposals in flight in each of 16 shards.
func BenchmarkShards(b *testing.B) {
	const shards, depth = 16, 16
	h := benchHost(b, shards)
	cmd := make([]byte, 1024)
	before := h.Journal()
	work := make(chan struct{}, shards*depth)
	var wg sync.WaitGroup
	for i := range shards * depth {
		wg.Go(func() {
			for range work {
				p, err := h.Propose(shard+model.ShardID(i%shards), cmd, 10*time.Second)
				if err == nil {
					err = p.Failed()
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64(h.Journal().Syncs-before.Syncs)/float64(b.N), "syncs/op")
}
