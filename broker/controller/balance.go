package controller

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

const (
	// diskSlackPercent is how far below the limit a disk stays that is given a replica: what
	// came to the brim would have to leave again soon.
	diskSlackPercent = 5
	// diskGonePercent is the limit where replicas of a node that is gone come to: fewer
	// replicas are worse than a disk that fills up.
	diskGonePercent = 95
	// spreadSlackPercent is the part of a node's mean share of replicas that one node may
	// have more than another: a difference of two among thousands is not worth a move.
	spreadSlackPercent = 5
)

// Layout is what there is to balance.
type Layout struct {
	Nodes   []*Node // by id
	Topics  []*Topic
	Scripts []*Script
}

// Weights is what the nodes say, and how long others have said nothing.
type Weights struct {
	// Nodes are those that have answered. Down are silent, Gone are those of them that have
	// been so for GoneAfter.
	Nodes      map[model.NodeID]Weight
	Down, Gone map[model.NodeID]bool
	GoneAfter  time.Duration
	// DiskPercent is the limit: what a disk holds beyond it is to leave.
	DiskPercent int
	// Internal is how many replicas internal topics are to have.
	Internal int
}

// Weight is what one node says of itself, in bytes.
type Weight struct {
	DiskUsed, DiskTotal int64
	Held                map[model.PartitionID]int64
}

// Plan is what would put a layout in balance.
type Plan struct {
	Moves []BalanceMove
	Stuck []Stuck
	// Waits says why only replicas of nodes that are gone are looked at, or why nothing is
	// evened out; empty: everything is looked at.
	Waits string
}

// BalanceMove is one partition's part of a plan. Those of one Unit are to go together and
// follow each other in a plan: a script's children lie where their parent lies.
type BalanceMove struct {
	Unit      int
	Partition model.PartitionID
	Topic     string
	From, To  []model.NodeID
	Bytes     int64 // that go over the network
	Urgent    bool  // a node of From is gone
	Why       string
}

// Stuck is what should be otherwise and cannot. Topic is empty if it is of no partition.
type Stuck struct {
	Topic string
	Index int32
	Why   string
}

// Plan proposes moves: for nodes that are gone, internal topics of too few replicas, children apart from their parents,
// replicas that share a rack, disks that are too full, and then uneven numbers of replicas
// and of leaders, in this order. Each makes its own matter better and none before it
// worse, so that they end, and that nothing is proposed once they are done. What is on its
// way already counts as there and is let alone.
func (l Layout) Plan(w Weights) Plan {
	p := l.planner(w)
	later := p.later(l)
	blind := p.blind(l.Nodes)
	for changed := true; changed; {
		p.stuck = nil
		changed = p.replaceGone()
		if blind != "" {
			continue
		}
		changed = p.widen() || changed
		changed = p.join() || changed
		changed = p.partRacks() || changed
		changed = p.relieveDisks() || changed
		if later != "" {
			continue
		}
		changed = p.evenReplicas() || changed
		changed = p.evenLeaders() || changed
	}
	return Plan{Moves: p.moves(), Stuck: p.stuck, Waits: cmp.Or(blind, later)}
}

// planner is one plan in the making: its units are where they would be.
type planner struct {
	*placer                       // ids are the nodes that replicas may come to and go from
	stays   map[model.NodeID]bool // those
	w       Weights
	units   []*unit
	used    map[model.NodeID]int64 // bytes of each disk, once all is where it is to be
	topics  map[string]*placer     // counts per topic, of units' first members
	touched []*unit                // in the order that they were first moved
	stuck   []Stuck
}

// blind says which node that is up does not tell what it holds.
func (p *planner) blind(nodes []*Node) string {
	for _, n := range nodes {
		if _, told := p.w.Nodes[n.ID]; !told && n.Come() && !p.w.Down[n.ID] && !p.w.Gone[n.ID] {
			return fmt.Sprintf("node %d does not tell what it holds: only replicas of nodes that are gone are brought elsewhere", n.ID)
		}
	}
	return ""
}

