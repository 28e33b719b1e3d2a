package raft

import (
	"maps"
	"slices"
	"sync"

	pb "github.com/lni/dragonboat/v4/raftpb"

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
// gone at once, where dragonboat might still bring it back. Who is in a group is what a
// replica has applied of its log, as for dragonboat: each counts by its own members.
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
	founders []model.NodeID
	entries  []termEntry // entry i has index i+1; replicas forget, the group does not
	commit   uint64
	term     model.LeaderEpoch
	leader   model.NodeID // NoNode while there is none
	replicas map[Member]*fakeReplica
	// waiting are proposals in the log, by index.
	waiting map[uint64]*fakeProposal
}

type termEntry struct {
	Entry
	term model.LeaderEpoch
	// floor is how far its leader knew the log to be committed: who holds the entry knows.
	floor  uint64
	change *pb.ConfigChange // nil: a command, or a leader's own
}

func newFakeGroup(shard model.ShardID) *fakeGroup {
	return &fakeGroup{shard: shard, leader: model.NoNode, term: 1, replicas: map[Member]*fakeReplica{}, waiting: map[uint64]*fakeProposal{}}
}

// found begins the log as dragonboat does: with the founders, decided.
func (g *fakeGroup) found(founders []model.NodeID) {
	g.founders, g.commit = slices.Sorted(slices.Values(founders)), uint64(len(founders))
	for _, n := range g.founders {
		m := Member{Node: n}
		g.entries = append(g.entries, termEntry{
			Entry: Entry{Index: g.last() + 1}, term: g.term, floor: g.commit,
			change: &pb.ConfigChange{Type: pb.AddNode, ReplicaID: m.id(), Initialize: true, Address: target(n)},
		})
	}
}

// roster is who is in the group by the log up to an index.
func (g *fakeGroup) roster(upTo uint64) *roster {
	r := newRoster(pb.Membership{})
	for _, e := range g.entries[:upTo] {
		if e.change != nil {
			r.apply(e.change, e.Index)
		}
	}
	return r
}

// removal is as of a log: the entry behind low, up to high, that takes a member out; 0: none.
func (g *fakeGroup) removal(m Member, low, high uint64) uint64 {
	for _, e := range g.entries[low:max(low, high)] {
		if e.change != nil && e.change.Type == pb.RemoveNode && e.change.ReplicaID == m.id() {
			return e.Index
		}
	}
	return 0
}

