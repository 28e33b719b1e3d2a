package raft

import (
	"maps"
	"slices"
	"sync"

	"github.com/millrace-io/millrace/broker/model"
)

// FakeNet is the Raft groups of several nodes in one process, without dragonboat, disk,
// network or clock: for simulation. It starts nothing by itself. What its nodes ask for
// waits until the one goroutine that drives it, by Step or by a method that names the
// event, lets it happen; how it then comes out is the driver's choice too.
//
// What it keeps of Raft: one log per group, of which every replica holds a part from the
// beginning; a term has one leader, whom only a replica with as much of the log as a
// majority of its group can follow; an entry is committed once a majority holds it and
// an entry of the leader's own term. What nobody else held of a deposed leader's log is
// gone at once, where dragonboat might still bring it back. Members do not change.
type FakeNet struct {
	// Key orders commands that came to one node and shard between two steps, whose order
	// of arrival is the scheduler's; their bytes do where it is the same. nil: their bytes.
	Key func(shard model.ShardID, cmd []byte) []byte
	// Applied, if set, is told of every entry that a machine has been given.
	Applied func(node model.NodeID, shard model.ShardID, e Entry)

	mu     sync.Mutex
	nodes  map[model.NodeID]*FakeNode // those that are open
	groups map[model.ShardID]*fakeGroup
	cut    map[model.NodeID]bool // they reach no other node
	flying []*fakeProposal       // on the way to another node
	lost   []*fakeProposal       // will never be in a log, and their proposer does not know
	seen   map[string]int
}

// NewFakeNet gives one without nodes.
func NewFakeNet() *FakeNet {
	return &FakeNet{nodes: map[model.NodeID]*FakeNode{}, groups: map[model.ShardID]*fakeGroup{}, cut: map[model.NodeID]bool{}, seen: map[string]int{}}
}

// fakeGroup is a shard's. Guarded by the net's mu.
type fakeGroup struct {
	shard    model.ShardID
	members  []model.NodeID
	entries  []termEntry // entry i has index i+1; replicas forget, the group does not
	commit   uint64
	term     model.LeaderEpoch
	leader   model.NodeID // NoNode while there is none
	replicas map[model.NodeID]*fakeReplica
	// waiting are proposals in the log, by index.
	waiting map[uint64]*fakeProposal
}

type termEntry struct {
	Entry
	term model.LeaderEpoch
}

// fakeReplica is what a node has of a group on disk.
type fakeReplica struct {
	has       uint64 // it holds the entries up to here, but for those it has forgotten
	forgotten uint64
	note      []byte // of a snapshot that its machine has yet to follow
	snapshot  []byte // the controller's, at forgotten
}

// fakeProposal is a command that somebody waits for.
type fakeProposal struct {
	node   *FakeNode
	shard  model.ShardID
	cmd    []byte
	answer chan verdict
	told   bool
}

// tell answers whoever waits, once.
func (p *fakeProposal) tell(v verdict) {
	if !p.told {
		p.told = true
		p.answer <- v
	}
}

func (n *FakeNet) saw(event string) { n.seen[event]++ }

// Seen counts what has happened, by kind of event.
func (n *FakeNet) Seen() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.seen)
}

// Shards lists the groups.
func (n *FakeNet) Shards() []model.ShardID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.groups))
}

// Leads tells who leads a group, whoever knows it.
func (n *FakeNet) Leads(shard model.ShardID) model.NodeID {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.groups[shard]; g != nil {
		return g.leader
	}
	return model.NoNode
}

func (g *fakeGroup) last() uint64 { return uint64(len(g.entries)) }

// lastCommand is the index of the last entry up to one that a machine is given.
func (g *fakeGroup) lastCommand(upTo uint64) uint64 {
	for ; upTo > 0 && len(g.entries[upTo-1].Cmd) == 0; upTo-- {
	}
	return upTo
}

func (g *fakeGroup) majority() int { return len(g.members)/2 + 1 }

// has is how much of the log a member holds.
func (g *fakeGroup) has(m model.NodeID) uint64 {
	if r := g.replicas[m]; r != nil {
		return r.has
	}
	return 0
}

func (g *fakeGroup) append(cmd []byte, p *fakeProposal) {
	g.entries = append(g.entries, termEntry{Entry{Index: g.last() + 1, Cmd: cmd}, g.term})
	if p != nil {
		g.waiting[g.last()] = p
	}
	g.replicas[g.leader].has = g.last()
}

// running gives a node's replica of a group, nil while it does not run.
func (n *FakeNet) running(shard model.ShardID, node model.NodeID) *fakeRun {
	if o := n.nodes[node]; o != nil {
		return o.runs[shard]
	}
	return nil
}

