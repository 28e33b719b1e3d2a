package raft

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// conformSeeds and conformReal are how many histories the fake and dragonboat play.
var (
	conformSeeds = flag.Int("conform-seeds", 200, "random histories that the fake net plays")
	conformReal  = flag.Int("conform-real", 2, "of these, how many dragonboat plays too")
)

// conformOps is how many things are done to three nodes in one history.
const conformOps = 60

const conformNodes = 3

// site is what a history is played on.
type site interface {
	open(n int) mover
	cut(n int, cut bool)
	// lead asks that a node lead, if it can be.
	lead(n int)
	// pass lets things happen.
	pass()
	// calm ends all faults of the site's own making.
	calm()
}

// told is a command and what its proposer knows of it.
type told struct {
	cmd string
	err error // nil: applied at the node that proposed it
}

// conform plays one history. mu guards machines and outcomes.
type conform struct {
	t       *testing.T
	site    site
	dice    *rand.Rand
	nodes   [conformNodes]mover
	work    sync.WaitGroup
	changes sync.WaitGroup

	mu       sync.Mutex
	machines [conformNodes]*ledger // nil: the node has no replica
	group    conformGroup
	members  []*ledger // at the end
	outcomes []told
	terms    map[model.LeaderEpoch]model.NodeID
	kinds    map[string]int
	commands int

	brokenMu sync.Mutex
	faults   []string
}

// broken notes a breach of the contract.
func (c *conform) broken(format string, args ...any) {
	c.brokenMu.Lock()
	defer c.brokenMu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *conform) ledger(n int) *ledger {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machines[n]
}

func (c *conform) start(n int) {
	c.nodes[n] = c.site.open(n)
	changes := c.nodes[n].Changes()
	c.changes.Go(func() { c.follow(n, changes) })
	if was := c.ledger(n); was != nil {
		c.again(n, was)
	}
}

// again starts a node's replica with what it had made durable.
func (c *conform) again(n int, was *ledger) {
	m := &ledger{node: n, of: c, birth: was.birth}
	was.mu.Lock() // a snapshot of the node that was stopped may be on its way still
	m.index, m.durable, m.kept, m.skip = was.durable, was.durable, was.kept, was.durable
	m.entries, m.indexes = slices.Clone(was.entries[:was.kept]), slices.Clone(was.indexes[:was.kept])
	was.mu.Unlock()
	c.run(n, m)
}

// run starts a node's replica.
func (c *conform) run(n int, m *ledger) {
	c.mu.Lock()
	c.machines[n] = m
	c.mu.Unlock()
	if err := c.nodes[n].StartReplica(Replica{Shard: shard, Birth: m.birth, Members: conformFounders, Joins: m.birth > 0}, m); err != nil {
		c.broken("node %d: %v", n, err)
	}
}

// follow holds that a node hears of rising terms, and that each has one leader.
func (c *conform) follow(n int, changes <-chan LeaderChange) {
	last := model.LeaderEpoch(0)
	for e := range changes {
		c.mu.Lock()
		if e.Term < last {
			c.broken("node %d hears of term %d after %d", n, e.Term, last)
		}
		last = e.Term
		if e.Leader != model.NoNode {
			if other, known := c.terms[e.Term]; known && other != e.Leader {
				c.broken("term %d is led by %d and %d", e.Term, other, e.Leader)
			}
			c.terms[e.Term] = e.Leader
		}
		c.mu.Unlock()
	}
}

func (c *conform) stop(n int) {
	c.nodes[n].Close()
	c.nodes[n] = nil
}

func (c *conform) saw(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds[kind]++
}

// propose has a node propose a command that no other has; its outcome comes in time.
func (c *conform) propose(n int) *Proposal {
	cmd := c.command()
	p, err := c.nodes[n].Propose(shard, []byte(cmd), time.Second)
	if err != nil {
		c.decide(told{cmd: cmd, err: err})
		return nil
	}
	c.work.Go(func() { c.decide(told{cmd: cmd, err: p.Failed()}) })
	return p
}

func (c *conform) command() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commands++
	return fmt.Sprint("command ", c.commands)
}

func (c *conform) decide(o told) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes = append(c.outcomes, o)
	switch {
	case o.err == nil:
		c.kinds["applied"]++
	case errors.Is(o.err, ErrUnknown):
		c.kinds["unknown"]++
	case errors.Is(o.err, ErrDropped), errors.Is(o.err, ErrBusy), errors.Is(o.err, ErrClosed):
		c.kinds["refused"]++
	default:
		c.broken("%s: %v", o.cmd, o.err)
	}
}