// held finds the replica of a group that a node has.
func (g *fakeGroup) held(node model.NodeID) (m Member, have *fakeReplica) {
	for m, have := range g.replicas {
		if m.Node == node {
			return m, have
		}
	}
	return Member{}, nil
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
	change *pb.ConfigChange // instead of cmd
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

// Wipe takes from a node that is not open what it had on disk.
func (n *FakeNet) Wipe(node model.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	must(n.nodes[node] == nil, "node %d is open, and loses its disk", node)
	for _, g := range n.groups {
		if m, have := g.held(node); have != nil {
			delete(g.replicas, m)
		}
	}
	n.saw("wiped")
}

// Whole tells whether a group has so many voters by the whole of its log, each of which
// has what it wrote, and no change of members is on its way there.
func (n *FakeNet) Whole(shard model.ShardID, voters int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.groups[shard]
	if g == nil {
		return false
	}
	all, coming := g.roster(g.last()).members().Voters, n.flying
	for _, o := range n.nodes {
		if r := o.runs[shard]; r != nil {
			coming = slices.Concat(coming, r.inbox)
		}
	}
	changes := func(p *fakeProposal) bool { return p.shard == shard && p.change != nil }
	return len(all) == voters && !slices.ContainsFunc(coming, changes) && !slices.ContainsFunc(all, func(m Member) bool { return g.replicas[m] == nil })
}

func (g *fakeGroup) last() uint64 { return uint64(len(g.entries)) }

// lastCommand is the index of the last entry up to one that a machine is given.
func (g *fakeGroup) lastCommand(upTo uint64) uint64 {
	for ; upTo > 0 && len(g.entries[upTo-1].Cmd) == 0; upTo-- {
	}
	return upTo
}

// append has the leader write an entry.
func (g *fakeGroup) append(lead *fakeRun, cmd []byte, p *fakeProposal) {
	e := termEntry{Entry: Entry{Index: g.last() + 1, Cmd: cmd}, term: g.term, floor: g.commit}
	if p != nil {
		g.waiting[e.Index], e.change = p, p.change
	}
	if e.change != nil {
		e.Cmd = nil // its machines do not see it
	}
	g.entries = append(g.entries, e)
	lead.have.has = g.last()
}

// running gives a node's replica of a group, nil while it does not run.
func (n *FakeNet) running(shard model.ShardID, node model.NodeID) *fakeRun {
	if o := n.nodes[node]; o != nil {
		if r := o.runs[shard]; r != nil && !r.gone {
			return r
		}
	}
	return nil
}

// peer gives the replica of an id, nil while it does not run.
func (n *FakeNet) peer(shard model.ShardID, id uint64) *fakeRun {
	if r := n.running(shard, replicaNode(id)); r != nil && r.member.id() == id {
		return r
	}
	return nil
}

// majority tells whether so many votes are one, by what a replica knows of its group.
func (r *fakeRun) majority(votes int) bool { return votes > len(r.roster.voters)/2 }

// votes tells whether a replica knows that it has one.
func (r *fakeRun) votes() bool { return r.roster.voters[r.member.id()] != "" }

// knowsOf tells whether another is in the group, as a replica knows it.
func (r *fakeRun) knowsOf(m Member) bool {
	return r.roster.voters[m.id()] != "" || r.roster.learners[m.id()] != ""
}

// electable tells whether a majority would have a node lead. It must have applied all
// that it knows to be committed: there may be changes of members in it.
func (n *FakeNet) electable(g *fakeGroup, node model.NodeID) bool {
	r := n.running(g.shard, node)
	if r == nil || r.recovering || n.cut[node] || r.reached < r.knows || !r.votes() {
		return false
	}
	votes := 0
	for id := range r.roster.voters {
		if v := n.peer(g.shard, id); v != nil && !n.cut[v.node.id] && v.have.has <= r.have.has {
			votes++
		}
	}
	return r.majority(votes)
}

// elect makes a node the leader under a new term, if a majority would have it: what it
// does not hold of the log is gone.
func (n *FakeNet) elect(g *fakeGroup, node model.NodeID) bool {
	if !n.electable(g, node) {
		return false
	}
	r := n.running(g.shard, node)
	has := r.have.has
	must(has >= g.commit, "node %d is elected by shard %d with entries up to %d, and %d are committed", node, g.shard, has, g.commit)
	for i := has + 1; i <= g.last(); i++ {
		if p := g.waiting[i]; p != nil {
			n.lost = append(n.lost, p)
			delete(g.waiting, i)
			n.saw("truncated")
		}
	}
	g.entries = slices.Clone(g.entries[:has])
	for _, have := range g.replicas {
		have.has = min(have.has, has)
	}
	g.term++
	g.leader = node
	g.append(r, nil, nil) // a new leader's own entry: it takes an index, and no machine sees it
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
	r.knows = max(r.knows, min(g.commit, r.have.has))
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
	lead := n.running(g.shard, g.leader)
	if lead == nil || len(lead.roster.voters) == 0 {
		return
	}
	var has []uint64
	for id := range lead.roster.voters {
		var holds uint64
		if have := g.replicas[Member{replicaNode(id), replicaBirth(id)}]; have != nil {
			holds = have.has
		}
		has = append(has, holds)
	}
	slices.Sort(has)
	if to := has[(len(has)-1)/2]; to > g.commit && g.entries[to-1].term == g.term {
		g.commit = to
		n.hear(g, g.leader)
	}
}

// news tells whether a follower lacks something that its leader can bring it.
func (n *FakeNet) news(g *fakeGroup, node model.NodeID) bool {
	r, lead := n.running(g.shard, node), n.running(g.shard, g.leader)
	if r == nil || lead == nil || r == lead || r.recovering || n.cut[node] || n.cut[g.leader] || !lead.knowsOf(r.member) {
		return false
	}
	if r.have.has < lead.have.forgotten && lead.partition != nil {
		return lead.reached > r.have.has
	}
	return r.leader.Term != g.term || r.leader.Leader != g.leader || r.have.has != lead.have.has || r.knows != g.commit
}

// replicate brings a follower what is news to it.
func (n *FakeNet) replicate(g *fakeGroup, node model.NodeID) bool {
	if !n.news(g, node) {
		return false
	}
	r, lead := n.running(g.shard, node), n.running(g.shard, g.leader)
	n.believe(r, LeaderChange{Shard: g.shard, Leader: g.leader, Term: g.term})
	if r.have.has < lead.have.forgotten {
		return n.install(g, r, lead)
	}
	r.have.has = lead.have.has
	n.commit(g)
	n.hear(g, node)
	n.saw("replicated")
	return true
}

// replicateSome brings a follower half of the entries that it lacks, and no more news
// than came with them.
func (n *FakeNet) replicateSome(g *fakeGroup, node model.NodeID) {
	r, lead := n.running(g.shard, node), n.running(g.shard, g.leader)
	if !n.news(g, node) || r.have.has < lead.have.forgotten || lead.have.has-r.have.has < 2 {
		return
	}
	n.believe(r, LeaderChange{Shard: g.shard, Leader: g.leader, Term: g.term})
	r.have.has += (lead.have.has - r.have.has) / 2
	r.knows = max(r.knows, min(g.entries[r.have.has-1].floor, r.have.has))
	n.commit(g)
	n.saw("replicated some")
}

// install sends a follower a snapshot in the place of entries that its leader has
// forgotten: a note, or the controller's state.
func (n *FakeNet) install(g *fakeGroup, r, lead *fakeRun) bool {
	have, of := r.have, lead.have
	if lead.controller != nil {
		have.has, have.forgotten, have.snapshot = of.forgotten, of.forgotten, of.snapshot
		must(r.controller.Restore(slices.Clone(of.snapshot)) == nil, "the controller's snapshot is not read back")
		r.follow(g, have.has)
		n.saw("installed")
		return true
	}
	through := lead.reached
	var note []byte
	n.mu.Unlock()
	ok := lead.node.ask(func() (err error) { note, err = lead.partition.Note(); return err })
	n.mu.Lock()
	if !ok || n.running(g.shard, r.node.id) != r {
		return false
	}
	have.has, have.forgotten, have.note = through, through, note
	r.knows, r.roster = through, g.roster(through)
	n.saw("installed")
	r.recover(g)
	return true
}

// follow has a replica stand where a snapshot does. It never sees what became of the
// proposals in between: their time will be up.
func (r *fakeRun) follow(g *fakeGroup, index uint64) {
	for _, i := range slices.Sorted(maps.Keys(g.waiting)) {
		if p := g.waiting[i]; i <= index && p.node == r.node {
			p.tell(verdict{err: ErrUnknown})
			delete(g.waiting, i)
		}
	}
	r.applied, r.reached, r.knows = index, index, max(r.knows, index)
	r.roster = g.roster(index)
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
