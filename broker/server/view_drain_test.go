package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
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

// TestRemovedWhileElecting: whether a node still votes is asked again while the controller's
// group elects, and not for ever.
func TestRemovedWhileElecting(t *testing.T) {
	for _, elections := range []int{0, 3, 1000} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			v := &clusterView{quorum: func(context.Context) (raft.Members, error) {
				if asked++; asked <= elections {
					return raft.Members{}, fmt.Errorf("members: %w", raft.ErrDropped)
				}
				return raft.Members{Voters: []raft.Member{{Node: 1}, {Node: 3, Birth: 2}}}, nil
			}}
			began := time.Now()
			for node, finished := range map[model.NodeID]bool{2: true, 3: false} {
				d, err := v.removed(t.Context(), node)
				switch {
				case elections == 1000 && !errors.Is(err, raft.ErrDropped):
					t.Errorf("without end: %+v, %v", d, err)
				case elections < 1000 && (err != nil || d.Finished != finished):
					t.Errorf("node %d after %d: %+v, %v", node, elections, d, err)
				}
			}
			if took := time.Since(began); took > 2*groupWait {
				t.Errorf("it took %v", took)
			}
		})
	}
}
