package server

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// Balance implements admin.Balancer. Any node can tell: the plan follows from the
// metadata and from what all nodes say.
func (v *clusterView) Balance(ctx context.Context) (api.Balance, error) {
	m := v.cluster.Metadata()
	plan, w := v.rebalancer.plan(ctx, m)
	b := api.Balance{
		Reason: plan.Waits, MovesMax: m.Cluster.Balance.MovesMax, Nodes: balanceNodes(m, w, v.rebalancer.silence()),
		UnderWay: []api.BalanceMove{}, Planned: []api.BalanceMove{}, Stuck: []api.BalanceProblem{},
	}
	for _, t := range underWay(m) {
		move := api.BalanceMove{Topic: t.topic.Name, Partition: t.partition.Index, From: t.partition.Replicas, To: t.partition.Move.Replicas, Bytes: -1, Why: movedFor(t.partition.Move)}
		b.UnderWay = append(b.UnderWay, move)
	}
	for _, p := range plan.Moves {
		b.Planned = append(b.Planned, api.BalanceMove{Topic: p.Topic, Partition: p.Partition.Index, From: p.From, To: p.To, Bytes: p.Bytes, Why: p.Why})
		b.Bytes += p.Bytes
	}
	for _, s := range plan.Stuck {
		b.Stuck = append(b.Stuck, api.BalanceProblem{Topic: s.Topic, Partition: s.Index, Why: s.Why})
	}
	b.State = balanceState(m, &b)
	return b, nil
}

// movedFor says why a partition moves.
func movedFor(move *controller.Move) string {
	switch {
	case move.Balance != "":
		return move.Balance
	case move.Drain:
		return "a node is being decommissioned"
	}
	return "somebody asked for it"
}

func balanceState(m *cluster.Metadata, b *api.Balance) string {
	switch {
	case m.Cluster.Balance.Paused:
		return api.BalancePaused
	case len(b.UnderWay) > 0 || len(b.Planned) > 0:
		return api.BalanceInProgress
	case len(b.Stuck) > 0:
		return api.BalanceStalled
	case b.Reason != "":
		return api.BalanceWaiting
	}
	return api.BalanceReady
}

func balanceNodes(m *cluster.Metadata, w controller.Weights, silent map[model.NodeID]time.Duration) []api.BalanceNode {
	nodes := make([]api.BalanceNode, len(m.Nodes))
	at := map[model.NodeID]*api.BalanceNode{}
	for i, n := range m.Nodes {
		nodes[i] = api.BalanceNode{ID: n.ID, Rack: n.Rack, State: "active", SilentSeconds: silent[n.ID].Seconds(), DiskUsed: -1, DiskTotal: -1}
		switch {
		case n.State != controller.NodeActive:
			nodes[i].State = string(n.State)
		case w.Gone[n.ID]:
			nodes[i].State = "gone"
		case w.Down[n.ID]:
			nodes[i].State = "down"
		}
		if told, ok := w.Nodes[n.ID]; ok {
			nodes[i].DiskUsed, nodes[i].DiskTotal = told.DiskUsed, told.DiskTotal
		}
		at[n.ID] = &nodes[i]
	}
	for _, t := range m.Topics() {
		for i := range t.Partitions {
			goal := t.Partitions[i].Goal()
			for _, id := range goal {
				if n := at[id]; n != nil {
					n.Replicas++
				}
			}
			if n := at[goal[0]]; n != nil {
				n.Leaders++
			}
		}
	}
	return nodes
}

// PauseBalance implements admin.Balancer.
func (v *clusterView) PauseBalance(ctx context.Context, paused bool) error {
	op := cluster.ConfigOp{Name: "millrace.balance.paused", Kind: cluster.OpSet, Value: strconv.FormatBool(paused)}
	if err := v.cluster.AlterClusterConfigs(ctx, model.NoNode, []cluster.ConfigOp{op}, false); err != nil {
		return fmt.Errorf("change cluster settings: %w", adminError(err))
	}
	return nil
}
