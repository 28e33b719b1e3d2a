package controller

import (
	"maps"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// placer spreads replicas: each goes to the registered node that has the fewest, and
// of a partition's nodes the one that leads the fewest is to lead it. The lowest id
// comes first among equals.
type placer struct {
	ids    []model.NodeID       // those that may be given replicas, ascending
	counts map[model.NodeID]int // replicas
	leads  map[model.NodeID]int // of these, first ones
}

// placer counts the replicas that there are.
func (s *State) placer() *placer {
	p := &placer{ids: s.activeNodes(), counts: map[model.NodeID]int{}, leads: map[model.NodeID]int{}}
	for _, t := range s.topics {
		for _, part := range t.Partitions {
			p.count(part.Goal())
		}
	}
	return p
}

func (p *placer) count(replicas []model.NodeID) {
	for _, id := range replicas {
		p.counts[id]++
	}
	p.leads[replicas[0]]++
}

// place gives the replicas of one more partition, the first preferred to lead.
func (p *placer) place(replication int16) []model.NodeID {
	byCount := slices.Clone(p.ids)
	slices.SortStableFunc(byCount, func(a, b model.NodeID) int { return p.counts[a] - p.counts[b] })
	chosen := byCount[:replication:replication]
	leader := slices.MinFunc(chosen, func(a, b model.NodeID) int { return p.leads[a] - p.leads[b] })
	replicas := append([]model.NodeID{leader}, slices.DeleteFunc(chosen, func(id model.NodeID) bool { return id == leader })...)
	p.count(replicas)
	return replicas
}

// beside gives the replicas of a child's partitions from first to count: where the
// parent's are, in its order, so that a fiber has its child on its own node. What a
// parent has not is placed as any other.
func (p *placer) beside(parents []*Topic, first, count int32) [][]model.NodeID {
	replication := parents[0].Replication()
	var rows [][]model.NodeID
	for i := first; i < count; i++ {
		at := slices.IndexFunc(parents, func(t *Topic) bool {
			return int(i) < len(t.Partitions) && len(t.Partitions[i].Replicas) == int(replication)
		})
		if at < 0 && int(replication) <= len(p.ids) {
			rows = append(rows, p.place(replication))
			continue
		}
		// Where there are too few nodes it lies on one that is being decommissioned, as the
		// parent does.
		row := slices.Clone(parents[0].Partitions[0].Replicas)
		if at >= 0 {
			row = slices.Clone(parents[at].Partitions[i].Replicas)
		}
		p.count(row)
		rows = append(rows, row)
	}
	return rows
}

// instead gives a goal with others for the nodes that leave: who stays keeps its order,
// and of those that come the fewest-laden is first. If the first to lead leaves, whoever
// leads the fewest is first. ok is false if there are too few others, or none is needed.
func (p *placer) instead(goal []model.NodeID, leaving map[model.NodeID]bool) (to []model.NodeID, ok bool) {
	for _, id := range goal {
		if !leaving[id] {
			to = append(to, id)
		}
	}
	missing := len(goal) - len(to)
	others := without(p.ids, to)
	if missing == 0 || len(others) < missing {
		return nil, false
	}
	slices.SortStableFunc(others, func(a, b model.NodeID) int { return p.counts[a] - p.counts[b] })
	to = append(to, others[:missing]...)
	if leaving[goal[0]] {
		leader := slices.MinFunc(to, func(a, b model.NodeID) int { return p.leads[a] - p.leads[b] })
		to = append([]model.NodeID{leader}, slices.DeleteFunc(to, func(id model.NodeID) bool { return id == leader })...)
	}
	for _, id := range goal {
		p.counts[id]--
	}
	p.leads[goal[0]]--
	p.count(to)
	return to, true
}

// activeNodes gives the nodes that may be given replicas, ascending.
func (s *State) activeNodes() []model.NodeID {
	ids := slices.Sorted(maps.Keys(s.nodes))
	return slices.DeleteFunc(ids, func(id model.NodeID) bool { return !s.active(id) })
}

// checkReplication refuses what place could not do.
func (s *State) checkReplication(topic string, replication int16) *Refusal {
	active := len(s.activeNodes())
	switch {
	case replication >= 1 && int(replication) <= active:
		return nil
	case active < len(s.nodes):
		return refuse(ErrInvalidReplication, "topic %q asks for %d replicas, %d nodes are registered and not being decommissioned", topic, replication, active)
	}
	return refuse(ErrInvalidReplication, "topic %q asks for %d replicas, %d nodes are registered", topic, replication, active)
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