// acked lists what was applied for its proposer by now.
func (c *conform) acked() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.outcomes {
		if o.err == nil {
			all = append(all, o.cmd)
		}
	}
	return all
}

// barrier holds that a read behind a barrier sees what was applied before it.
func (c *conform) barrier(n int) {
	before, at, m := c.acked(), c.nodes[n], c.ledger(n)
	if m == nil {
		return
	}
	c.work.Go(func() {
		ctx, cancel := context.WithTimeout(c.t.Context(), conformWait)
		defer cancel()
		if at.Barrier(ctx, shard) != nil {
			c.saw("barrier denied")
			return
		}
		c.saw("barrier")
		if c.ledger(n) != m { // another replica has passed it
			return
		}
		there := m.seen()
		for _, cmd := range before {
			if !slices.ContainsFunc(there, func(b []byte) bool { return string(b) == cmd }) {
				c.broken("node %d passes a barrier and lacks %q, which was applied before it", n, cmd)
			}
		}
	})
}

func (c *conform) snapshot(n int) {
	at, m := c.nodes[n], c.ledger(n)
	if m == nil {
		return
	}
	m.mu.Lock()
	through := m.index
	m.mu.Unlock()
	if through < 2 {
		return
	}
	c.work.Go(func() {
		if m.Sync() == nil && at.Snapshot(c.t.Context(), shard, through) == nil {
			c.saw("snapshot")
		}
	})
}

// once does one thing to the nodes: at most one is down or cut off at a time.
func (c *conform) once(down, away *int) {
	n := c.dice.IntN(conformNodes)
	switch k := c.dice.IntN(24); {
	case k < 2 && *down < 0 && *away < 0:
		c.stop(n)
		*down = n
		c.saw("restart")
	case k < 2 && *down >= 0:
		c.start(*down)
		*down = -1
	case k < 4 && *down < 0 && *away < 0:
		c.site.cut(n, true)
		*away = n
		c.saw("cut")
	case k < 5 && *away >= 0:
		c.site.cut(*away, false)
		*away = -1
	case c.nodes[n] == nil:
	case k < 6:
		c.site.lead(n)
	case k < 8:
		c.barrier(n)
	case k < 11:
		c.snapshot(n)
	case k < 15:
		c.change(n, c.dice.IntN(100))
	default:
		c.propose(n)
	}
	c.tend()
}

// play makes one history and holds it against the contract.
func (c *conform) play() {
	c.terms, c.kinds = map[model.LeaderEpoch]model.NodeID{}, map[string]int{}
	for n := range conformNodes {
		c.machines[n] = &ledger{node: n, of: c}
		c.start(n)
	}
	down, away := -1, -1
	for range conformOps {
		c.once(&down, &away)
		c.site.pass()
	}
	if away >= 0 {
		c.site.cut(away, false)
	}
	if down >= 0 {
		c.start(down)
	}
	c.site.calm()
	c.end()
	for n := range conformNodes {
		c.stop(n)
	}
	c.work.Wait()
	c.changes.Wait()
	c.judge()
}

// end waits until all members have applied a last command.
func (c *conform) end() {
	deadline := time.Now().Add(peersPatience)
	for n := 0; time.Now().Before(deadline); n = (n + 1) % conformNodes {
		before := len(c.acked())
		c.change(n, justAsk)
		if p := c.propose(n); p == nil {
			c.site.pass()
			continue
		}
		for range 10 {
			c.tend()
			c.site.pass()
			if c.members = c.inGroup(); len(c.acked()) > before && level(c.members) {
				return
			}
		}
	}
	c.broken("the nodes do not come to agree: %s", c.describe())
}

// describe says where the members stand.
func (c *conform) describe() string {
	var b strings.Builder
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(&b, "group %+v", c.group)
	for n, at := range c.nodes {
		m := c.machines[n]
		if m == nil {
			fmt.Fprintf(&b, "; node %d has no replica", n)
			continue
		}
		m.mu.Lock()
		index, entries := m.index, len(m.entries)
		m.mu.Unlock()
		fmt.Fprintf(&b, "; node %d of birth %d, running %v, stands at %d of %d entries", n, m.birth, at.Running(shard), index, entries)
	}
	return fmt.Sprintf("%s; %+v", &b, c.site)
}

// level tells whether all members have the same number of entries.
func level(members []*ledger) bool {
	have := map[int]bool{}
	for _, m := range members {
		if m == nil {
			return false
		}
		have[len(m.seen())] = true
	}
	return len(have) == 1
}

