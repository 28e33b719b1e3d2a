package cluster

import (
	"sync"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
)

// Leadership is core's event of what this node serves.
type Leadership = core.Leadership

// leader is who serves a partition.
type leader struct {
	node  model.NodeID
	epoch model.LeaderEpoch
}

// leaders knows who leads each partition. mu guards all of it and is held for
// one map operation.
type leaders struct {
	mu         sync.RWMutex
	partitions map[model.PartitionID]leader
}

func (l *leaders) init() { l.partitions = map[model.PartitionID]leader{} }

// Lead takes an event of this node's own leadership. It does not block.
func (c *Cluster) Lead(e Leadership) {
	l := &c.leaders
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := l.partitions[e.Partition]
	switch {
	case e.Serving && (!known || e.Epoch >= old.epoch):
		l.partitions[e.Partition] = leader{node: c.o.Node, epoch: e.Epoch}
	case !e.Serving && known && old.node == c.o.Node && e.Epoch >= old.epoch:
		l.partitions[e.Partition] = leader{node: model.NoNode, epoch: old.epoch}
	}
}

// Leader says who serves a partition: NoNode while nobody does, with the last
// epoch known (NoEpoch for none).
func (c *Cluster) Leader(id model.PartitionID) (model.NodeID, model.LeaderEpoch) {
	c.leaders.mu.RLock()
	defer c.leaders.mu.RUnlock()
	if l, ok := c.leaders.partitions[id]; ok {
		return l.node, l.epoch
	}
	return model.NoNode, model.NoEpoch
}

// forget drops partitions that are gone.
func (l *leaders) forget(gone func(model.TopicID) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.partitions {
		if gone(id.Topic) {
			delete(l.partitions, id)
		}
	}
}
