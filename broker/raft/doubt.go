package raft

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// A follower that misses its leader asks the others before it stands for election, once. Who
// has heard the leader less than an election timeout ago gives no answer, and who has more
// of the log says no; then both wait for their own clocks, up to two election timeouts
// more, though nobody leads. So each question is looked at again: where no leader is heard
// for doubtTime after it, a majority misses him, and who has the longer log stands at once.

const (
	// doubtTime is more than a heartbeat takes to come.
	doubtTime = tickMilliseconds * time.Millisecond * 3 / 2
	// looksMax take longer than an election timeout.
	looksMax = 3
)

// doubts are the shards whose leaders a follower misses. Its methods may be called from any
// goroutine.
type doubts struct {
	count atomic.Int32 // of byID: most of the time it is empty
	mu    sync.Mutex
	byID  map[uint64]*doubt // by shard
}

// doubt is one leader's.
type doubt struct {
	term  uint64                // under which he would lead
	asked map[uint64]pb.Message // by replica, what those who miss him have asked
	looks int
}

// hear notes who misses a leader, and that one is there. It gives the doubts that begin, each
// with its first question.
func (d *doubts) hear(all []pb.Message, begin func(first pb.Message, k *doubt)) {
	for i := range all {
		m := &all[i]
		switch m.Type {
		case pb.RequestPreVote:
			if k := d.open(m); k != nil {
				begin(*m, k)
			}
		case pb.Replicate, pb.Heartbeat:
			if d.count.Load() > 0 {
				d.end(m)
			}
		}
	}
}

// open notes a question, and gives the doubt that it begins.
func (d *doubts) open(m *pb.Message) *doubt {
	d.mu.Lock()
	defer d.mu.Unlock()
	if k := d.byID[m.ShardID]; k != nil && k.term >= m.Term-1 {
		if k.term == m.Term-1 {
			k.asked[m.From] = *m
		}
		return nil
	}
	if d.byID == nil {
		d.byID = map[uint64]*doubt{}
	}
	k := &doubt{term: m.Term - 1, asked: map[uint64]pb.Message{m.From: *m}}
	d.byID[m.ShardID] = k
	d.count.Store(int32(len(d.byID)))
	return k
}

// end takes a leader's word.
func (d *doubts) end(m *pb.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if k := d.byID[m.ShardID]; k != nil && m.Term >= k.term {
		d.drop(m.ShardID)
	}
}

func (d *doubts) drop(shard uint64) {
	delete(d.byID, shard)
	d.count.Store(int32(len(d.byID)))
}

// look gives what was asked by now, looksMax times, while it is the same doubt.
func (d *doubts) look(shard uint64, k *doubt) (asked []pb.Message, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byID[shard] != k {
		return nil, false
	}
	if k.looks++; k.looks > looksMax {
		d.drop(shard)
		return nil, false
	}
	return slices.Collect(maps.Values(k.asked)), true
}

// doubt has a doubt looked at while it lasts: at once if it was the leader who asked.
func (h *Host) doubt(first pb.Message, k *doubt) {
	shard, wait := model.ShardID(first.ShardID), doubtTime
	if l, ok := h.Leader(shard); ok && l.Leader == replicaNode(first.From) {
		wait = 0
	}
	h.lookAfter(wait, shard, k)
}

func (h *Host) lookAfter(wait time.Duration, shard model.ShardID, k *doubt) {
	time.AfterFunc(wait, func() {
		if asked, ok := h.doubts.look(uint64(shard), k); ok {
			h.stand(shard, k.term, asked)
			h.lookAfter(doubtTime, shard, k)
		}
	})
}

// stand has this node's replica stand for election in the place of the leader of a term,
// where those who asked and it are a majority and none of them has more of the log. Those
// who have ask once more: by now the library may have missed him long enough for an answer.
func (h *Host) stand(shard model.ShardID, led uint64, asked []pb.Message) {
	if l, ok := h.Leader(shard); ok && l.Leader == h.node {
		return
	}
	end, err := h.logEnd(shard)
	if err != nil || end.voted > led || 2*(len(asked)+1) <= h.registry.others(uint64(shard), h.own(shard))+1 {
		return // it is over, or the replica is not here any more
	}
	longer := false
	for _, m := range asked {
		if m.LogTerm > end.term || m.LogTerm == end.term && m.LogIndex > end.index {
			longer = h.deliver(shard, m)
		}
	}
	if !longer {
		h.log.Debug("a leader is missed", "shard", shard, "term", led)
		h.timeOut(shard)
	}
}
