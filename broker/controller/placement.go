package controller

import (
	"cmp"
	"maps"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// placer spreads replicas: each goes to a rack that has the fewest of its partition, there
// to the node that has the fewest of all, and of a partition's nodes the one that leads
// the fewest is to lead it. The lowest id comes first among equals.
type placer struct {
	ids    []model.NodeID        // those that may be given replicas, ascending
	racks  map[model.NodeID]rack // of all nodes
	counts map[model.NodeID]int  // replicas
	leads  map[model.NodeID]int  // of these, first ones
}

// rack is what fails together. A node that names none, as one that has not come yet,
// fails alone.
type rack struct {
	name  string
	alone model.NodeID
}

func rackOf(n *Node) rack {
	if n.Rack != "" {
		return rack{name: n.Rack}
	}
	return rack{alone: n.ID}
}

// placer counts the replicas that there are.
func (s *State) placer() *placer {
	p := newPlacer(s.Nodes())
	if s.Level() < LevelSecond {
		clear(p.racks) // builds of the first level know none
	}
	p.ids = s.activeNodes()
	for _, t := range s.topics {
		for _, part := range t.Partitions {
			p.count(part.Goal())
		}
	}
	return p
}

func newPlacer(nodes []*Node) *placer {
	p := &placer{racks: map[model.NodeID]rack{}, counts: map[model.NodeID]int{}, leads: map[model.NodeID]int{}}
	for _, n := range nodes {
		p.racks[n.ID] = rackOf(n)
	}
	return p
}

func (p *placer) count(replicas []model.NodeID) { p.add(replicas, 1) }

// add counts n partitions more, or fewer, that are on replicas.
func (p *placer) add(replicas []model.NodeID, n int) {
	for _, id := range replicas {
		p.counts[id] += n
	}
	p.leads[replicas[0]] += n
}

// place gives the replicas of one more partition, the first preferred to lead.
func (p *placer) place(replication int16) []model.NodeID {
	chosen := p.fill(nil, p.ids, int(replication))
	replicas := first(p.leader(chosen), chosen)
	p.count(replicas)
	return replicas
}

// fill gives chosen with as many of ids, none of which is chosen, as make it so long.
func (p *placer) fill(chosen, ids []model.NodeID, length int) []model.NodeID {
	chosen, ids = slices.Clone(chosen), slices.Clone(ids)
	for len(chosen) < length {
		best := slices.MinFunc(ids, func(a, b model.NodeID) int {
			return cmp.Or(p.inRack(a, chosen)-p.inRack(b, chosen), p.counts[a]-p.counts[b])
		})
		chosen = append(chosen, best)
		ids = slices.DeleteFunc(ids, func(id model.NodeID) bool { return id == best })
	}
	return chosen
}

// inRack tells how many of replicas are in a node's rack.
func (p *placer) inRack(node model.NodeID, replicas []model.NodeID) (n int) {
	for _, id := range replicas {
		if r, ok := p.racks[id]; ok && r == p.racks[node] {
			n++
		}
	}
	return n
}

// leader gives the one of replicas that is preferred to lead the fewest.
func (p *placer) leader(replicas []model.NodeID) model.NodeID {
	return slices.MinFunc(replicas, func(a, b model.NodeID) int { return p.leads[a] - p.leads[b] })
}

// first gives replicas with id, which is one of them, at their head.
func first(id model.NodeID, replicas []model.NodeID) []model.NodeID {
	return append([]model.NodeID{id}, without(replicas, []model.NodeID{id})...)
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

// instead gives a partition's goal without the nodes that leave: where its parent is, if
// it lay with that and the parent has left them, else see placer.instead.
func (s *State) instead(p *placer, t *Topic, index int32, leaving map[model.NodeID]bool) (to []model.NodeID, ok bool) {
	goal := s.topics[t.ID].Partitions[index].Goal()
	parent := s.parent(t, index)
	if parent == nil || s.Level() < LevelSecond {
		return p.instead(goal, leaving)
	}
	to = parent.Partitions[index].Goal()
	isLeaving := func(id model.NodeID) bool { return leaving[id] }
	stay := slices.DeleteFunc(slices.Clone(goal), isLeaving)
	if slices.ContainsFunc(to, isLeaving) || len(without(stay, to)) > 0 || len(without(without(to, goal), p.ids)) > 0 {
		return p.instead(goal, leaving)
	}
	p.add(goal, -1)
	p.count(to)
	return to, true
}

// parent gives the topic that a child's partition lies beside, or nil: see placer.beside.
func (s *State) parent(t *Topic, index int32) *Topic {
	for _, sc := range s.scripts {
		if t.MadeFor > 0 && sc.ID == t.MadeFor {
			return parentOf(t, index, sc, s.names)
		}
	}
	return nil
}

// parentOf gives the first of the inputs of t's script that has such a partition, with as
// many replicas.
func parentOf(t *Topic, index int32, sc *Script, names map[string]*Topic) *Topic {
	for _, name := range sc.Inputs {
		of, ok := names[name]
		if ok && int(index) < len(of.Partitions) && len(of.Partitions[index].Goal()) == len(t.Partitions[index].Goal()) {
			return of
		}
	}
	return nil
}

// instead gives a goal with others for the nodes that leave, and counts it. ok is false
// if there are too few others, or none is needed.
func (p *placer) instead(goal []model.NodeID, leaving map[model.NodeID]bool) (to []model.NodeID, ok bool) {
	to, ok = p.replaced(goal, leaving, p.ids)
	if ok {
		p.add(goal, -1)
		p.count(to)
	}
	return to, ok
}

// replaced gives a goal with some of ids for the nodes that leave: who stays keeps its
// order, and of those that come the fewest-laden is first, as racks allow. If the first to
// lead leaves, whoever leads the fewest is first. ok is as of instead.
func (p *placer) replaced(goal []model.NodeID, leaving map[model.NodeID]bool, ids []model.NodeID) (to []model.NodeID, ok bool) {
	for _, id := range goal {
		if !leaving[id] {
			to = append(to, id)
		}
	}
	others := without(ids, goal)
	if len(to) == len(goal) || len(others) < len(goal)-len(to) {
		return nil, false
	}
	to = p.fill(to, others, len(goal))
	if leaving[goal[0]] {
		to = first(p.leader(to), to)
	}
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
