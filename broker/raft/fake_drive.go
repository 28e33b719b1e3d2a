package raft

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
)

// act is something that can happen now.
type act struct {
	weight int
	name   string
	shard  model.ShardID
	node   model.NodeID
	do     func()
}

// What is likely to happen next. Faults are rare beside what gets work done, or none
// would be.
const (
	oftenWeight, seldomWeight, rareWeight = 400, 40, 4
	// applyAtOnce is how many entries a machine is given together.
	applyAtOnce = 8
)

// Step lets one thing happen that can happen now, drawn from d, and says what: the kind,
// the shard and the node. Without faults nothing goes wrong, and it is "" once there is
// nothing left to do.
func (n *FakeNet) Step(d *rand.Rand, faults bool) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	acts := n.acts(faults)
	total := 0
	for _, a := range acts {
		total += a.weight
	}
	if total == 0 {
		return ""
	}
	at := d.IntN(total)
	for _, a := range acts {
		if at -= a.weight; at < 0 {
			a.do()
			return fmt.Sprintf("%s %d@%d", a.name, a.shard, a.node)
		}
	}
	return ""
}

// acts lists what can happen, in an order that depends on nothing but the net's state.
func (n *FakeNet) acts(faults bool) (all []act) {
	if faults { // or there would be elections whenever nothing else is to be done
		all = append(all, act{weight: oftenWeight, name: "nothing", do: func() {}})
	}
	for _, shard := range slices.Sorted(maps.Keys(n.groups)) {
		g := n.groups[shard]
		for _, node := range g.members {
			add := func(weight int, name string, do func()) {
				all = append(all, act{weight, name, shard, node, do})
			}
			n.groupActs(g, node, faults, add)
			if r := n.running(shard, node); r != nil {
				n.runActs(g, r, faults, add)
			}
		}
	}
	for i, p := range n.flying {
		add := func(weight int, name string, do func()) {
			all = append(all, act{weight, name, p.shard, p.node.id, do})
		}
		add(oftenWeight, "arrive", func() { n.arrive(i) })
		if faults {
			add(seldomWeight, "lose", func() { n.land(i); n.lost = append(n.lost, p); n.saw("lost") })
			if !p.told {
				add(rareWeight, "expire on its way", func() { p.tell(verdict{err: ErrUnknown}); n.saw("late") })
			}
		}
	}
	for i, p := range n.lost {
		all = append(all, act{seldomWeight, "expire", p.shard, p.node.id, func() {
			n.lost = slices.Delete(n.lost, i, i+1)
			p.tell(verdict{err: ErrUnknown})
			n.saw("unknown")
		}})
	}
	return all
}

// groupActs are those of Raft itself.
func (n *FakeNet) groupActs(g *fakeGroup, node model.NodeID, faults bool, add func(int, string, func())) {
	if n.news(g, node) {
		add(oftenWeight, "replicate", func() { n.replicate(g, node) })
	}
	leaderless := g.leader == model.NoNode || n.running(g.shard, g.leader) == nil || n.cut[g.leader]
	if (leaderless || faults && node != g.leader) && n.electable(g, node) {
		weight := rareWeight
		if leaderless {
			weight = seldomWeight
		}
		add(weight, "elect", func() { n.elect(g, node) })
	}
	// A leader that reaches no majority gives up; one that was deposed does not know.
	r := n.running(g.shard, node)
	if n.cut[node] && r != nil && r.leader.Leader == node {
		add(rareWeight, "give up", func() {
			n.believe(r, LeaderChange{Shard: g.shard, Leader: model.NoNode, Term: r.leader.Term})
			if g.leader == node {
				g.leader = model.NoNode
			}
			n.saw("gave up")
		})
	}
}

