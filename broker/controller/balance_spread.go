package controller

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// join brings children to where their parents are.
func (p *planner) join() (changed bool) {
	for _, u := range slices.Clone(p.units) {
		parent := u.parent
		if parent == nil || !p.movable(u) || !p.movable(parent) {
			continue
		}
		blocked := slices.ContainsFunc(without(parent.goal, u.goal), func(id model.NodeID) bool {
			return !p.hasRoom(id, u.bytes)
		})
		if blocked {
			continue
		}
		of := parent.members[0]
		p.move(u, parent.goal, fmt.Sprintf("it goes where its parent %s/%d is", of.topic.Name, of.index))
		p.merge(parent, u)
		changed = true
	}
	return changed
}

// merge makes a child that has come to its parent one with it.
func (p *planner) merge(parent, u *unit) {
	p.ofTopic(u).add(u.goal, -1) // a unit counts as its first member
	parent.members = append(parent.members, u.members...)
	parent.bytes += u.bytes
	p.touch(parent)
	gone := func(other *unit) bool { return other == u }
	p.units, p.touched = slices.DeleteFunc(p.units, gone), slices.DeleteFunc(p.touched, gone)
	for _, other := range p.units {
		if other.parent == u {
			other.parent = parent
		}
	}
}

// partRacks parts replicas that share a rack while another rack has fewer.
func (p *planner) partRacks() (changed bool) {
	for _, u := range p.units {
		for p.movable(u) {
			out, in, ok := p.otherRack(u)
			if !ok {
				break
			}
			why := fmt.Sprintf("%d of its replicas are in rack %s, fewer in that of node %d", p.inRack(out, u.goal), p.racks[out].name, in)
			p.move(u, swap(u.goal, out, in), why)
			changed = true
		}
	}
	return changed
}

// otherRack gives which of u's nodes is to be replaced by which: of the rack that has the
// most, the most laden one, the preferred leader last.
func (p *planner) otherRack(u *unit) (out, in model.NodeID, ok bool) {
	if !slices.ContainsFunc(u.goal, func(id model.NodeID) bool { return p.inRack(id, u.goal) > 1 }) {
		return 0, 0, false
	}
	outs := slices.Clone(u.goal)
	slices.Reverse(outs)
	slices.SortStableFunc(outs, func(a, b model.NodeID) int {
		return cmp.Or(p.inRack(b, u.goal)-p.inRack(a, u.goal), p.counts[b]-p.counts[a])
	})
	for _, out := range outs {
		ins := p.takers(u, out, p.inRack(out, u.goal)-2)
		if len(ins) > 0 {
			rest := without(u.goal, []model.NodeID{out})
			return out, p.fill(rest, ins, len(u.goal))[len(rest)], true
		}
	}
	return 0, 0, false
}

// takers gives the nodes that have room for u instead of out, whose racks have at most so
// many of its other replicas.
func (p *planner) takers(u *unit, out model.NodeID, inRackMax int) (ins []model.NodeID) {
	rest := without(u.goal, []model.NodeID{out})
	for _, in := range without(p.ids, u.goal) {
		if p.inRack(in, rest) <= inRackMax && p.hasRoom(in, u.bytes) {
			ins = append(ins, in)
		}
	}
	return ins
}

// relieveDisks brings partitions from disks beyond the limit to where they have room:
// the smallest that is enough, or else the largest.
func (p *planner) relieveDisks() (changed bool) {
	for _, node := range p.ids {
		for limit := p.limit(node, p.w.DiskPercent); limit > 0 && p.used[node] > limit; {
			why := fmt.Sprintf("the disk of node %d is %.0f %% full, %d %% are the limit", node, 100*p.part(node), p.w.DiskPercent)
			u, in := p.relief(node, p.used[node]-limit)
			if u == nil {
				p.stuck = append(p.stuck, Stuck{Why: why + ", and no other has room for a partition of it"})
				break
			}
			p.move(u, swap(u.goal, node, in), why)
			changed = true
		}
	}
	return changed
}

// relief gives what is to leave a disk to free so many bytes, and where to; nil if
// nothing can.
func (p *planner) relief(node model.NodeID, bytes int64) (best *unit, in model.NodeID) {
	for _, u := range p.units {
		if u.bytes == 0 || !p.movable(u) || !slices.Contains(u.goal, node) {
			continue
		}
		if best != nil && !better(u.bytes, best.bytes, bytes) {
			continue
		}
		ins := p.takers(u, node, p.inRack(node, u.goal)-1)
		if len(ins) == 0 {
			continue
		}
		best, in = u, slices.MinFunc(ins, func(a, b model.NodeID) int { return cmp.Compare(p.part(a), p.part(b)) })
	}
	return best, in
}

// better tells whether it is better to move a bytes than b, if goal are to be freed.
func better(a, b, goal int64) bool {
	if a >= goal && b >= goal {
		return a < b
	}
	return a > b
}

// part is how much of a disk is used, of 1.
func (p *planner) part(node model.NodeID) float64 {
	return float64(p.used[node]) / float64(max(p.w.Nodes[node].DiskTotal, 1))
}

// evenReplicas brings replicas from who has many to who has few.
func (p *planner) evenReplicas() bool {
	changed := p.even(evening{
		have:  p.counts,
		may:   func(u *unit, a, b model.NodeID) bool { return p.mayLie(u, a, b) && p.hasRoom(b, u.bytes) },
		topic: func(t *placer) map[model.NodeID]int { return t.counts },
		do: func(u *unit, a, b model.NodeID) {
			why := fmt.Sprintf("node %d has %d replicas, node %d has %d", a, p.counts[a], b, p.counts[b])
			p.move(u, swap(u.goal, a, b), why)
		},
	})
	if !changed {
		p.tellFull()
	}
	return changed
}

