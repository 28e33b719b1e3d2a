package raft

import (
	"slices"
	"sync"
	"sync/atomic"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// A replica that takes its files has the log's next entries synced all the same, and
// acknowledges them: where another is gone the leader has no majority without it. The library
// would take 32 batches; server's soft settings let it take 4,096. What is not applied is in
// memory, and too much of it would have the library slow the leader down, so that beyond
// recoveringBytesMax nothing more is taken.
const (
	recoveringBytesMax = inMemLogBytesMax / 2
	// entryOverhead is about what an entry takes besides its command, in bytes.
	entryOverhead = 144
)

// recovering are the replicas that take files, and the bytes of entries that each was sent
// meanwhile. Its methods may be called from any goroutine.
type recovering struct {
	count atomic.Int32 // of bytes: most of the time it is empty
	mu    sync.Mutex
	bytes map[model.ShardID]int
}

func (r *recovering) begin(shard model.ShardID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes == nil {
		r.bytes = map[model.ShardID]int{}
	}
	r.bytes[shard] = 0
	r.count.Store(int32(len(r.bytes)))
}

func (r *recovering) end(shard model.ShardID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.bytes, shard)
	r.count.Store(int32(len(r.bytes)))
}

// sift leaves the messages that may be taken; mostly all.
func (r *recovering) sift(all []pb.Message) []pb.Message {
	if r.count.Load() == 0 {
		return all
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(all, func(m pb.Message) bool {
		taken, is := r.bytes[model.ShardID(m.ShardID)]
		if !is || m.Type != pb.Replicate || len(m.Entries) == 0 {
			return false
		}
		for i := range m.Entries {
			taken += len(m.Entries[i].Cmd) + entryOverhead
		}
		if taken > recoveringBytesMax {
			return true
		}
		r.bytes[model.ShardID(m.ShardID)] = taken
		return false
	})
}
