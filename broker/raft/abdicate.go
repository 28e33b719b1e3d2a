package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/millrace-io/millrace/broker/model"
)

// A leader that hears no majority makes way after one to two election timeouts, and tells
// nobody: followers that hear it, whom it does not, wait for their own clocks besides. So it
// asks them to take over, who acknowledged most first, as it would if it gave its place away.

const (
	// abdicateGather is how long other shards' are waited for: a node that is cut off makes
	// way in all that it led.
	abdicateGather = 10 * time.Millisecond
	// abdicatePause is what the first has to be elected in before the second is asked.
	abdicatePause = 300 * time.Millisecond
	// abdicateHeirs are asked at most, each abdicateTries times while it is not reached.
	abdicateHeirs, abdicateTries = 2, 3
)

// reign is a term under which this node led a shard.
type reign struct{ shard, term uint64 }

// reigns are those of this node that go on, and those that have just ended without a
// successor. Its methods may be called from any goroutine.
type reigns struct {
	mu    sync.Mutex
	now   map[uint64]uint64 // terms by shard
	ended []reign
}

// note takes who leads now. It returns true if the first reign of a while has ended.
func (r *reigns) note(i raftio.LeaderInfo) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.LeaderID == i.ReplicaID {
		if r.now == nil {
			r.now = map[uint64]uint64{}
		}
		r.now[i.ShardID] = i.Term
		return false
	}
	term, led := r.now[i.ShardID]
	delete(r.now, i.ShardID)
	if !led || i.LeaderID != 0 || i.Term != term {
		return false // it was deposed by a successor, or the vote for one
	}
	r.ended = append(r.ended, reign{i.ShardID, term})
	return len(r.ended) == 1
}

func (r *reigns) forget(shard uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.now, shard)
}

func (r *reigns) take() []reign {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.ended
	r.ended = nil
	return all
}

// abdicate asks the followers of what this node led to lead it.
func (h *Host) abdicate() {
	var asked [abdicateHeirs]map[model.NodeID][]byte
	for k := range asked {
		asked[k] = map[model.NodeID][]byte{}
	}
	for _, r := range h.reigns.take() {
		for k, f := range h.acks.longest(r.shard, r.term, abdicateHeirs) {
			asked[k][f.Node] = appendTakeOver(asked[k][f.Node], model.ShardID(r.shard), f.Match)
		}
	}
	for _, bodies := range asked {
		for node, body := range bodies {
			go h.askToTakeOver(node, body)
		}
		select {
		case <-time.After(abdicatePause):
		case <-h.closing:
			return
		}
	}
}

func (h *Host) askToTakeOver(node model.NodeID, body []byte) {
	for range abdicateTries {
		ctx, cancel := context.WithTimeout(context.Background(), takeOverWait)
		_, err := h.Call(ctx, node, methodTakeOver, body)
		cancel()
		var refusal *Refusal
		if err == nil || errors.As(err, &refusal) { // it does not have one of them, and does the rest
			return
		}
		h.log.Debug("not asked to take over", "shards", len(body)/takeOverBytes, "node", node, "err", err)
		select {
		case <-time.After(abdicatePause):
		case <-h.closing:
			return
		}
	}
}

// appendTakeOver appends what asks a node to lead a shard whose log it has up to last.
func appendTakeOver(b []byte, shard model.ShardID, last uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, uint64(shard)), last)
}