// judge holds what the machines have against what proposers were told. One that has left
// the group has the beginning of what the members have.
func (c *conform) judge() {
	var order [][]byte
	for _, m := range c.members {
		if m == nil {
			continue // it is among the faults
		}
		if there := m.seen(); len(there) >= len(order) {
			order = there
		}
	}
	for n, m := range c.machines {
		if m == nil {
			continue
		}
		m.mu.Lock() // one that is out may follow a note still
		entries, indexes := slices.Clone(m.entries), slices.Clone(m.indexes)
		c.kinds["installed"] += m.recovers
		m.mu.Unlock()
		if has := len(entries); has > len(order) || has < len(order) && slices.Contains(c.members, m) || !slices.EqualFunc(entries, order[:has], bytes.Equal) {
			c.broken("node %d has %d entries that are not the members' %d", n, has, len(order))
		}
		if !slices.IsSorted(indexes) || len(slices.Compact(slices.Clone(indexes))) != len(indexes) {
			c.broken("indexes of node %d do not rise: %v", n, indexes)
		}
	}
	times := map[string]int{}
	for _, cmd := range order {
		times[string(cmd)]++
	}
	for _, o := range c.outcomes {
		switch n := times[o.cmd]; {
		case o.err == nil && n != 1:
			c.broken("%s was applied, and is there %d times", o.cmd, n)
		case errors.Is(o.err, ErrUnknown) && n == 1:
			c.kinds["unknown, and there"]++
		case errors.Is(o.err, ErrUnknown) && n == 0:
			c.kinds["unknown, and not there"]++
		case errors.Is(o.err, ErrUnknown):
			c.broken("%s was proposed once, and is there %d times", o.cmd, n)
		case o.err != nil && n != 0:
			c.broken("%s was refused (%v), and is there", o.cmd, o.err)
		}
		delete(times, o.cmd)
	}
	for cmd := range times {
		c.broken("%s is there, and nobody has heard of it", cmd)
	}
}

// netSite is a FakeNet.
type netSite struct {
	net    *FakeNet
	dice   *rand.Rand
	faults bool
}

func (s *netSite) open(n int) mover    { return s.net.Open(model.NodeID(n), nil) }
func (s *netSite) cut(n int, cut bool) { s.net.Cut(model.NodeID(n), cut) }
func (s *netSite) calm()               { s.faults = false }
func (s *netSite) lead(n int) {
	if at := s.net.nodes[s.net.Leads(shard)]; at == nil || at.Transfer(shard, model.NodeID(n)) != nil {
		s.net.Elect(shard, model.NodeID(n))
	}
}
func (s *netSite) pass() {
	for range s.dice.IntN(60) {
		s.net.Step(s.dice, s.faults)
	}
}

// String says what the net knows.
func (s *netSite) String() string {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	var b strings.Builder
	g := s.net.groups[shard]
	fmt.Fprintf(&b, "term %d led by %d, %d of %d entries are decided", g.term, g.leader, g.commit, g.last())
	for m, has := range g.replicas {
		fmt.Fprintf(&b, "; %v has %d, forgot %d, note %v", m, has.has, has.forgotten, has.note != nil)
	}
	for id, o := range s.net.nodes {
		for _, r := range o.runs {
			fmt.Fprintf(&b, "; node %d: gone %v, recovering %v, applied %d, knows %d, leader %+v, %v", id, r.gone, r.recovering, r.applied, r.knows, r.leader, r.roster.members())
		}
	}
	return b.String()
}

// hostSite is dragonboat, three times, on a network in memory.
type hostSite struct {
	t     *testing.T
	peers *peers
}

func (s *hostSite) open(n int) mover {
	s.peers.reopen(s.t, n)
	return s.peers.hosts[n]
}

func (s *hostSite) cut(n int, cut bool) {
	do := s.peers.net.Heal
	if cut {
		do = s.peers.net.Cut
	}
	for m := range conformNodes {
		if m != n {
			do(fmt.Sprint(n), fmt.Sprint(m))
			do(fmt.Sprint(m), fmt.Sprint(n))
		}
	}
}

func (s *hostSite) lead(n int) {
	for m, h := range s.peers.hosts {
		if h == nil || m == n {
			continue
		}
		if c, ok := h.Leader(shard); ok && int(c.Leader) == m {
			_ = h.Transfer(shard, model.NodeID(n)) // it may be refused, and be somebody else's by then
		}
	}
}

func (s *hostSite) pass() { <-time.After(tickMilliseconds * time.Millisecond / 2) }
func (s *hostSite) calm() {}

