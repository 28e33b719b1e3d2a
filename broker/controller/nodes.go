package controller

import (
	"reflect"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// NodeState is what becomes of a node.
type NodeState string

// The states.
const (
	NodeActive NodeState = ""
	// NodeDecommissioning: its replicas are brought elsewhere, and it gets no more.
	NodeDecommissioning NodeState = "decommissioning"
)

func (s *State) registerNode(c *RegisterNode) (Result, bool) {
	n := c.Node
	switch {
	case n.ID < 0:
		return refused(refuse(ErrInvalidNode, "id %d is negative", n.ID))
	case s.clusterID == "" && c.ClusterID == "":
		return refused(refuse(ErrInvalidNode, "node %d is the first and brings no cluster id", n.ID))
	}
	if s.clusterID == "" {
		s.clusterID, s.level = c.ClusterID, n.Level // nothing older is there that could know less
		for _, id := range c.Founders {
			s.nodes[id] = &Node{ID: id}
		}
	}
	if no := s.judgeBuild(&n); no != nil {
		return refused(no)
	}
	r := Result{ClusterID: s.clusterID}
	old, ok := s.nodes[n.ID]
	if no := s.isAnother(old, &n); no != nil {
		return refused(no)
	}
	n.State, n.Birth = NodeActive, 0 // they are not the node's to say
	if ok {
		n.State, n.Birth = old.State, old.Birth
	}
	if ok && reflect.DeepEqual(*old, n) {
		return r, false
	}
	s.nodes[n.ID] = &n
	return r, true
}

// isAnother refuses a node that was removed, or is another disk's now; old may be nil.
func (s *State) isAnother(old, n *Node) *Refusal {
	if _, gone := s.gone[n.ID]; gone {
		return refuse(ErrNodeGone, "node %d was decommissioned and is no part of the cluster any more", n.ID)
	}
	if old != nil && old.Disk != "" && old.Disk != n.Disk {
		return refuse(ErrNodeGone, "node %d is another disk's by now: this one was given up", n.ID)
	}
	return nil
}

func (s *State) decommissionNode(c *DecommissionNode) (Result, bool) {
	return s.setNodeState(c.Node, NodeDecommissioning)
}

// recommissionNode also takes back what was to leave the node and is still there.
func (s *State) recommissionNode(c *RecommissionNode) (Result, bool) {
	if n, ok := s.nodes[c.Node]; ok && n.State != NodeDecommissioning {
		return Result{}, false
	}
	r, changed := s.setNodeState(c.Node, NodeActive)
	if !changed {
		return r, false
	}
	own := map[model.TopicID]bool{}
	for _, t := range s.Topics() {
		for _, p := range t.Partitions {
			if p.Move == nil || p.Move.In || !p.Move.Drain || !slices.Contains(without(p.Replicas, p.Move.Replicas), c.Node) {
				continue
			}
			ask := Reassignment{Partition: t.PartitionID(p.Index), Cancel: true}
			_, no := s.reassign(&ask, own)
			must(no == nil, "a move under way cannot be cancelled: %v", no)
		}
	}
	return r, true
}

func (s *State) setNodeState(id model.NodeID, state NodeState) (Result, bool) {
	old, ok := s.nodes[id]
	if !ok {
		return refused(refuse(ErrInvalidNode, "node %d is not registered", id))
	}
	if old.State == state {
		return Result{}, false
	}
	n := *old
	n.State = state
	s.nodes[id] = &n
	return Result{}, true
}

// active tells whether a node may be given replicas.
func (s *State) active(id model.NodeID) bool {
	n, ok := s.nodes[id]
	return ok && n.State != NodeDecommissioning
}

// drain moves partitions off nodes that are being decommissioned, each replica to the
// active node that has the fewest and none of that partition yet. It is done after every
// change: whatever makes room is used. A partition for which there is no node stays.
func (s *State) drain() {
	leaving := map[model.NodeID]bool{}
	for id, n := range s.nodes {
		if n.State == NodeDecommissioning {
			leaving[id] = true
		}
	}
	if len(leaving) == 0 {
		return
	}
	var p *placer // made when it is needed
	own := map[model.TopicID]bool{}
	for _, t := range s.Topics() {
		for i := range t.Partitions {
			part := &s.topics[t.ID].Partitions[i]
			if !slices.ContainsFunc(part.Goal(), func(id model.NodeID) bool { return leaving[id] }) {
				continue
			}
			if p == nil {
				p = s.placer()
				p.ids = slices.DeleteFunc(p.ids, func(id model.NodeID) bool { return !s.nodes[id].Come() })
			}
			goal, ok := s.instead(p, t, int32(i), leaving)
			if !ok {
				continue
			}
			ask := Reassignment{Partition: t.PartitionID(int32(i)), Replicas: goal}
			moved, no := s.reassign(&ask, own)
			must(no == nil, "a placed goal is refused: %v", no)
			moved.Move.Drain = true
		}
	}
}
