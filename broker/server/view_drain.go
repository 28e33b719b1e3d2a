package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/raft"
)

// waiting is a move that a node makes and why it waits, as raft.MethodMoves answers.
type waiting struct {
	Partition model.PartitionID `json:"partition"`
	Why       string            `json:"why"`
}

// waits gives every move that waits here.
func waits(m *move.Mover) []waiting {
	list := []waiting{}
	for id, why := range m.Reasons() {
		list = append(list, waiting{id, why})
	}
	return list
}

// movesWait bounds the question to one node what its moves wait for.
const movesWait = 2 * time.Second

// reasons asks the nodes that lead partitions why their moves wait. Of a node that does
// not answer nothing is known.
func (s *Server) reasons(ctx context.Context, leaders []model.NodeID) map[model.PartitionID]string {
	ctx, cancel := context.WithTimeout(ctx, movesWait)
	defer cancel()
	var mu sync.Mutex
	known := map[model.PartitionID]string{}
	var wg sync.WaitGroup
	for _, n := range leaders {
		wg.Go(func() {
			list := []waiting(nil)
			if n == s.n.ID {
				list = waits(s.mover)
			} else if b, err := s.raft.Call(ctx, n, raft.MethodMoves, nil); err != nil || json.Unmarshal(b, &list) != nil {
				s.log.Debug("moves not told", "node", n, "err", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, w := range list {
				known[w.Partition] = w.Why
			}
		})
	}
	wg.Wait()
	return known
}

// Decommission implements admin.Cluster.
func (v *clusterView) Decommission(ctx context.Context, node model.NodeID) error {
	return nodeError(v.cluster.Decommission(ctx, node))
}

// Recommission implements admin.Cluster.
func (v *clusterView) Recommission(ctx context.Context, node model.NodeID) error {
	return nodeError(v.cluster.Recommission(ctx, node))
}

func nodeError(err error) error {
	switch {
	case errors.Is(err, cluster.ErrInvalidNode):
		return fmt.Errorf("%w: %w", api.ErrNotFound, err)
	case errors.Is(err, cluster.ErrNodeState):
		return fmt.Errorf("%w: %w", api.ErrConflict, err)
	}
	return adminError(err)
}

// DecommissionStatus implements admin.Cluster.
func (v *clusterView) DecommissionStatus(ctx context.Context, node model.NodeID) (api.Decommission, error) {
	m := v.cluster.Metadata()
	n, ok := m.Node(node)
	if _, gone := m.Gone[node]; !ok && gone {
		return v.removed(ctx, node)
	}
	if !ok {
		return api.Decommission{}, fmt.Errorf("node %d: %w; `millrace cluster info` lists them", node, api.ErrNotFound)
	}
	d := api.Decommission{Node: node, State: "active", Alive: v.cluster.Alive(node), Partitions: []api.DecommissionPartition{}}
	if n.State != controller.NodeActive {
		d.State = string(n.State)
	}
	var leaders []model.NodeID
	var held []controller.Partition
	var ids []model.PartitionID
	for _, t := range m.Topics() {
		for _, p := range t.Partitions {
			if !slices.Contains(p.Holders(), node) {
				continue
			}
			leader, _ := v.cluster.Leader(t.PartitionID(p.Index))
			if leader != model.NoNode && p.Move != nil && !slices.Contains(leaders, leader) {
				leaders = append(leaders, leader)
			}
			held, ids = append(held, p), append(ids, t.PartitionID(p.Index))
			d.Partitions = append(d.Partitions, api.DecommissionPartition{
				Topic: t.Name, Partition: p.Index, Leader: leader, Replicas: p.Holders(), MovesTo: p.Goal(),
			})
		}
	}
	if n.State != controller.NodeDecommissioning {
		d.Partitions = []api.DecommissionPartition{} // they stay
		return d, nil
	}
	reasons := v.reasons(ctx, leaders)
	for i := range d.Partitions {
		r := &d.Partitions[i]
		r.Reason, r.Next = waitsFor(m, &held[i], node, r.Leader, reasons[ids[i]])
	}
	return d, nil
}

// removed tells of a node that was removed whether it still has a vote.
func (v *clusterView) removed(ctx context.Context, node model.NodeID) (api.Decommission, error) {
	d := api.Decommission{Node: node, State: "removed", Partitions: []api.DecommissionPartition{}}
	ctx, cancel := context.WithTimeout(ctx, groupWait)
	defer cancel()
	group, err := v.group(ctx)
	if err != nil {
		return d, err
	}
	d.Finished = !slices.ContainsFunc(slices.Concat(group.Voters, group.Learners), func(m raft.Member) bool { return m.Node == node })
	if !d.Finished {
		d.State = "leaving"
	}
	return d, nil
}

// waitsFor says why a partition has not left a node yet, and what is done next.
func waitsFor(m *cluster.Metadata, p *cluster.Partition, node, leader model.NodeID, known string) (reason, next string) {
	if slices.Contains(p.Goal(), node) {
		active := 0
		for i := range m.Nodes {
			if m.Nodes[i].State != controller.NodeDecommissioning {
				active++
			}
		}
		return fmt.Sprintf("no node can take it: it has %d replicas, and %d nodes are not being decommissioned", len(p.Replicas), active),
			"waits for another node, or fewer replicas: add a node, or move it to fewer"
	}
	reason = whyMoving(leader, known)
	if p.Move != nil && !p.Move.In {
		return reason, fmt.Sprintf("bring in the replicas of nodes %v", p.Adding())
	}
	return reason, fmt.Sprintf("take the replica of node %d out", node)
}

// whyMoving says why a move is not over. known is what its leader says it waits for, if anything.
func whyMoving(leader model.NodeID, known string) string {
	switch {
	case known != "":
		return known
	case leader == model.NoNode:
		return "it has no leader"
	}
	return fmt.Sprintf("node %d moves it, %d partitions at a time", leader, move.AtOnce)
}

// Moves implements admin.Cluster.
func (v *clusterView) Moves(ctx context.Context) ([]api.Move, error) {
	moves, ids, leaders := []api.Move{}, []model.PartitionID{}, []model.NodeID{}
	for _, t := range v.cluster.Metadata().Topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if p.Move == nil {
				continue
			}
			id := t.PartitionID(p.Index)
			leader, _ := v.cluster.Leader(id)
			if leader != model.NoNode && !slices.Contains(leaders, leader) {
				leaders = append(leaders, leader)
			}
			moves, ids = append(moves, api.Move{
				Topic: t.Name, Partition: p.Index, Leader: leader, Replicas: p.Holders(),
				Adding: append([]model.NodeID{}, p.Adding()...), Removing: append([]model.NodeID{}, p.Removing()...),
			}), append(ids, id)
		}
	}
	reasons := v.reasons(ctx, leaders)
	for i := range moves {
		moves[i].Reason = whyMoving(moves[i].Leader, reasons[ids[i]])
	}
	return moves, nil
}