// TestConform plays random histories on the fake net, and some of them on dragonboat:
// both must keep one contract. What the fake makes of proposers' hopes must be all that
// dragonboat can, and nothing must be left out by chance.
func TestConform(t *testing.T) {
	kinds, seen := map[string]int{}, map[string]int{}
	for seed := range uint64(*conformSeeds) {
		s := &netSite{net: NewFakeNet(), dice: rand.New(rand.NewPCG(seed, 2)), faults: true}
		c := &conform{t: t, site: s, dice: rand.New(rand.NewPCG(seed, 1))}
		c.play()
		for k, n := range c.kinds {
			kinds[k] += n
		}
		for k, n := range s.net.Seen() {
			seen[k] += n
		}
		if len(c.faults) > 0 {
			t.Fatalf("seed %d: %v; play it again with -conform-seeds %d", seed, c.faults, seed+1)
		}
	}
	t.Logf("%v, of the net %v", kinds, seen)
	for _, k := range []string{
		"applied", "refused", "unknown, and there", "unknown, and not there", "restart", "cut", "snapshot", "installed", "barrier", "barrier denied",
		"learner added", "promoted", "removed", "change refused", "change rejected", "change unknown", "came in", "went out", "started again",
	} {
		if kinds[k] == 0 {
			t.Errorf("in %d histories: no %q", *conformSeeds, k)
		}
	}
	for _, k := range []string{
		"taken", "forwarded", "dropped", "dropped without a leader", "busy", "lost", "late", "ghost", "deaf", "unknown", "truncated", "gave up",
		"taken by a deposed leader", "elected", "replayed", "installed", "confirmed", "denied", "replicated some", "change dropped", "change rejected",
		"left", "handed over", "dropped for another leader",
	} {
		if seen[k] == 0 {
			t.Errorf("in %d histories of the net: no %q", *conformSeeds, k)
		}
	}
}

// TestConformDragonboat plays the first of TestConform's histories on dragonboat.
func TestConformDragonboat(t *testing.T) {
	for seed := range uint64(*conformReal) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := &peers{net: transport.NewMemory(), shard: shard}
			for n := range p.hosts {
				p.dirs[n] = t.TempDir()
			}
			c := &conform{t: t, site: &hostSite{t: t, peers: p}, dice: rand.New(rand.NewPCG(seed, 1))}
			c.play()
			t.Logf("%v", c.kinds)
			if len(c.faults) > 0 {
				t.Error(c.faults)
			}
		})
	}
}

// TestConformJudgeFails: a history that was kept passes, and each way of spoiling it is
// found.
func TestConformJudgeFails(t *testing.T) {
	applied := func(c *conform) string { return c.acked()[0] }
	without := func(m *ledger, cmd string) {
		i := slices.IndexFunc(m.entries, func(b []byte) bool { return string(b) == cmd })
		m.entries, m.indexes = slices.Delete(m.entries, i, i+1), slices.Delete(m.indexes, i, i+1)
	}
	with := func(c *conform, cmd string) {
		for _, m := range c.members {
			m.index++
			m.entries, m.indexes = append(m.entries, []byte(cmd)), append(m.indexes, m.index)
		}
	}
	for name, spoil := range map[string]func(c *conform){
		"nothing":          func(*conform) {},
		"lost on one node": func(c *conform) { without(c.members[1], applied(c)) },
		"lost on all": func(c *conform) {
			for _, m := range c.members {
				without(m, applied(c))
			}
		},
		"applied twice":       func(c *conform) { with(c, applied(c)) },
		"nobody's":            func(c *conform) { with(c, "command of nobody") },
		"swapped on one node": func(c *conform) { e := c.members[1].entries; e[0], e[1] = e[1], e[0] },
		"indexes fall":        func(c *conform) { x := c.members[0].indexes; x[0], x[1] = x[1], x[0] },
		"dropped and there": func(c *conform) {
			with(c, "command that was dropped")
			c.decide(told{cmd: "command that was dropped", err: ErrDropped})
		},
	} {
		var c *conform
		for seed := uint64(7); c == nil || len(c.members) < 2 || len(c.acked()) < 2; seed++ {
			s := &netSite{net: NewFakeNet(), dice: rand.New(rand.NewPCG(seed, 2)), faults: true}
			c = &conform{t: t, site: s, dice: rand.New(rand.NewPCG(seed, 1))}
			c.play()
			if len(c.faults) > 0 {
				t.Fatal(c.faults)
			}
		}
		spoil(c)
		c.judge()
		if found := len(c.faults) > 0; found != (name != "nothing") {
			t.Errorf("%s: %v", name, c.faults)
		}
	}
}
