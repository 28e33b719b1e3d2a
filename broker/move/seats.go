package move

import (
	"sync"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// Births tells of the replica that this node has of a shard, as raft does.
type Births interface {
	Birth(shard model.ShardID) (model.Birth, bool)
}

// Seats says which replicas a node is to run. Its methods are safe from any goroutine.
type Seats struct {
	node   model.NodeID
	births Births
	// entered are the newest replicas of this node that leaders say are in their groups.
	// mu guards them.
	mu      sync.Mutex
	entered map[model.ShardID]model.Birth
	news    chan struct{}
}

// NewSeats gives those of a node, to which no leader has spoken yet.
func NewSeats(node model.NodeID, births Births) *Seats {
	return &Seats{node: node, births: births, entered: map[model.ShardID]model.Birth{}, news: make(chan struct{}, 1)}
}

// Seat gives the replica of a partition that this node is to run, if any: the one that
// the metadata names, unless there is another whose vote the group may still need.
func (s *Seats) Seat(p *cluster.Partition) (controller.Seat, bool) {
	wanted, ok := p.Seat(s.node)
	have, held := s.births.Birth(p.Shard)
	if !held || ok && have == wanted.Birth || s.isOut(p, have) {
		return wanted, ok
	}
	return controller.Seat{Node: s.node, Birth: have}, true
}

// Runs tells whether the replica that this node has of a partition is the one that it is
// to run.
func (s *Seats) Runs(p *cluster.Partition) bool {
	seat, ok := s.Seat(p)
	have, _ := s.births.Birth(p.Shard)
	return ok && have == seat.Birth
}

// isOut tells whether a replica of this node that the metadata does not name is out of its
// group: a move ends only when all those are, and a group takes no second of a node.
func (s *Seats) isOut(p *cluster.Partition, have model.Birth) bool {
	if p.Move == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entered[p.Shard] > have
}

// Hear takes a leader's word that a replica of this node is in its group.
func (s *Seats) Hear(shard model.ShardID, birth model.Birth) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if birth <= s.entered[shard] {
		return
	}
	s.entered[shard] = birth
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Forget is told that this node has no replica of a shard any more, and is to have none.
func (s *Seats) Forget(shard model.ShardID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entered, shard)
}

// News ticks after a leader's word that may change a Seat; ticks that nobody took yet are
// one.
func (s *Seats) News() <-chan struct{} { return s.news }

// Replica is what raft is to start of a partition, on the node of a replica of that birth.
func Replica(p *cluster.Partition, birth model.Birth) raft.Replica {
	r := raft.Replica{Shard: p.Shard, Birth: birth, Members: p.Replicas, Joins: joins(p, birth)}
	if r.Joins {
		r.Members = p.Holders()
	}
	return r
}

// joins tells whether the group is there. Until its replicas are first others than those
// that it was made of, a replica without log may be one of those who make it.
func joins(p *cluster.Partition, birth model.Birth) bool { return birth > 0 || p.Moved > 0 }
