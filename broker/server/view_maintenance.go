package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
)

// SetMaintenance implements admin.Cluster.
func (v *clusterView) SetMaintenance(ctx context.Context, node model.NodeID, on bool) error {
	return nodeError(v.cluster.SetMaintenance(ctx, node, on))
}

// Maintenance implements admin.Cluster.
func (v *clusterView) Maintenance(_ context.Context, node model.NodeID) (api.Maintenance, error) {
	m := v.cluster.Metadata()
	if _, ok := m.Node(node); !ok {
		return api.Maintenance{}, fmt.Errorf("node %d: %w; `millrace cluster info` lists them", node, api.ErrNotFound)
	}
	a := api.Maintenance{
		Node: node, Enabled: m.InMaintenance(node), Alive: v.cluster.Alive(node), Controller: m.Controller == node,
		Partitions: []api.MaintenancePartition{},
	}
	scripted := m.Scripted()
	for _, t := range m.Topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if leader, _ := v.cluster.Leader(t.PartitionID(p.Index)); leader != node {
				continue
			}
			row := api.MaintenancePartition{Topic: t.Name, Partition: p.Index, Stays: len(p.Replicas) == 1 && p.Replicas[0] == node}
			if a.Enabled {
				row.Reason = v.staysFor(p, node, scripted[t.Name])
			}
			a.Partitions = append(a.Partitions, row)
		}
	}
	a.Finished = a.Enabled && !a.Controller && !slices.ContainsFunc(a.Partitions, func(p api.MaintenancePartition) bool { return !p.Stays })
	return a, nil
}

// staysFor says why a node in maintenance leads a partition still.
func (v *clusterView) staysFor(p *cluster.Partition, node model.NodeID, scripts bool) string {
	others := slices.DeleteFunc(slices.Clone(p.Replicas), func(id model.NodeID) bool { return id == node })
	if len(others) == 0 {
		return "it has no other replica"
	}
	for _, other := range others {
		if v.cluster.MayLead(other, scripts, steadyFor) || v.cluster.MayLead(other, false, steadyFor) {
			return fmt.Sprintf("it waits for its turn: node %d can take it", other)
		}
	}
	return fmt.Sprintf("none of nodes %v can take it now: they are down, have just come, or should not lead", others)
}