// electable tells whether a majority would have a node lead.
func (n *FakeNet) electable(g *fakeGroup, node model.NodeID) bool {
	r := n.running(g.shard, node)
	if r == nil || r.recovering || n.cut[node] {
		return false
	}
	votes := 0
	for _, m := range g.members {
		if n.running(g.shard, m) != nil && !n.cut[m] && g.has(m) <= g.has(node) {
			votes++
		}
	}
	return votes >= g.majority() && g.has(node) >= g.commit
}

// elect makes a node the leader under a new term, if a majority would have it: what it
// does not hold of the log is gone.
func (n *FakeNet) elect(g *fakeGroup, node model.NodeID) bool {
	if !n.electable(g, node) {
		return false
	}
	has := g.replicas[node].has
	for i := has + 1; i <= g.last(); i++ {
		if p := g.waiting[i]; p != nil {
			n.lost = append(n.lost, p)
			delete(g.waiting, i)
			n.saw("truncated")
		}
	}
	g.entries = slices.Clone(g.entries[:has])
	for _, r := range g.replicas {
		r.has = min(r.has, has)
	}
	g.term++
	g.leader = node
	g.append(nil, nil) // a new leader's own entry: it takes an index, and no machine sees it
	n.hear(g, node)
	n.commit(g)
	n.saw("elected")
	return true
}

// hear has a node know who leads, and how far its log is committed.
func (n *FakeNet) hear(g *fakeGroup, node model.NodeID) {
	r := n.running(g.shard, node)
	if r == nil {
		return
	}
	r.knows = max(r.knows, min(g.commit, g.replicas[node].has))
	n.believe(r, LeaderChange{Shard: g.shard, Leader: g.leader, Term: g.term})
}

func (n *FakeNet) believe(r *fakeRun, c LeaderChange) {
	if r.leader != c {
		r.leader = c
		r.node.changes.put(c)
	}
}

// commit moves the commit index to what a majority holds, up to an entry of this term.
func (n *FakeNet) commit(g *fakeGroup) {
	if g.leader == model.NoNode {
		return
	}
	var has []uint64
	for _, m := range g.members {
		has = append(has, g.has(m))
	}
	slices.Sort(has)
	if to := has[len(has)-g.majority()]; to > g.commit && g.entries[to-1].term == g.term {
		g.commit = to
		n.hear(g, g.leader)
	}
}

// news tells whether a follower lacks something that its leader can bring it.
func (n *FakeNet) news(g *fakeGroup, node model.NodeID) bool {
	r, lead := n.running(g.shard, node), n.running(g.shard, g.leader)
	if r == nil || lead == nil || node == g.leader || r.recovering || n.cut[node] || n.cut[g.leader] {
		return false
	}
	have, of := g.replicas[node], g.replicas[g.leader]
	if have.has < of.forgotten && lead.partition != nil {
		return lead.applied > have.has
	}
	return r.leader.Term != g.term || r.leader.Leader != g.leader || have.has != of.has || r.knows != g.commit
}

// replicate brings a follower what is news to it.
func (n *FakeNet) replicate(g *fakeGroup, node model.NodeID) bool {
	if !n.news(g, node) {
		return false
	}
	r, lead := n.running(g.shard, node), n.running(g.shard, g.leader)
	have, of := g.replicas[node], g.replicas[g.leader]
	n.believe(r, LeaderChange{Shard: g.shard, Leader: g.leader, Term: g.term})
	if have.has < of.forgotten {
		return n.install(g, r, lead)
	}
	have.has = of.has
	n.commit(g)
	n.hear(g, node)
	n.saw("replicated")
	return true
}

// install sends a follower a snapshot in the place of entries that its leader has
// forgotten: a note, or the controller's state.
func (n *FakeNet) install(g *fakeGroup, r, lead *fakeRun) bool {
	have := g.replicas[r.node.id]
	if lead.controller != nil {
		of := g.replicas[g.leader]
		have.has, have.forgotten, have.snapshot = of.forgotten, of.forgotten, of.snapshot
		must(r.controller.Restore(slices.Clone(of.snapshot)) == nil, "the controller's snapshot is not read back")
		r.applied, r.knows = have.has, have.has
		n.saw("installed")
		return true
	}
	through := lead.applied
	var note []byte
	n.mu.Unlock()
	ok := lead.node.ask(func() (err error) { note, err = lead.partition.Note(); return err })
	n.mu.Lock()
	if !ok || n.running(g.shard, r.node.id) != r {
		return false
	}
	have.has, have.forgotten, have.note = through, through, note
	r.knows = through
	n.saw("installed")
	r.recover(have)
	return true
}

// crashed takes a node that has stopped out of every group: what it led has no leader.
func (n *FakeNet) crashed(node model.NodeID, shard model.ShardID) {
	g := n.groups[shard]
	if g != nil && g.leader == node {
		g.leader = model.NoNode
	}
	if g == nil {
		return
	}
	for _, i := range slices.Sorted(maps.Keys(g.waiting)) {
		if p := g.waiting[i]; p.node.id == node {
			p.tell(verdict{err: ErrUnknown})
			delete(g.waiting, i)
		}
	}
}
