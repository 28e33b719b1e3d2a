package controller

import (
	"maps"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// placer spreads replicas: each goes to the registered node that has the
// fewest, the lowest id first among equals.
type placer struct {
	ids    []model.NodeID // ascending
	counts map[model.NodeID]int
}

// placer counts the replicas that there are.
func (s *State) placer() *placer {
	p := &placer{ids: slices.Sorted(maps.Keys(s.nodes)), counts: map[model.NodeID]int{}}
	for _, t := range s.topics {
		for _, part := range t.Partitions {
			for _, id := range part.Replicas {
				p.counts[id]++
			}
		}
	}
	return p
}

// place gives the replicas of one more partition, the first preferred to lead.
func (p *placer) place(replication int16) []model.NodeID {
	byCount := slices.Clone(p.ids)
	slices.SortStableFunc(byCount, func(a, b model.NodeID) int { return p.counts[a] - p.counts[b] })
	chosen := byCount[:replication]
	for _, id := range chosen {
		p.counts[id]++
	}
	return slices.Clone(chosen)
}

// checkReplication refuses what place could not do.
func (s *State) checkReplication(topic string, replication int16) *Refusal {
	if replication < 1 || int(replication) > len(s.nodes) {
		return refuse(ErrInvalidReplication, "topic %q asks for %d replicas, %d nodes are registered", topic, replication, len(s.nodes))
	}
	return nil
}

// checkAssignment refuses replicas that are not distinct registered nodes.
func (s *State) checkAssignment(topic string, rows [][]model.NodeID) *Refusal {
	for i, row := range rows {
		if len(row) == 0 || len(row) != len(rows[0]) {
			return refuse(ErrInvalidAssignment, "topic %q: the partitions do not all have the same number of replicas, at least 1", topic)
		}
		for j, id := range row {
			if _, ok := s.nodes[id]; !ok {
				return refuse(ErrInvalidAssignment, "topic %q: partition %d of the assignment names node %d, which is not registered", topic, i, id)
			}
			if slices.Contains(row[:j], id) {
				return refuse(ErrInvalidAssignment, "topic %q: partition %d of the assignment names node %d twice", topic, i, id)
			}
		}
	}
	return nil
}