// runActs are those of one replica.
func (n *FakeNet) runActs(g *fakeGroup, r *fakeRun, faults bool, add func(int, string, func())) {
	n.sortInbox(r)
	if len(r.inbox) > 0 {
		add(oftenWeight, "take", func() { n.take(g, r) })
		if faults {
			add(rareWeight, "drop", func() { r.next().tell(verdict{err: ErrDropped}); n.saw("dropped") })
		}
	}
	if r.applied < r.knows && !r.recovering {
		add(oftenWeight, "apply", func() { n.apply(g, r) })
	}
	if len(r.barriers) > 0 && n.confirms(g, r) {
		add(oftenWeight, "confirm", func() { n.confirm(g, r) })
	}
	if slices.ContainsFunc(r.barriers, r.passed) {
		add(oftenWeight, "pass", func() {
			r.barriers = slices.DeleteFunc(r.barriers, func(b *fakeBarrier) bool { return r.passed(b) && b.tell(nil) })
		})
	}
	if len(r.barriers) > 0 && (faults || r.leader.Leader == model.NoNode) {
		add(rareWeight, "deny", func() { n.deny(r) })
	}
	if len(r.snapshots) > 0 && !r.recovering {
		add(oftenWeight, "snapshot", func() { n.snapshot(g, r) })
	}
	if r.busy || faults {
		weight := rareWeight / 2
		if r.busy {
			weight = seldomWeight
		}
		add(weight, "busy", func() { r.busy = !r.busy })
	}
	if !faults {
		return
	}
	for _, i := range slices.Sorted(maps.Keys(g.waiting)) {
		if p := g.waiting[i]; p.node == r.node && !p.told {
			add(rareWeight, "expire in the log", func() { p.tell(verdict{err: ErrUnknown}); n.saw("deaf") })
		}
	}
}

// sortInbox orders what has come since it was called last. Commands of one key are not
// the same to who waits for them: what Key leaves out, of one node, tells who came first.
func (n *FakeNet) sortInbox(r *fakeRun) {
	fresh := r.inbox[min(r.sorted, len(r.inbox)):]
	slices.SortStableFunc(fresh, func(a, b *fakeProposal) int {
		if n.Key == nil {
			return bytes.Compare(a.cmd, b.cmd)
		}
		return cmp.Or(bytes.Compare(n.Key(a.shard, a.cmd), n.Key(b.shard, b.cmd)), bytes.Compare(a.cmd, b.cmd))
	})
	r.sorted = len(r.inbox)
}

func (r *fakeRun) next() *fakeProposal {
	p := r.inbox[0]
	r.inbox = r.inbox[1:]
	r.sorted = len(r.inbox)
	return p
}

// take has a node do with a proposal what it believes to be right.
func (n *FakeNet) take(g *fakeGroup, r *fakeRun) {
	p := r.next()
	switch {
	case r.leader.Leader == model.NoNode:
		p.tell(verdict{err: ErrDropped})
		n.saw("dropped without a leader")
	case r.leader.Leader != r.node.id:
		n.flying = append(n.flying, p) // silently
		n.saw("forwarded")
	case g.leader == r.node.id:
		g.append(p.cmd, p)
		n.commit(g)
		n.saw("taken")
	default: // a deposed leader's log goes nowhere
		n.lost = append(n.lost, p)
		n.saw("taken by a deposed leader")
	}
}

func (n *FakeNet) land(i int) { n.flying = slices.Delete(n.flying, i, i+1) }

// arrive brings a forwarded proposal to whoever leads by now. Its proposer may be gone,
// and a newer leader may have come: a ghost.
func (n *FakeNet) arrive(i int) {
	p := n.flying[i]
	n.land(i)
	g := n.groups[p.shard]
	switch {
	case g == nil || g.leader == model.NoNode || n.running(p.shard, g.leader) == nil, n.cut[g.leader], n.cut[p.node.id]:
		n.lost = append(n.lost, p)
		n.saw("lost")
		return
	case p.told:
		n.saw("ghost")
	}
	g.append(p.cmd, p)
	n.commit(g)
}