// mayLie tells whether u may be on b instead of on a, racks considered.
func (p *planner) mayLie(u *unit, a, b model.NodeID) bool {
	inRack := p.inRack(b, u.goal)
	if p.racks[a] == p.racks[b] {
		inRack--
	}
	return slices.Contains(u.goal, a) && !slices.Contains(u.goal, b) && inRack < p.inRack(a, u.goal)
}

// tellFull says so if only the disk of a node keeps replicas from it.
func (p *planner) tellFull() {
	of, uneven := p.widest(p.counts, nil)
	if !uneven {
		return
	}
	d := p.counts[of.a] - p.counts[of.b]
	for _, u := range p.units {
		if len(u.members) < d && p.movable(u) && p.mayLie(u, of.a, of.b) {
			p.stuck = append(p.stuck, Stuck{Why: fmt.Sprintf("node %d has %d replicas, node %d has %d, whose disk has no room for one: it is %.0f %% full, and takes replicas up to %d %%",
				of.a, p.counts[of.a], of.b, p.counts[of.b], 100*p.part(of.b), p.w.DiskPercent-diskSlackPercent)})
			return
		}
	}
}

// evenLeaders has partitions led by others of their nodes, which moves no bytes.
func (p *planner) evenLeaders() bool {
	return p.even(evening{
		have:  p.leads,
		may:   func(u *unit, a, b model.NodeID) bool { return u.goal[0] == a && slices.Contains(u.goal, b) },
		topic: func(t *placer) map[model.NodeID]int { return t.leads },
		do: func(u *unit, a, b model.NodeID) {
			why := fmt.Sprintf("node %d is preferred to lead %d partitions, node %d %d", a, p.leads[a], b, p.leads[b])
			p.move(u, first(b, u.goal), why)
		},
	})
}

// evening is what is to be even: have counts it per node, and topic per topic. may tells
// whether a unit can be taken from a to b, and do does it.
type evening struct {
	have  map[model.NodeID]int
	may   func(u *unit, a, b model.NodeID) bool
	topic func(*placer) map[model.NodeID]int
	do    func(u *unit, a, b model.NodeID)
}

// even goes on until there is no pair of nodes of which one can give something to the
// other. A pair that cannot is not looked at again before the others have been.
func (p *planner) even(e evening) (changed bool) {
	for {
		done, failed := false, map[pair]bool{}
		for {
			of, ok := p.widest(e.have, failed)
			if !ok {
				break
			}
			if p.give(e, of) {
				done = true
			} else {
				failed[of] = true
			}
		}
		if !done {
			return changed
		}
		changed = true
	}
}

// pair is a node that has too many more than another.
type pair struct{ a, b model.NodeID }

// slack is by how much one node may have more than another.
func (p *planner) slack(have map[model.NodeID]int) int {
	sum := 0
	for _, id := range p.ids {
		sum += have[id]
	}
	return max(1, sum/max(1, len(p.ids))*spreadSlackPercent/100)
}

// widest gives the pair that differs most.
func (p *planner) widest(have map[model.NodeID]int, failed map[pair]bool) (widest pair, ok bool) {
	most := p.slack(have)
	for _, a := range p.ids {
		for _, b := range p.ids {
			if d := have[a] - have[b]; d > most && !failed[pair{a, b}] {
				widest, most, ok = pair{a, b}, d, true
			}
		}
	}
	return widest, ok
}

// give takes units from one node to another: of the topic that is spread worst over these
// two, that of the fewest bytes. A unit is smaller than the difference, or it would but
// change sides. It takes a part of the difference, and others get the rest.
func (p *planner) give(e evening, of pair) (done bool) {
	byTopic := map[string][]*unit{}
	var names []string
	for _, u := range p.units {
		if !p.movable(u) || !e.may(u, of.a, of.b) {
			continue
		}
		name := u.members[0].topic.Name
		if byTopic[name] == nil {
			names = append(names, name)
		}
		byTopic[name] = append(byTopic[name], u)
	}
	for _, units := range byTopic {
		slices.SortStableFunc(units, func(x, y *unit) int { return cmp.Compare(x.bytes, y.bytes) })
	}
	for n := max(1, (e.have[of.a]-e.have[of.b])/(2*len(p.ids))); n > 0; {
		u := p.worstSpread(e, of, names, byTopic)
		if u == nil {
			return done
		}
		if len(u.members) < e.have[of.a]-e.have[of.b] && e.may(u, of.a, of.b) {
			e.do(u, of.a, of.b)
			n -= len(u.members)
			done = true
		}
	}
	return done
}

// worstSpread takes the next unit of the topic that is spread worst over two nodes.
func (p *planner) worstSpread(e evening, of pair, names []string, byTopic map[string][]*unit) *unit {
	best, most := "", 0
	for _, name := range names {
		if len(byTopic[name]) == 0 {
			continue
		}
		have := e.topic(p.topics[name])
		d := have[of.a] - have[of.b]
		if best == "" || d > most || d == most && byTopic[name][0].bytes < byTopic[best][0].bytes {
			best, most = name, d
		}
	}
	if best == "" {
		return nil
	}
	u := byTopic[best][0]
	byTopic[best] = byTopic[best][1:]
	return u
}
