package core

import (
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// ErrDeposed says that another node leads by now. Whether the command is in the log is
// not known: the other may have had it.
var ErrDeposed = errors.New("another node leads the partition by now")

// Depose tells the loop that another node serves the shard under epoch, as it said itself.
// Raft tells that too, and better, but not while this node's log cannot be written: its
// producers and readers would wait until it can. An epoch that is not later than this node's own
// changes nothing.
func (h *Handle) Depose(epoch model.LeaderEpoch) {
	for {
		led := h.leading.Load()
		if led == int64(model.NoEpoch) || led >= int64(epoch) {
			return
		}
		if h.leading.CompareAndSwap(led, int64(model.NoEpoch)) {
			h.core.send(&deposeEvent{shard: h.Shard, epoch: epoch})
			return
		}
	}
}

type deposeEvent struct {
	shard model.ShardID
	epoch model.LeaderEpoch
}

func (e *deposeEvent) step(c *Core) {
	r := c.replicas[e.shard]
	if r == nil || r.epoch == model.NoEpoch || r.epoch >= e.epoch {
		return
	}
	c.stopServing(r)
	r.epoch = model.NoEpoch
	r.wake()
	c.giveUp(e.shard, fmt.Errorf("%w, under epoch %d", ErrDeposed, e.epoch))
}

// giveUp ends the wait for every outcome that is expected of a shard. Who registers one
// later must look whether the shard is still served.
func (c *Core) giveUp(shard model.ShardID, err error) {
	c.expectedMu.Lock()
	defer c.expectedMu.Unlock()
	for token, x := range c.expected {
		if x.shard == shard {
			delete(c.expected, token)
			x.outcome <- partition.Outcome{Token: token, Err: err}
		}
	}
}
