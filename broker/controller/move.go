package controller

import (
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// reassignmentsPerCommandMax bounds what one command may ask.
const reassignmentsPerCommandMax = 10_000

// Move is a reassignment under way. Until all of its replicas are in the partition's
// group, those of before are the partition's, so that it can be taken back; then they
// change at once, and it goes on until nobody else is in the group.
type Move struct {
	// Revision is the version of the state that last changed it: whoever speaks of it
	// names that.
	Revision uint64 `json:"revision"`
	// Replicas are where it goes, in order, with a birth each.
	Replicas []model.NodeID `json:"replicas"`
	Births   []model.Birth  `json:"births"`
	// In: they are the partition's. Leaving are who held it before, or may since an earlier
	// move that this one took the place of, and are to go.
	In      bool           `json:"in,omitempty"`
	Leaving []model.NodeID `json:"leaving,omitempty"`
	// Drain: nobody has asked for it; a node is being decommissioned.
	Drain bool `json:"drain,omitempty"`
	// Balance says why the cluster's own balance asked for it.
	Balance string `json:"balance,omitempty"`
}

// Seat is a replica's place: a node, and which of the node's it is.
type Seat struct {
	Node  model.NodeID `json:"node"`
	Birth model.Birth  `json:"birth,omitempty"`
}

// Seats gives the partition's replicas and then those that it moves to, each once.
// A seat that was once here and is no more never comes again.
func (p *Partition) Seats() []Seat {
	seats := make([]Seat, 0, 2*len(p.Replicas))
	for i, node := range p.Replicas {
		seats = append(seats, Seat{node, p.birth(i)})
	}
	if p.Move == nil {
		return seats
	}
	for _, s := range p.Move.Seats() {
		if !slices.Contains(seats, s) {
			seats = append(seats, s)
		}
	}
	return seats
}

// Seats gives the replicas that the move leads to.
func (m *Move) Seats() []Seat {
	seats := make([]Seat, len(m.Replicas))
	for i, node := range m.Replicas {
		seats[i] = Seat{node, m.Births[i]}
	}
	return seats
}

// Seat gives the replica that a node holds or is to hold.
func (p *Partition) Seat(node model.NodeID) (Seat, bool) {
	for i, n := range p.Replicas {
		if n == node {
			return Seat{n, p.birth(i)}, true // a node that stays keeps its birth
		}
	}
	if p.Move == nil {
		return Seat{}, false
	}
	for i, n := range p.Move.Replicas {
		if n == node {
			return Seat{n, p.Move.Births[i]}, true
		}
	}
	return Seat{}, false
}

// Goal gives where the replicas are, or will be.
func (p *Partition) Goal() []model.NodeID {
	if p.Move != nil {
		return p.Move.Replicas
	}
	return p.Replicas
}

// Adding and Removing give what a reassignment has yet to bring and to take.
func (p *Partition) Adding() []model.NodeID {
	if p.Move == nil || p.Move.In {
		return nil
	}
	return without(p.Move.Replicas, p.Replicas)
}

// Removing is as of Adding.
func (p *Partition) Removing() []model.NodeID {
	switch {
	case p.Move == nil:
		return nil
	case p.Move.In:
		return p.Move.Leaving
	}
	stay := slices.Concat(p.Replicas, p.Move.Replicas)
	return slices.Concat(without(p.Replicas, p.Move.Replicas), without(p.Move.Leaving, stay))
}

// behind gives the nodes that may be in the group for a move which is to be another.
func (p *Partition) behind() []model.NodeID {
	if p.Move == nil {
		return nil
	}
	return append(without(p.Move.Leaving, nil), without(p.Adding(), p.Move.Leaving)...)
}

// Lacks tells whether it has fewer replicas than it is to have: one begins anew, or more
// are on their way.
func (p *Partition) Lacks() bool { return p.Move != nil && len(p.Replicas) < len(p.Move.Replicas) }

// Holders gives all nodes that hold the partition or are about to: those of Replicas
// first. Not to be written.
func (p *Partition) Holders() []model.NodeID {
	if p.Move == nil {
		return p.Replicas
	}
	all := slices.Concat(p.Replicas, p.Adding())
	return slices.Concat(all, without(p.Removing(), all))
}

// without gives those of nodes that others has not; nil for none.
func without(nodes, others []model.NodeID) (rest []model.NodeID) {
	for _, n := range nodes {
		if !slices.Contains(others, n) {
			rest = append(rest, n)
		}
	}
	return rest
}

func (p *Partition) birth(i int) model.Birth {
	if len(p.Births) == 0 {
		return 0
	}
	return p.Births[i]
}

// whole tells whether every replica has a birth.
func (p *Partition) whole() bool {
	return (len(p.Births) == 0 || len(p.Births) == len(p.Replicas)) && (p.Move == nil || len(p.Move.Births) == len(p.Move.Replicas))
}

func (s *State) reassignPartitions(ask *ReassignPartitions) (r Result, changed bool) {
	if len(ask.Partitions) > reassignmentsPerCommandMax {
		return refused(refuse(ErrCommand, "%d reassignments in one command, %d may be", len(ask.Partitions), reassignmentsPerCommandMax))
	}
	own := map[model.TopicID]bool{}
	for i := range ask.Partitions {
		p, no := s.reassign(&ask.Partitions[i], own)
		r.Partitions = append(r.Partitions, PartitionResult{Partition: p, Refused: no})
		changed = changed || no == nil
	}
	return r, changed
}

// reassign changes the topics in own, which are this command's, in place.
func (s *State) reassign(ask *Reassignment, own map[model.TopicID]bool) (*Partition, *Refusal) {
	t, p, no := s.partition(ask.Partition)
	if no != nil {
		return nil, no
	}
	goal := ask.Replicas
	if ask.Cancel {
		if p.Move == nil || p.Move.In || slices.Equal(p.Move.Replicas, p.Replicas) {
			return nil, refuse(ErrNoReassignment, "of partition %d of topic %q", p.Index, t.Name)
		}
		goal = p.Replicas
	} else if no := s.checkGoal(t, &p, goal); no != nil {
		return nil, no
	}
	if no := ask.overtaken(t, &p); no != nil {
		return nil, no
	}
	move := &Move{Revision: s.version, Replicas: slices.Clone(goal), Balance: ask.Balance}
	for _, node := range goal {
		seat, ok := p.Seat(node)
		if !ok {
			p.Born++
			seat = Seat{node, p.Born}
		}
		move.Births = append(move.Births, seat.Birth)
	}
	if s.Level() >= LevelThird {
		move.Leaving = p.behind()
	}
	p.Move = move
	s.changePartition(t, p, own)
	return &p, nil
}

// overtaken refuses what balance planned for a partition that has been moved since.
func (ask *Reassignment) overtaken(t *Topic, p *Partition) *Refusal {
	if ask.Balance == "" {
		return nil
	}
	if m := p.Move; !slices.Equal(p.Goal(), ask.From) || m != nil && (m.Balance == "" || m.In) {
		return refuse(ErrConflict, "partition %d of topic %q has been moved since balance looked at it", p.Index, t.Name)
	}
	return nil
}

// checkGoal refuses what a partition cannot move to.
func (s *State) checkGoal(t *Topic, p *Partition, goal []model.NodeID) *Refusal {
	if len(goal) == 0 {
		return refuse(ErrInvalidAssignment, "partition %d of topic %q is to have no replicas", p.Index, t.Name)
	}
	if slices.Equal(goal, p.Goal()) {
		return refuse(ErrUnchanged, "partition %d of topic %q is, or is on its way to, where it is asked to be: %v", p.Index, t.Name, goal)
	}
	for i, id := range goal {
		n, ok := s.nodes[id]
		switch {
		case !ok:
			return refuse(ErrInvalidAssignment, "partition %d of topic %q is to be on node %d, which is not registered", p.Index, t.Name, id)
		case n.State == NodeDecommissioning && !slices.Contains(p.Goal(), id):
			return refuse(ErrInvalidAssignment, "partition %d of topic %q is to be on node %d, which is being decommissioned", p.Index, t.Name, id)
		case !n.Come() && !slices.Contains(p.Holders(), id):
			return refuse(ErrInvalidAssignment, "partition %d of topic %q is to be on node %d, which has never come", p.Index, t.Name, id)
		case slices.Contains(goal[:i], id):
			return refuse(ErrInvalidAssignment, "partition %d of topic %q is to be on node %d twice", p.Index, t.Name, id)
		}
	}
	return nil
}

func (s *State) moved(ask *Moved) (Result, bool) {
	t, p, no := s.partition(ask.Partition)
	if no != nil {
		return refused(no)
	}
	if p.Move == nil || p.Move.Revision != ask.Revision {
		return refused(refuse(ErrConflict, "partition %d of topic %q has no reassignment of revision %d", p.Index, t.Name, ask.Revision))
	}
	if p.Move.In {
		p.Move = nil
	} else {
		in := *p.Move
		in.Revision, in.In, in.Leaving = s.version, true, p.Removing()
		p.Replicas, p.Births, p.Moved, p.Move = in.Replicas, in.Births, s.version, &in
		if !slices.ContainsFunc(p.Births, func(b model.Birth) bool { return b > 0 }) {
			p.Births = nil
		}
	}
	s.putPartition(t, p)
	return Result{Partitions: []PartitionResult{{Partition: &p}}}, true
}

// partition gives a copy of a partition's record.
func (s *State) partition(id model.PartitionID) (*Topic, Partition, *Refusal) {
	t, ok := s.topics[id.Topic]
	if !ok {
		return nil, Partition{}, refuse(ErrUnknownTopic, "id %s", id.Topic)
	}
	if id.Index < 0 || int(id.Index) >= len(t.Partitions) {
		return nil, Partition{}, refuse(ErrUnknownPartition, "topic %q has no partition %d", t.Name, id.Index)
	}
	return t, t.Partitions[id.Index], nil
}

// changePartition is putPartition for a command that changes many: the records in own
// are its own already, and are changed in place.
func (s *State) changePartition(t *Topic, p Partition, own map[model.TopicID]bool) {
	if own[t.ID] {
		t.Partitions[p.Index] = p
		return
	}
	own[t.ID] = true
	s.putPartition(t, p)
}

// putPartition replaces t's record by one with this partition.
func (s *State) putPartition(t *Topic, p Partition) {
	n := *t
	n.Partitions = slices.Clone(t.Partitions)
	n.Partitions[p.Index] = p
	s.put(&n)
}
