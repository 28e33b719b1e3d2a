package controller

import "github.com/millrace-io/millrace/broker/model"

// NodeMaintenance: the node leads nothing. It keeps its replicas, which vote, and may be
// given more.
const NodeMaintenance NodeState = "maintenance"

// SetMaintenance has a node lead nothing, or ends that. One node at a time may be so:
// with two of three nobody would be left to give leadership to.
type SetMaintenance struct {
	Node model.NodeID `json:"node"`
	On   bool         `json:"on"`
}

func (s *State) setMaintenance(c *SetMaintenance) (Result, bool) {
	n, ok := s.nodes[c.Node]
	switch {
	case !ok:
		return refused(refuse(ErrInvalidNode, "node %d is not registered", c.Node))
	case !c.On && n.State == NodeMaintenance:
		return s.setNodeState(c.Node, NodeActive)
	case !c.On || n.State == NodeMaintenance:
		return Result{}, false
	case n.State == NodeDecommissioning:
		return refused(refuse(ErrNodeState, "node %d is being decommissioned", c.Node))
	}
	for _, other := range s.Nodes() {
		if other.State == NodeMaintenance {
			return refused(refuse(ErrNodeState, "node %d is in maintenance, one node at a time may be", other.ID))
		}
	}
	return s.setNodeState(c.Node, NodeMaintenance)
}
