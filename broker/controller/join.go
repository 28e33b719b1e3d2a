package controller

import (
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// JoinNode takes a node in whose data directory knows no cluster: a new one, or one that
// lost its disk. Node has what RegisterNode takes; its Disk names the directory, so that
// whoever asks twice is given the same. Node.ID may be NoNode: an id is assigned.
//
// Renew: its data is there, and only its log of the controller's group is lost, that of
// Node.Birth. It gets another birth, and no partition does.
type JoinNode struct {
	Node  Node `json:"node"`
	Renew bool `json:"renew,omitempty"`
}

// RemoveNode ends the membership of a node that is being decommissioned and holds nothing
// any more. Its id is not assigned again.
type RemoveNode struct {
	Node model.NodeID `json:"node"`
}

// RenewReplica has a node's replica of a partition begin anew that cannot be started: its
// files, or its log, are damaged. Birth is the replica's: of another nothing is done.
type RenewReplica struct {
	Partition model.PartitionID `json:"partition"`
	Node      model.NodeID      `json:"node"`
	Birth     model.Birth       `json:"birth"`
}

// joinNode answers the node's id and birth. A node that the cluster knows by another disk
// has lost what it gave its word for: its replicas begin anew, under new births, and
// the old ones have no vote any more once their groups have taken them out.
func (s *State) joinNode(c *JoinNode) (Result, bool) {
	n := c.Node
	switch {
	case s.clusterID == "":
		return refused(refuse(ErrInvalidNode, "there is no cluster to join yet"))
	case n.Disk == "" || n.RPC == "":
		return refused(refuse(ErrInvalidNode, "a node that joins names its disk and its node-to-node address"))
	case n.ID < 0 && n.ID != model.NoNode:
		return refused(refuse(ErrInvalidNode, "id %d is negative", n.ID))
	}
	if no := s.judgeBuild(&n); no != nil {
		return refused(no)
	}
	for _, old := range s.nodes {
		if old.Disk == n.Disk && c.Renew && old.Birth == n.Birth {
			again := *old
			again.Birth++
			s.nodes[old.ID] = &again
			return Result{ClusterID: s.clusterID, Node: &NodeResult{ID: old.ID, Birth: again.Birth}}, true
		}
		if old.Disk == n.Disk {
			return Result{ClusterID: s.clusterID, Node: &NodeResult{ID: old.ID, Birth: old.Birth}}, false
		}
	}
	if c.Renew {
		return refused(refuse(ErrNodeGone, "no node has this disk: node %d was removed, or is another disk's", n.ID))
	}
	if old, ok := s.nodes[n.ID]; ok && !old.Come() {
		return refused(refuse(ErrInvalidNode, "node %d is to form the cluster, and has not come yet: start it with --seeds that name it", n.ID))
	}
	if n.ID == model.NoNode {
		n.ID = s.nextNode()
	}
	n.State, n.Birth = NodeActive, s.gone[n.ID]+1
	if old, ok := s.nodes[n.ID]; ok {
		n.State, n.Birth = old.State, old.Birth+1
	}
	delete(s.gone, n.ID)
	s.nodes[n.ID] = &n
	s.renewNode(n.ID)
	return Result{ClusterID: s.clusterID, Node: &NodeResult{ID: n.ID, Birth: n.Birth}}, true
}

// nextNode gives an id above all that there ever were.
func (s *State) nextNode() model.NodeID {
	next := model.NodeID(0)
	for id := range s.nodes {
		next = max(next, id+1)
	}
	for id := range s.gone {
		next = max(next, id+1)
	}
	return next
}

// renewNode gives every replica of a node another birth.
func (s *State) renewNode(node model.NodeID) {
	own := map[model.TopicID]bool{}
	for _, t := range s.Topics() {
		for i := range t.Partitions {
			p := s.topics[t.ID].Partitions[i]
			if s.renew(&p, node) {
				s.changePartition(s.topics[t.ID], p, own)
			}
		}
	}
}

// renew has a node's replica begin anew. The others are the partition's until it is in
// again. Where there is no other the partition is lost.
func (s *State) renew(p *Partition, node model.NodeID) (changed bool) {
	seat, ok := p.Seat(node)
	if !ok {
		return false
	}
	p.Born++
	at := slices.Index(p.Replicas, node)
	if at >= 0 && len(p.Replicas) == 1 {
		p.Births, p.Moved, p.Move, p.Lost = []model.Birth{p.Born}, s.version, nil, true
		return true
	}
	move := Move{Replicas: p.Replicas}
	for i := range p.Replicas {
		move.Births = append(move.Births, p.birth(i))
	}
	if p.Move != nil {
		move = *p.Move
		move.Births = slices.Clone(move.Births)
	}
	for i, n := range move.Replicas {
		if n == node && move.Births[i] == seat.Birth {
			move.Births[i] = p.Born
		}
	}
	move.Revision, move.In = s.version, false
	switch {
	case s.Level() < LevelThird:
		move.Leaving = nil
	case !slices.Contains(move.Replicas, node): // what it was is in the group, and does not run
		move.Leaving = append(without(move.Leaving, []model.NodeID{node}), node)
	}
	if at >= 0 {
		births := make([]model.Birth, 0, len(p.Replicas))
		for i := range p.Replicas {
			births = append(births, p.birth(i))
		}
		p.Replicas, p.Births, p.Moved = slices.Delete(slices.Clone(p.Replicas), at, at+1), slices.Delete(births, at, at+1), s.version
		if !slices.ContainsFunc(p.Births, func(b model.Birth) bool { return b > 0 }) {
			p.Births = nil
		}
	}
	p.Move = &move
	return true
}

func (s *State) renewReplica(c *RenewReplica) (Result, bool) {
	t, p, no := s.partition(c.Partition)
	if no != nil {
		return refused(no)
	}
	if seat, ok := p.Seat(c.Node); !ok || seat.Birth != c.Birth {
		return refused(refuse(ErrConflict, "node %d holds no replica %d of partition %d of topic %q", c.Node, c.Birth, p.Index, t.Name))
	}
	if len(p.Replicas) == 1 && p.Replicas[0] == c.Node {
		return refused(refuse(ErrInvalidAssignment, "partition %d of topic %q is on node %d alone", p.Index, t.Name, c.Node))
	}
	s.renew(&p, c.Node)
	s.putPartition(t, p)
	return Result{Partitions: []PartitionResult{{Partition: &p}}}, true
}

func (s *State) removeNode(c *RemoveNode) (Result, bool) {
	n, ok := s.nodes[c.Node]
	switch {
	case !ok:
		return refused(refuse(ErrInvalidNode, "node %d is not registered", c.Node))
	case n.State != NodeDecommissioning:
		return refused(refuse(ErrInvalidNode, "node %d is not being decommissioned", c.Node))
	case s.holds(c.Node):
		return refused(refuse(ErrInvalidNode, "node %d still holds partitions", c.Node))
	}
	s.dropNode(c.Node)
	return Result{}, true
}

// holds tells whether a node holds a replica, or is about to.
func (s *State) holds(node model.NodeID) bool {
	for _, t := range s.topics {
		for i := range t.Partitions {
			if slices.Contains(t.Partitions[i].Holders(), node) {
				return true
			}
		}
	}
	return false
}

// Gone gives the nodes that were removed, and which birth each had last.
func (s *State) Gone() map[model.NodeID]model.Birth { return s.gone }
