package controller

import (
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// ForgetLost strikes out nodes that are gone for ever, with their disks. Their replicas are
// lost; those that are left make up the partition. A partition of which none is left
// begins anew, empty, if BeginEmpty says so or its topic is internal, which nobody could
// delete; else it stays what it was, without a leader. It may be repeated.
type ForgetLost struct {
	Nodes      []model.NodeID `json:"nodes"`
	BeginEmpty bool           `json:"begin_empty,omitempty"`
	// Dead are replicas of other nodes that their groups go on without. Each comes back
	// under a new birth.
	Dead []DeadSeat `json:"dead,omitempty"`
}

// DeadSeat is a replica that its group has none of any more.
type DeadSeat struct {
	Shard model.ShardID `json:"shard"`
	Seat
}

// Forgotten tells what ForgetLost has found: partitions that have fewer replicas now, those
// that have begun anew, and those that are lost.
type Forgotten struct {
	Fewer []model.PartitionID `json:"fewer,omitempty"`
	Begun []model.PartitionID `json:"begun,omitempty"`
	Lost  []model.PartitionID `json:"lost,omitempty"`
}

// Commands that only the lost nodes had may have given ids away that are in use: a client
// goes on with its producer id, a group remembers which of its replicas are dead. None of
// them may be given twice, so that all counters leap over what may have been given.
const (
	producersLeapt model.ProducerID = 1 << 32
	shardsLeapt    model.ShardID    = 1 << 20 // a multiple of what raft counts its hosts by
	scriptsLeapt   model.ScriptID   = 1 << 20
	activationLeap model.Activation = 1 << 20
	birthsLeapt    model.Birth      = 1 << 16
)

func (s *State) leap() {
	s.next.Producer += producersLeapt
	s.next.Shard += shardsLeapt
	s.next.Script += scriptsLeapt
	s.next.Activation += activationLeap
}

func (s *State) forgetLost(c *ForgetLost) (Result, bool) {
	changed := false
	for _, id := range c.Nodes {
		if _, known := s.nodes[id]; known {
			s.dropNode(id)
			changed = true
		}
	}
	if len(s.nodes) == 0 {
		return refused(refuse(ErrInvalidNode, "of all nodes none is left when %v are forgotten", c.Nodes))
	}
	f := &forgetting{s: s, begin: c.BeginEmpty, dead: map[DeadSeat]bool{}, found: &Forgotten{}}
	for _, d := range c.Dead {
		f.dead[d] = true
	}
	if changed {
		s.leap()
		f.births = birthsLeapt
	}
	for _, t := range s.Topics() {
		n := *t
		n.Partitions = slices.Clone(t.Partitions)
		touched := false
		for i := range n.Partitions {
			touched = f.partition(t, &n.Partitions[i]) || touched
		}
		if touched {
			s.put(&n)
			changed = true
		}
	}
	return Result{Forgotten: f.found}, changed
}

// dropNode strikes a node out, with its settings. Its id is not assigned again.
func (s *State) dropNode(id model.NodeID) {
	s.gone[id] = s.nodes[id].Birth
	delete(s.nodes, id)
	delete(s.nodeConfigs, id)
}

// forgetting is one ForgetLost on its way through the topics.
type forgetting struct {
	s      *State
	begin  bool
	dead   map[DeadSeat]bool
	births model.Birth // that may have been given
	place  *placer     // made when it is needed
	found  *Forgotten
}

// partition changes p in place, and tells whether it has.
func (f *forgetting) partition(t *Topic, p *Partition) bool {
	p.Born += f.births
	leapt := f.births > 0
	isDead := func(seat Seat) bool { return f.dead[DeadSeat{p.Shard, seat}] }
	isGone := func(seat Seat) bool { return f.s.nodes[seat.Node] == nil || isDead(seat) }
	if !slices.ContainsFunc(p.Seats(), isGone) {
		return leapt
	}
	had := p.Seats()[:len(p.Replicas)]
	left := slices.DeleteFunc(slices.Clone(had), isGone)
	if len(left) == 0 && p.Move != nil { // whoever was on its way has what it was sent
		left = slices.DeleteFunc(p.Move.Seats(), isGone)
	}
	again := slices.DeleteFunc(had, func(s Seat) bool { return !isDead(s) || f.s.nodes[s.Node] == nil })
	id := t.PartitionID(p.Index)
	switch {
	case len(left) > 0:
		f.shrink(p, left, again)
		f.found.Fewer = append(f.found.Fewer, id)
		return true
	case (f.begin || t.Internal) && f.restart(p):
		f.found.Begun = append(f.found.Begun, id)
		return true
	}
	f.found.Lost = append(f.found.Lost, id)
	return leapt
}

// shrink leaves a partition on the seats that are left, and has those of again, if any, come
// back. It is a move, whose leader removes from the group whoever else is there; one that was
// under way is given up.
func (f *forgetting) shrink(p *Partition, left, again []Seat) {
	holders := p.Holders()
	p.Replicas, p.Births = split(left)
	m := &Move{Revision: f.s.version, In: len(again) == 0}
	for _, s := range again {
		p.Born++
		left = append(left, Seat{s.Node, p.Born})
	}
	m.Replicas, m.Births = split(left)
	if m.In || f.s.Level() >= LevelThird {
		m.Leaving = without(holders, m.Replicas)
	}
	p.Moved, p.Move = f.s.version, m
	if !slices.ContainsFunc(p.Births, func(b model.Birth) bool { return b > 0 }) {
		p.Births = nil
	}
}

func split(seats []Seat) (nodes []model.NodeID, births []model.Birth) {
	for _, s := range seats {
		nodes, births = append(nodes, s.Node), append(births, s.Birth)
	}
	return nodes, births
}

// restart gives a partition a new group, as if it was made now. False if no node can take it.
func (f *forgetting) restart(p *Partition) bool {
	if f.place == nil {
		f.place = f.s.placer()
		f.place.ids = slices.DeleteFunc(f.place.ids, func(id model.NodeID) bool { return !f.s.nodes[id].Come() })
	}
	count := min(len(p.Replicas), len(f.place.ids))
	if count == 0 {
		return false
	}
	*p = Partition{Index: p.Index, Shard: f.s.next.Shard, Replicas: f.place.place(int16(count))}
	f.s.next.Shard++
	return true
}