// later says why nothing is evened out now: a node is being emptied, against which it would
// go, or is down, and not counted on.
func (p *planner) later(l Layout) string {
	for _, t := range l.Topics {
		for i := range t.Partitions {
			if m := t.Partitions[i].Move; m != nil && m.Drain {
				return "a node is being decommissioned: replicas and leaders are evened out afterwards"
			}
		}
	}
	for _, n := range l.Nodes {
		if p.w.Down[n.ID] && !p.w.Gone[n.ID] && n.State == NodeActive {
			return fmt.Sprintf("node %d is down: replicas and leaders are evened out when it is back, or has been gone for %s", n.ID, p.w.GoneAfter)
		}
	}
	return ""
}

// replaceGone brings replicas elsewhere whose nodes are gone.
func (p *planner) replaceGone() (changed bool) {
	for _, u := range p.units {
		gone := slices.DeleteFunc(slices.Clone(u.goal), func(id model.NodeID) bool { return !p.w.Gone[id] })
		if len(gone) == 0 || u.busy {
			continue
		}
		if m, up := p.fewestUp(u); 2*up <= len(m.replicas) {
			p.isStuck(u, fmt.Sprintf("%s, and %d of its %d replicas are up, no majority: it waits until another comes back", p.goneText(gone), up, len(m.replicas)))
			continue
		}
		to, n := p.replacedGone(u, gone)
		if n > 0 {
			p.move(u, to, p.goneText(gone[:n]))
			changed = true
		}
		if n < len(gone) {
			p.isStuck(u, fmt.Sprintf("%s, and no node can take its replica", p.goneText(gone[n:])))
		}
	}
	return changed
}

// replacedGone gives u's goal without as many of the nodes that are gone as there are
// others, and how many those are.
func (p *planner) replacedGone(u *unit, gone []model.NodeID) (to []model.NodeID, n int) {
	ids := slices.DeleteFunc(slices.Clone(p.ids), func(id model.NodeID) bool { return !p.fits(id, u.bytes, diskGonePercent) })
	for n = len(gone); n > 0; n-- {
		leaving := map[model.NodeID]bool{}
		for _, id := range gone[:n] {
			leaving[id] = true
		}
		if to, ok := p.replaced(u.goal, leaving, ids); ok {
			return to, n
		}
	}
	return nil, 0
}

// fewestUp gives the member of which the fewest replicas are up now.
func (p *planner) fewestUp(u *unit) (of member, up int) {
	for i, m := range u.members {
		n := 0
		for _, id := range m.replicas {
			if !p.w.Down[id] && !p.w.Gone[id] {
				n++
			}
		}
		if i == 0 || n < up {
			of, up = m, n
		}
	}
	return of, up
}

func (p *planner) goneText(gone []model.NodeID) string {
	if len(gone) == 1 {
		return fmt.Sprintf("node %d has been gone for %s", gone[0], p.w.GoneAfter)
	}
	return fmt.Sprintf("nodes %v have been gone for %s", gone, p.w.GoneAfter)
}

func (p *planner) isStuck(u *unit, why string) {
	for _, m := range u.members {
		p.stuck = append(p.stuck, Stuck{Topic: m.topic.Name, Index: m.index, Why: why})
	}
}

// widen gives internal topics the replicas that they are to have, once there are nodes for
// them: they were made when there were fewer.
func (p *planner) widen() (changed bool) {
	for _, u := range p.units {
		if u.busy || !u.members[0].topic.Internal || len(u.goal) >= p.w.Internal {
			continue
		}
		others := slices.DeleteFunc(without(p.ids, u.goal), func(id model.NodeID) bool { return !p.fits(id, u.bytes, p.w.DiskPercent) })
		if len(u.goal)+len(others) < p.w.Internal {
			continue // two would stand less than one
		}
		p.move(u, p.fill(u.goal, others, p.w.Internal), fmt.Sprintf("an internal topic has %d replicas, and is to have %d", len(u.goal), p.w.Internal))
		changed = true
	}
	return changed
}
