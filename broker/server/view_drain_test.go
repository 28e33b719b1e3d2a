package server

import (
	"testing"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// TestWaitsFor: a partition that has not left a node says why, and what is next.
func TestWaitsFor(t *testing.T) {
	m := &cluster.Metadata{Nodes: []cluster.Node{{ID: 0}, {ID: 1, State: controller.NodeDecommissioning}, {ID: 2}}}
	stays := cluster.Partition{Replicas: []model.NodeID{0, 1, 2}}
	goes := cluster.Partition{Replicas: []model.NodeID{1}, Move: &controller.Move{Replicas: []model.NodeID{0}, Births: []model.Birth{1}}}
	leaves := cluster.Partition{Replicas: []model.NodeID{0}, Move: &controller.Move{In: true, Replicas: []model.NodeID{0}, Births: []model.Birth{1}, Leaving: []model.NodeID{1}}}
	for _, c := range []struct {
		p            cluster.Partition
		leader       model.NodeID
		known        string
		reason, next string
	}{
		{stays, 0, "", "no node can take it: it has 3 replicas, and 2 nodes are not being decommissioned", "waits for another node, or fewer replicas: add a node, or move it to fewer"},
		{goes, 1, "node 0 is catching up", "node 0 is catching up", "bring in the replicas of nodes [0]"},
		{goes, 1, "", "node 1 moves it, 4 partitions at a time", "bring in the replicas of nodes [0]"},
		{leaves, model.NoNode, "", "it has no leader", "take the replica of node 1 out"},
	} {
		if reason, next := waitsFor(m, &c.p, 1, c.leader, c.known); reason != c.reason || next != c.next {
			t.Errorf("%+v: %q, %q", c, reason, next)
		}
	}
}
