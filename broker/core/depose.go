package core

import "github.com/millrace-io/millrace/broker/model"

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
}
