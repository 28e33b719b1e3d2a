package cluster

import (
	"context"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// Reassignment asks that a partition be on other nodes, or cancels that.
type Reassignment = controller.Reassignment

// Reassign moves each partition on its own, the outcomes in the asked order. It returns
// when the moves are known, not when they are done. The error is of the whole, as that
// of CreateTopics.
func (c *Cluster) Reassign(ctx context.Context, asks []Reassignment) ([]error, error) {
	if len(asks) == 0 {
		return nil, nil
	}
	r, err := c.propose(ctx, controller.Command{ReassignPartitions: &controller.ReassignPartitions{Partitions: asks}})
	if err != nil {
		return nil, err
	}
	must(len(r.Partitions) == len(asks), "%d reassignments were asked, %d answered", len(asks), len(r.Partitions))
	outcomes := make([]error, len(asks))
	for i, p := range r.Partitions {
		outcomes[i] = p.Refused.Err()
	}
	return outcomes, nil
}

// Decommission has a node's replicas brought to others, and gives it no more.
func (c *Cluster) Decommission(ctx context.Context, node model.NodeID) error {
	_, err := c.propose(ctx, controller.Command{DecommissionNode: &controller.DecommissionNode{Node: node}})
	return err
}

// Recommission ends that; what has not left the node yet stays.
func (c *Cluster) Recommission(ctx context.Context, node model.NodeID) error {
	_, err := c.propose(ctx, controller.Command{RecommissionNode: &controller.RecommissionNode{Node: node}})
	return err
}

// SetMaintenance has a node lead nothing, or ends that. ErrNodeState: it is being
// decommissioned, or another is in maintenance.
func (c *Cluster) SetMaintenance(ctx context.Context, node model.NodeID, on bool) error {
	_, err := c.propose(ctx, controller.Command{SetMaintenance: &controller.SetMaintenance{Node: node, On: on}})
	return err
}

// Moved says that what a partition's move of a revision waits for is so: see
// controller.Moved. ErrConflict: the move is another, or over.
func (c *Cluster) Moved(ctx context.Context, id model.PartitionID, revision uint64) error {
	_, err := c.propose(ctx, controller.Command{Moved: &controller.Moved{Partition: id, Revision: revision}})
	return err
}

// Join takes in a node whose data directory knows no cluster, and gives its id and birth:
// see controller.JoinNode. It may be repeated.
func (c *Cluster) Join(ctx context.Context, n Node, renew bool) (model.NodeID, model.Birth, error) {
	r, err := c.propose(ctx, controller.Command{JoinNode: &controller.JoinNode{Node: n, Renew: renew}})
	if err != nil {
		return model.NoNode, 0, err
	}
	return r.Node.ID, r.Node.Birth, nil
}

// RemoveNode ends the membership of a node that is decommissioned and empty.
func (c *Cluster) RemoveNode(ctx context.Context, node model.NodeID) error {
	_, err := c.propose(ctx, controller.Command{RemoveNode: &controller.RemoveNode{Node: node}})
	return err
}

// RenewReplica has a node's replica of a birth begin anew: see controller.RenewReplica.
func (c *Cluster) RenewReplica(ctx context.Context, id model.PartitionID, node model.NodeID, birth model.Birth) error {
	_, err := c.propose(ctx, controller.Command{RenewReplica: &controller.RenewReplica{Partition: id, Node: node, Birth: birth}})
	return err
}
