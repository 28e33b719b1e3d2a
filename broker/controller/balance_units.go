package controller

import (
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// unit is partitions that lie on the same nodes and stay together: one, and those of
// topics that scripts made of it. It is never moved while it is busy.
type unit struct {
	members []member // parents before their children
	parent  *unit    // that it should be one with, but lies elsewhere
	goal    []model.NodeID
	bytes   int64 // of all members, on one node
	busy    bool
	touched bool
}

// member is one partition of a unit.
type member struct {
	topic    *Topic
	index    int32
	replicas []model.NodeID // those that vote, until a move is in
	from     []model.NodeID // where it is, or is on its way to, before the plan
	bytes    int64          // on one node
	why      string         // of its first move in the plan
}

func (m *member) id() model.PartitionID { return m.topic.PartitionID(m.index) }

// planner makes the units of a layout, and counts what they weigh.
func (l Layout) planner(w Weights) *planner {
	p := &planner{placer: newPlacer(l.Nodes), w: w, used: map[model.NodeID]int64{}, topics: map[string]*placer{}, stays: map[model.NodeID]bool{}}
	for _, n := range l.Nodes {
		told, ok := w.Nodes[n.ID]
		if !ok {
			continue
		}
		p.used[n.ID] = told.DiskUsed
		if n.Come() && n.State == NodeActive && !w.Down[n.ID] && !w.Gone[n.ID] {
			p.ids, p.stays[n.ID] = append(p.ids, n.ID), true
		}
	}
	g := grouping{planner: p, names: map[string]*Topic{}, scripts: map[model.ScriptID]*Script{}, units: map[model.PartitionID]*unit{}}
	for _, t := range l.Topics {
		g.names[t.Name] = t
	}
	for _, sc := range l.Scripts {
		g.scripts[sc.ID] = sc
	}
	for _, t := range l.Topics {
		for i := range t.Partitions {
			g.unit(t, int32(i))
		}
	}
	for _, u := range p.units {
		p.add(u.goal, len(u.members))
		p.ofTopic(u).count(u.goal)
	}
	return p
}

// grouping puts partitions into units.
type grouping struct {
	*planner
	names   map[string]*Topic
	scripts map[model.ScriptID]*Script
	units   map[model.PartitionID]*unit // nil while it is looked for
}

// unit gives the unit of a partition: its parent's, if it lies there.
func (g *grouping) unit(t *Topic, index int32) *unit {
	id := t.PartitionID(index)
	if u, known := g.units[id]; known {
		return u
	}
	g.units[id] = nil // scripts that go round in a circle end here
	part := &t.Partitions[index]
	m := member{topic: t, index: index, replicas: part.Replicas, from: part.Goal(), bytes: g.weigh(id, part.Goal())}
	var parent *unit
	if sc, ok := g.scripts[t.MadeFor]; ok && t.MadeFor > 0 {
		if of := parentOf(t, index, sc, g.names); of != nil {
			parent = g.unit(of, index)
		}
	}
	u := parent
	if u == nil || !slices.Equal(u.goal, m.from) {
		u = &unit{parent: parent, goal: m.from}
		g.planner.units = append(g.planner.units, u)
	}
	g.units[id] = u
	u.members = append(u.members, m)
	u.bytes += m.bytes
	u.busy = u.busy || g.underWay(part)
	return u
}

// underWay tells whether a partition moves, other than by a plan of before to a node that
// is gone now.
func (g *grouping) underWay(part *Partition) bool {
	if part.Move == nil {
		return false
	}
	toGone := slices.ContainsFunc(part.Move.Replicas, func(id model.NodeID) bool { return g.w.Gone[id] })
	return part.Move.Balance == "" || part.Move.In || !toGone
}

// weigh gives a partition's bytes, as the node says that has the most, and has disks
// filled or freed by what is still on its way.
func (g *grouping) weigh(id model.PartitionID, goal []model.NodeID) (bytes int64) {
	for _, told := range g.w.Nodes {
		bytes = max(bytes, told.Held[id])
	}
	for node, told := range g.w.Nodes {
		held, has := told.Held[id]
		switch {
		case slices.Contains(goal, node):
			g.used[node] += bytes - held
		case has:
			g.used[node] -= held
		}
	}
	return bytes
}

func (p *planner) ofTopic(u *unit) *placer {
	name := u.members[0].topic.Name
	if p.topics[name] == nil {
		p.topics[name] = newPlacer(nil)
	}
	return p.topics[name]
}

// movable tells whether a unit may be moved for the sake of balance: all of its nodes are
// there to stay.
func (p *planner) movable(u *unit) bool {
	return !u.busy && !slices.ContainsFunc(u.goal, func(id model.NodeID) bool { return !p.stays[id] })
}

// hasRoom tells whether a disk stays some way below the limit if it takes so many bytes.
func (p *planner) hasRoom(node model.NodeID, bytes int64) bool {
	return p.fits(node, bytes, p.w.DiskPercent-diskSlackPercent)
}

// fits tells whether a disk stays within percent if it takes so many bytes.
func (p *planner) fits(node model.NodeID, bytes int64, percent int) bool {
	return p.used[node]+bytes <= p.limit(node, percent)
}

func (p *planner) limit(node model.NodeID, percent int) int64 {
	return p.w.Nodes[node].DiskTotal * int64(percent) / 100
}

// move puts a unit elsewhere.
func (p *planner) move(u *unit, to []model.NodeID, why string) {
	p.add(u.goal, -len(u.members))
	p.add(to, len(u.members))
	p.ofTopic(u).add(u.goal, -1)
	p.ofTopic(u).add(to, 1)
	for _, id := range without(u.goal, to) {
		p.used[id] -= u.bytes
	}
	for _, id := range without(to, u.goal) {
		p.used[id] += u.bytes
	}
	u.goal = to
	for i := range u.members {
		if u.members[i].why == "" {
			u.members[i].why = why
		}
	}
	p.touch(u)
}

func (p *planner) touch(u *unit) {
	if !u.touched {
		u.touched = true
		p.touched = append(p.touched, u)
	}
}

// swap gives a goal with one node for another, in its place.
func swap(goal []model.NodeID, out, in model.NodeID) []model.NodeID {
	to := slices.Clone(goal)
	to[slices.Index(to, out)] = in
	return to
}

// moves gives what the plan comes to.
func (p *planner) moves() (all []BalanceMove) {
	for n, u := range p.touched {
		for _, m := range u.members {
			if slices.Equal(m.from, u.goal) {
				continue
			}
			move := BalanceMove{Unit: n, Partition: m.id(), Topic: m.topic.Name, From: m.from, To: u.goal, Why: m.why}
			move.Urgent = slices.ContainsFunc(m.from, func(id model.NodeID) bool { return p.w.Gone[id] })
			move.Bytes = m.bytes * int64(len(without(u.goal, m.replicas)))
			all = append(all, move)
		}
	}
	return all
}
