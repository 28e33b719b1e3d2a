package kafka

import (
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
)

// Reading from a near replica (KIP-392). With the rack-aware selector a leader sends a
// consumer that names its rack (Fetch from version 11 on) to a replica there, by an
// answer without records. Replicas answer every consumer of those versions, whatever
// the selector is: who was sent to one stays when that is changed.

// rackSince is the version of Fetch from which on clients know that followers answer.
const rackSince = 11

const (
	// awayMax is within how long a consumer that is back where it was sent away from has
	// found no help there; it then reads here for stayFor.
	awayMax, stayFor = 30 * time.Second, 30 * time.Second
	// behindMax is how long a replica may be behind a consumer before it says so. What is
	// committed is known to it a round trip, or some 20 ms, later than to the leader, which
	// has told the consumer: that is no reason to go back.
	behindMax = time.Second
	// sentMax bounds what a connection remembers, in partitions; beyond it forgets all.
	sentMax = 10_000
)

// sent is when a consumer was sent to another replica, with what offset it had come, and
// until when it is not sent again.
type sent struct {
	from     model.Offset
	at, stay time.Time
}

// preferred gives the replica that the request's consumer should read a partition from,
// or NoNode: this one.
func (f *fetching) preferred(t *cluster.Topic, p *fetch.SessionPartition) model.NodeID {
	if f.m.Version < rackSince || f.m.Rack == "" || f.m.ReplicaID >= 0 {
		return model.NoNode
	}
	s := f.server
	m := s.o.Cluster.Metadata()
	if own, ok := m.Node(s.o.Node); !m.Cluster.RackAware || !ok || own.Rack == f.m.Rack {
		return model.NoNode
	}
	id := t.PartitionID(p.Key.Index)
	if leader, _ := s.o.Cluster.Leader(id); leader != s.o.Node {
		return model.NoNode
	}
	var near []model.NodeID
	for _, replica := range t.Partitions[p.Key.Index].Replicas {
		n, ok := m.Node(replica)
		if ok && n.Rack == f.m.Rack && replica != s.o.Node && f.r.sees(m, replica) && s.o.InSync(id, replica) {
			near = append(near, replica)
		}
	}
	if len(near) == 0 || !f.r.conn.send(id, p.From, s.o.Now()) {
		return model.NoNode
	}
	return near[int(p.Key.Index)%len(near)] // a topic's partitions are spread over them
}

// back gives who leads a partition that a replica here does not answer for, or NoNode.
// Kafka's clients go back to the leader on an error, but franz-go, which wants to be told.
func (f *fetching) back(id model.PartitionID, err error) model.NodeID {
	if c := code(err); f.m.Version < rackSince || f.m.Rack == "" || c != codeNotLeaderOrFollower && c != codeOffsetNotAvailable {
		return model.NoNode
	}
	s := f.server
	leader, _ := s.o.Cluster.Leader(id)
	if leader == s.o.Node || leader == model.NoNode || !f.r.sees(s.o.Cluster.Metadata(), leader) {
		return model.NoNode
	}
	return leader
}

// send tells whether a consumer may be sent away, and notes that it was.
func (c *conn) send(id model.PartitionID, from model.Offset, now time.Time) bool {
	last, known := c.sent[id]
	switch {
	case known && now.Before(last.stay):
		return false
	case known && last.from == from && now.Sub(last.at) < awayMax:
		last.stay = now.Add(stayFor)
		c.sent[id] = last
		return false
	}
	if c.sent == nil || len(c.sent) >= sentMax {
		c.sent = map[model.PartitionID]sent{}
	}
	c.sent[id] = sent{from: from, at: now}
	return true
}

// behind takes whether a replica here is behind what a consumer asks for, and tells
// whether it has been so for too long.
func (c *conn) behind(id model.PartitionID, is bool, now time.Time) (tooLong bool) {
	if !is {
		delete(c.late, id)
		return false
	}
	since, known := c.late[id]
	switch {
	case known && now.Sub(since) >= behindMax:
		delete(c.late, id)
		return true
	case known:
		return false
	}
	if c.late == nil || len(c.late) >= sentMax {
		c.late = map[model.PartitionID]time.Time{}
	}
	c.late[id] = now
	return false
}
