package cluster

import (
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
)

// Leadership is core's event of what this node serves.
type Leadership = core.Leadership

// Led is a partition and the epoch that a node serves it under, or has served it.
type Led struct {
	Partition model.PartitionID
	Epoch     model.LeaderEpoch
}

// Announcement is what a node tells the others of the partitions that it serves. Any
// may be lost, late or heard twice: the next whole one mends it.
type Announcement struct {
	Node model.NodeID
	// Boot is drawn at each start of the node. Sequence counts its announcements from 1.
	Boot, Sequence uint64
	// Whole: Served is all that it serves, else what it has come to serve since the one
	// before; Left is then what it serves no longer.
	Whole        bool
	Served, Left []Led
	// Leaving: it gives its leadership away, and wants none.
	Leaving bool
	// Laggards are the nodes, in order of id, with replicas of what is Served that are not
	// in sync; all others are.
	Laggards []Laggard
	// Unfit is why it should not lead, for now.
	Unfit Unfit
}

// Laggard is a node whose replicas of some partitions are not in sync.
type Laggard struct {
	Node model.NodeID
	// Served are the places of these partitions in Announcement.Served, in order.
	Served []int
}

// leader is who serves a partition, and which nodes' replicas lag; that list is replaced,
// never written.
type leader struct {
	node    model.NodeID
	epoch   model.LeaderEpoch
	lagging []model.NodeID
}

// heard is the newest announcement of a node, when it came, the first of its boot, and
// the first that said what it says now of its leading.
type heard struct {
	boot, sequence uint64
	at, since      time.Time
	changed        time.Time
	standing
}

// leaders knows who leads each partition. mu guards all of it and is held for
// one map operation, or for the partitions of one announcement.
//
// The highest epoch wins, and Raft lets one node lead under each. So what arrives in
// any order ends in the same: only that a node has left what it led may be missed.
type leaders struct {
	mu         sync.RWMutex
	partitions map[model.PartitionID]leader
	heard      map[model.NodeID]heard
	// boot, sequence and changed are of this node's own announcements; changed holds
	// what happened since the last, by partition.
	boot, sequence uint64
	changed        map[model.PartitionID]Leadership
	standing, told standing // told: what the others have been told
	began          time.Time
}

func (l *leaders) init(boot uint64, now time.Time) {
	l.partitions, l.heard, l.changed = map[model.PartitionID]leader{}, map[model.NodeID]heard{}, map[model.PartitionID]Leadership{}
	l.boot, l.began = boot, now
}

// Lead takes an event of this node's own leadership. It does not block.
func (c *Cluster) Lead(e Leadership) {
	l := &c.leaders
	l.mu.Lock()
	defer l.mu.Unlock()
	led := Led{e.Partition, e.Epoch}
	if e.Serving && l.served(c.o.Node, led) || !e.Serving && l.left(c.o.Node, led) {
		l.changed[e.Partition] = e
	}
}

// served notes that a node serves a partition, unless a later epoch is known.
func (l *leaders) served(node model.NodeID, led Led) bool {
	old, known := l.partitions[led.Partition]
	if known && led.Epoch < old.epoch {
		return false
	}
	l.partitions[led.Partition] = leader{node: node, epoch: led.Epoch, lagging: old.lagging}
	return true
}

// left notes that a node no longer serves a partition, unless another does.
func (l *leaders) left(node model.NodeID, led Led) bool {
	old, known := l.partitions[led.Partition]
	if !known || old.node != node || led.Epoch < old.epoch {
		return false
	}
	l.partitions[led.Partition] = leader{node: model.NoNode, epoch: old.epoch, lagging: old.lagging}
	return true
}

// Announce gives what the other nodes are to be told now: everything, or what has
// changed since the last time; ok is false if that is nothing. Each announcement goes
// to all of them.
func (c *Cluster) Announce(whole bool) (a Announcement, ok bool) {
	l := &c.leaders
	l.mu.Lock()
	defer l.mu.Unlock()
	if !whole && len(l.changed) == 0 && l.told == l.standing {
		return Announcement{}, false
	}
	l.told = l.standing
	l.sequence++
	a = Announcement{Node: c.o.Node, Boot: l.boot, Sequence: l.sequence, Whole: whole, Leaving: l.standing.leaving, Unfit: l.standing.unfit}
	if whole {
		for id, p := range l.partitions {
			if p.node == c.o.Node {
				a.Served = append(a.Served, Led{id, p.epoch})
			}
		}
	} else {
		for id, e := range l.changed {
			if e.Serving {
				a.Served = append(a.Served, Led{id, e.Epoch})
			} else {
				a.Left = append(a.Left, Led{id, e.Epoch})
			}
		}
	}
	clear(l.changed)
	a.Laggards = l.laggards(a.Served)
	return a, true
}

// Hear takes what another node announces.
func (c *Cluster) Hear(a Announcement) {
	l := &c.leaders
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.heard[a.Node]
	if a.Node == c.o.Node || last.boot == a.Boot && a.Sequence <= last.sequence {
		return
	}
	now := c.o.Now()
	if last.boot != a.Boot || now.Sub(last.at) >= aliveFor {
		last.since = now
	}
	says := standing{leaving: a.Leaving, unfit: a.Unfit}
	if last.at.IsZero() || last.standing != says {
		last.changed = now
	}
	l.heard[a.Node] = heard{boot: a.Boot, sequence: a.Sequence, at: now, since: last.since, changed: last.changed, standing: says}
	serves := make(map[model.PartitionID]struct{}, len(a.Served))
	lagging := a.lagging()
	for i, led := range a.Served {
		if l.served(a.Node, led) {
			l.lag(led.Partition, lagging[i])
		}
		serves[led.Partition] = struct{}{}
	}
	for _, led := range a.Left {
		l.left(a.Node, led)
	}
	if !a.Whole {
		return
	}
	for id, p := range l.partitions {
		if _, still := serves[id]; p.node == a.Node && !still {
			l.partitions[id] = leader{node: model.NoNode, epoch: p.epoch, lagging: p.lagging}
		}
	}
}

// AnnounceEvery is how often a node announces all that it serves.
const AnnounceEvery = 2 * time.Second

// aliveFor is how long a node counts as alive after what it announced last.
const aliveFor = 3 * AnnounceEvery

// Alive tells whether a node has announced anything of late; this node always has.
func (c *Cluster) Alive(node model.NodeID) bool {
	if node == c.o.Node {
		return true
	}
	c.leaders.mu.RLock()
	defer c.leaders.mu.RUnlock()
	last, ok := c.leaders.heard[node]
	return ok && c.o.Now().Sub(last.at) < aliveFor
}

// Leave says that this node gives its leadership away: the others leave it none.
func (c *Cluster) Leave() {
	c.leaders.mu.Lock()
	defer c.leaders.mu.Unlock()
	c.leaders.standing.leaving = true
}

// Steady tells whether a node has been alive for so long and takes leadership. One
// that has just come has yet to learn what it missed.
func (c *Cluster) Steady(node model.NodeID, since time.Duration) bool {
	c.leaders.mu.RLock()
	defer c.leaders.mu.RUnlock()
	now := c.o.Now()
	last, ok := c.leaders.heard[node]
	return ok && !last.leaving && now.Sub(last.at) < aliveFor && now.Sub(last.since) >= since
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
			delete(l.changed, id)
		}
	}
}
