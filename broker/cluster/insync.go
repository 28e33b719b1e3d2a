package cluster

import (
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// Who leads a partition says which of its replicas lag, and tells the others with what
// it announces. Whether a node is there at all, each node sees for itself.

// Lagging says of this node, which serves a partition under epoch, which other nodes'
// replicas of it are not in sync. It stays so until this is called again; a leader
// begins with what the one before has said. It tells whether there is something new to
// announce.
func (c *Cluster) Lagging(id model.PartitionID, epoch model.LeaderEpoch, nodes []model.NodeID) (news bool) {
	l := &c.leaders
	l.mu.Lock()
	defer l.mu.Unlock()
	p, known := l.partitions[id]
	if !known || p.node != c.o.Node || p.epoch != epoch || slices.Equal(p.lagging, nodes) {
		return false
	}
	p.lagging = nodes
	l.partitions[id] = p
	l.changed[id] = Leadership{Partition: id, Epoch: epoch, Serving: true}
	return true
}

// Lags gives what the leader of a partition says of its replicas, or the last that led
// it. Not to be written.
func (c *Cluster) Lags(id model.PartitionID) []model.NodeID {
	c.leaders.mu.RLock()
	defer c.leaders.mu.RUnlock()
	return c.leaders.partitions[id].lagging
}

// InSync gives those of a partition's replicas that are in sync, in their order: of
// nodes that are there, and their leader does not say that they lag. A leader is in
// sync with itself.
func (c *Cluster) InSync(id model.PartitionID, replicas []model.NodeID) []model.NodeID {
	in := make([]model.NodeID, 0, len(replicas))
	l := &c.leaders
	l.mu.RLock()
	defer l.mu.RUnlock()
	p, led := l.partitions[id]
	for _, n := range replicas {
		leads := led && n == p.node
		if !c.silent(n) && (leads || !slices.Contains(p.lagging, n)) {
			in = append(in, n)
		}
	}
	return in
}

// InSyncCount is like InSync, of the replicas that the partition has now.
func (c *Cluster) InSyncCount(id model.PartitionID) int {
	p, _ := c.Metadata().Partition(id)
	return len(c.InSync(id, p.Replicas))
}

// Gone tells whether a node has not been heard for so long that it counts as dead. None
// does before this node has listened for as long, or while it hears no majority itself: it
// is this node then that is cut off, and clients are not to be left with it alone.
func (c *Cluster) Gone(node model.NodeID) bool {
	c.leaders.mu.RLock()
	defer c.leaders.mu.RUnlock()
	return c.silent(node) && c.hearsMajority()
}

// silent and hearsMajority are asked with leaders.mu held.
func (c *Cluster) silent(node model.NodeID) bool {
	if node == c.o.Node {
		return false
	}
	last, ok := c.leaders.heard[node]
	if !ok {
		last.at = c.leaders.began
	}
	return c.o.Now().Sub(last.at) >= aliveFor
}

func (c *Cluster) hearsMajority() bool {
	heard, all := 0, 0
	nodes := c.Metadata().Nodes
	for i := range nodes {
		n := &nodes[i]
		if !n.Come() {
			continue
		}
		all++
		if !c.silent(n.ID) {
			heard++
		}
	}
	return all == 0 || heard > all/2
}

// Reachable is Leader as clients are told it: a node that is gone leads nothing, though
// no other may have been elected.
func (c *Cluster) Reachable(id model.PartitionID) (model.NodeID, model.LeaderEpoch) {
	c.leaders.mu.RLock()
	defer c.leaders.mu.RUnlock()
	l, ok := c.leaders.partitions[id]
	switch {
	case !ok:
		return model.NoNode, model.NoEpoch
	case l.node != model.NoNode && c.silent(l.node):
		return model.NoNode, l.epoch
	}
	return l.node, l.epoch
}

// laggards turns what is known of partitions that this node serves into what is
// announced. mu is held.
func (l *leaders) laggards(served []Led) (all []Laggard) {
	for i, led := range served {
		for _, node := range l.partitions[led.Partition].lagging {
			at, found := slices.BinarySearchFunc(all, node, func(g Laggard, n model.NodeID) int { return int(g.Node) - int(n) })
			if !found {
				all = slices.Insert(all, at, Laggard{Node: node})
			}
			all[at].Served = append(all[at].Served, i)
		}
	}
	return all
}

// lagging is laggards the other way round: for a place in Served, the nodes.
func (a *Announcement) lagging() map[int][]model.NodeID {
	of := map[int][]model.NodeID{}
	for _, g := range a.Laggards {
		for _, i := range g.Served {
			of[i] = append(of[i], g.Node)
		}
	}
	return of
}

// lag takes what a partition's leader says of its replicas. mu is held.
func (l *leaders) lag(id model.PartitionID, nodes []model.NodeID) {
	p := l.partitions[id]
	p.lagging = nodes
	l.partitions[id] = p
}