// apply hands a machine the next entries that are committed.
func (n *FakeNet) apply(g *fakeGroup, r *fakeRun) {
	to := min(r.applied+applyAtOnce, r.knows)
	var entries []Entry
	for _, e := range g.entries[r.applied:to] {
		if len(e.Cmd) > 0 {
			entries = append(entries, e.Entry)
		}
	}
	results := make([][]byte, len(entries))
	if len(entries) > 0 {
		n.mu.Unlock()
		ok := r.node.ask(func() error {
			if r.partition != nil {
				return r.partition.Apply(entries)
			}
			for i, e := range entries {
				results[i] = r.controller.Apply(e.Index, e.Cmd)
			}
			return nil
		})
		n.mu.Lock()
		if !ok {
			return
		}
	}
	r.applied = to
	for i, e := range entries {
		if n.Applied != nil {
			n.Applied(r.node.id, g.shard, e)
		}
		if p := g.waiting[e.Index]; p != nil && p.node == r.node {
			p.tell(verdict{result: results[i]})
			delete(g.waiting, e.Index)
			n.saw("applied")
		}
	}
}

// confirms tells whether a majority can tell this node now what is committed.
func (n *FakeNet) confirms(g *fakeGroup, r *fakeRun) bool {
	return r.leader.Leader == g.leader && r.leader.Term == g.term && g.leader != model.NoNode &&
		n.running(g.shard, g.leader) != nil && !n.cut[g.leader] && !n.cut[r.node.id] && !r.recovering &&
		g.commit > 0 && g.entries[g.commit-1].term == g.term && n.reaches(g) &&
		slices.ContainsFunc(r.barriers, func(b *fakeBarrier) bool { return b.index == 0 })
}

// reaches tells whether the leader has a majority with it.
func (n *FakeNet) reaches(g *fakeGroup) bool {
	there := 0
	for _, m := range g.members {
		if n.running(g.shard, m) != nil && !n.cut[m] {
			there++
		}
	}
	return there >= g.majority()
}

// confirm gives all barriers of a node the index that they wait for.
func (n *FakeNet) confirm(g *fakeGroup, r *fakeRun) {
	for _, b := range r.barriers {
		if b.index == 0 {
			b.index = g.commit
		}
	}
	n.saw("confirmed")
}

// passed tells whether what a barrier waits for is applied.
func (r *fakeRun) passed(b *fakeBarrier) bool { return b.index > 0 && r.applied >= b.index }

func (b *fakeBarrier) tell(err error) bool {
	b.done <- err
	return true
}

func (n *FakeNet) deny(r *fakeRun) {
	for _, b := range r.barriers {
		b.tell(fmt.Errorf("read barrier of shard %d: %w", r.shard, ErrDropped))
	}
	r.barriers = nil
	n.saw("denied")
}

// snapshot lets a log forget what its machine has made durable.
func (n *FakeNet) snapshot(g *fakeGroup, r *fakeRun) {
	s := r.snapshots[0]
	r.snapshots = r.snapshots[1:]
	have, through := g.replicas[r.node.id], min(s.through, r.applied)
	if r.controller != nil {
		state, err := r.controller.Snapshot()
		must(err == nil, "snapshot of the controller: %v", err)
		have.snapshot, through = state, r.applied
	} else {
		n.mu.Unlock()
		ok := r.node.ask(r.partition.Sync)
		n.mu.Lock()
		if !ok {
			return
		}
	}
	have.forgotten = max(have.forgotten, min(through, have.has))
	s.done <- nil
	n.saw("snapshot")
}

// Cut keeps a node from reaching others, or lets it again.
func (n *FakeNet) Cut(node model.NodeID, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[node] = cut
}

// Reaches tells whether two nodes reach each other.
func (n *FakeNet) Reaches(a, b model.NodeID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[a] != nil && n.nodes[b] != nil && !n.cut[a] && !n.cut[b]
}

// Elect has a node lead a group under a new term; false: no majority would have it.
func (n *FakeNet) Elect(shard model.ShardID, node model.NodeID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.groups[shard]
	return g != nil && n.elect(g, node)
}

// Quiet tells whether nothing is left to do, unless something goes wrong, and no machine
// follows a note.
func (n *FakeNet) Quiet() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.nodes {
		for _, r := range o.runs {
			if r.recovering {
				return false
			}
		}
	}
	return len(n.acts(false)) == 0
}
