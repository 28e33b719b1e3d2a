package group

import (
	"slices"
	"time"
)

func (g *Group) join(e Join, now time.Time) {
	if err := g.checkJoin(e); err != nil {
		g.refuseJoin(e, err)
		return
	}
	if e.Member.ID == "" {
		g.joinNew(e, now)
		return
	}
	if g.isPending(e.Member.ID) && e.Member.InstanceID == "" {
		g.takePending(e.Member.ID)
		g.joinAs(e, e.Member.ID, now)
		return
	}
	m, err := g.find(e.Member)
	if err != nil {
		g.refuseJoin(e, err)
		return
	}
	g.joinAgain(m, e, now)
}

func (g *Group) refuseJoin(e Join, err error) {
	g.reply(e.To, JoinAnswer{Err: err, Generation: -1, MemberID: e.Member.ID})
}

func (g *Group) checkJoin(e Join) error {
	switch {
	case g.deleting || g.state == Dead:
		return ErrGone
	case e.SessionTimeout < g.o.SessionMin || e.SessionTimeout > g.o.SessionMax:
		return ErrSessionTimeout
	case g.full(e.Member.ID):
		return ErrFull
	case !g.suits(e):
		return ErrInconsistentProtocol
	}
	return nil
}

// full counts only those that wait to join while a rebalance is prepared: the
// others may not come back.
func (g *Group) full(id string) bool {
	m := g.byID[id]
	if g.state != PreparingRebalance {
		return m == nil && len(g.members)+len(g.pending) >= g.o.MembersMax && !g.isPending(id)
	}
	if m != nil && m.joining != 0 {
		return false
	}
	waiting := 0
	for _, x := range g.members {
		if x.joining != 0 {
			waiting++
		}
	}
	return waiting >= g.o.MembersMax || m == nil && !g.isPending(id) && len(g.pending) >= g.o.MembersMax
}

// suits says that the joining member has a protocol which all members support.
func (g *Group) suits(e Join) bool {
	if e.ProtocolType == "" || len(e.Protocols) == 0 {
		return false
	}
	if len(g.members) == 0 {
		return true
	}
	return e.ProtocolType == g.protocolType && slices.ContainsFunc(e.Protocols, func(p Protocol) bool {
		return g.allSupport(p.Name)
	})
}

func (g *Group) allSupport(protocol string) bool {
	for _, m := range g.members {
		if _, ok := m.protocol(protocol); !ok {
			return false
		}
	}
	return true
}

func (g *Group) isPending(id string) bool {
	return slices.ContainsFunc(g.pending, func(p pendingMember) bool { return p.id == id })
}

// pendingMax bounds the ids given out and not used yet: they cost a client
// nothing, and a rebalance waits for them.
const pendingMax = 10_000

func (g *Group) joinNew(e Join, now time.Time) {
	if old := g.static[e.Member.InstanceID]; old != nil {
		g.replaceStatic(old, e, now)
		return
	}
	if e.KnownIDRequired && e.Member.InstanceID == "" {
		if len(g.pending) >= pendingMax {
			g.refuseJoin(e, ErrFull)
			return
		}
		p := pendingMember{id: e.NewID, expires: now.Add(e.SessionTimeout)}
		g.pending = append(g.pending, p)
		g.arm(p.expires)
		g.reply(e.To, JoinAnswer{Err: ErrMemberIDRequired, Generation: -1, MemberID: e.NewID})
		return
	}
	g.joinAs(e, e.NewID, now)
}

// joinAs adds a member and has the group rebalance.
func (g *Group) joinAs(e Join, id string, now time.Time) {
	m := &member{id: id, instanceID: e.Member.InstanceID, fresh: true}
	m.update(e)
	m.joining = e.To
	g.protocolType = e.ProtocolType
	g.add(m)
	m.expires = now.Add(joinTimeout)
	g.arm(m.expires)
	if g.state == PreparingRebalance && g.initial {
		g.grown = true
	}
	g.rebalance(now)
}

// rebalanceMin keeps a rebalance from ending before it begins, whatever a client
// asks for.
const rebalanceMin = time.Millisecond

// update takes over what a join says about the member.
func (m *member) update(e Join) {
	m.clientID, m.clientHost = e.ClientID, e.ClientHost
	m.sessionTimeout, m.rebalanceTimeout = e.SessionTimeout, max(e.RebalanceTimeout, rebalanceMin)
	m.protocols = e.Protocols
}

// joinAgain is a join of who is a member already.
func (g *Group) joinAgain(m *member, e Join, now time.Time) {
	switch g.state {
	case CompletingRebalance, Stable:
		// A leader that joins again while all is stable asks for a rebalance; who
		// asks for nothing new has lost an answer.
		if m.matches(e.Protocols) && (g.state == CompletingRebalance || m.id != g.leader) {
			g.touch(m, now)
			g.reply(e.To, g.joined(m))
			return
		}
	case Empty, Dead:
		g.refuseJoin(e, ErrUnknownMember)
		return
	}
	g.await(m, e)
	g.rebalance(now)
}

// await notes that m has joined. What waited in its name is answered: its client
// has sent another request since.
func (g *Group) await(m *member, e Join) {
	g.answerJoin(m, JoinAnswer{Err: ErrRebalanceInProgress, Generation: -1, MemberID: m.id})
	m.update(e)
	m.joining = e.To
}

// joined tells m the current generation.
func (g *Group) joined(m *member) JoinAnswer {
	a := JoinAnswer{
		Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol,
		LeaderID: g.leader, MemberID: m.id,
	}
	if m.id == g.leader {
		a.Members = g.roster()
	}
	return a
}

func (g *Group) roster() []JoinMember {
	all := make([]JoinMember, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, JoinMember{ID: m.id, InstanceID: m.instanceID, Metadata: m.metadata(g.protocol)})
	}
	return all
}

// replaceStatic gives the place of a static member to a client that has come
// back without its id. While the group is stable, and the choice of protocol and
// what the member subscribes to stay, it keeps its assignment and nobody
// rebalances.
func (g *Group) replaceStatic(old *member, e Join, now time.Time) {
	leaderBefore := g.leader
	g.answerJoin(old, JoinAnswer{Err: ErrFencedInstance, Generation: -1, MemberID: old.id})
	g.answerSync(old, SyncAnswer{Err: ErrFencedInstance})
	delete(g.byID, old.id)
	if g.leader == old.id {
		g.leader = e.NewID
	}
	m := old
	was, _ := m.protocol(g.protocol)
	m.id, m.fresh = e.NewID, false
	m.update(e)
	g.byID[m.id] = m
	g.touch(m, now)

	if is, _ := m.protocol(g.protocol); g.state == Stable && g.choose() == g.protocol && sameTopics(was, is) {
		a := g.joined(m)
		if a.Members != nil && !e.CanSkipAssignment {
			// An old client that hears it leads would assign anew: it is told that
			// the leader is who it was.
			a.LeaderID, a.Members = leaderBefore, nil
		}
		a.SkipAssignment = a.Members != nil
		g.write(&memberWrite{to: e.To, member: m.id, answer: a}, g.metadata(nil))
		return
	}
	m.joining = e.To
	if g.state == PreparingRebalance {
		g.tryCompleteJoin(now)
		return
	}
	g.prepare(now)
}

// sameTopics says that both subscribe to the same, or that it is not known. The
// rest of the metadata differs after every restart: it tells what was owned.
func sameTopics(a, b Protocol) bool {
	return a.Topics == nil || b.Topics == nil ||
		slices.Equal(slices.Sorted(slices.Values(a.Topics)), slices.Sorted(slices.Values(b.Topics)))
}

// memberWrite stores a static member's new id.
type memberWrite struct {
	to     Token
	member string
	answer JoinAnswer
}

func (w *memberWrite) done(g *Group, err error, now time.Time) {
	if err == nil {
		g.stored = true
		g.reply(w.to, w.answer)
		return
	}
	// The log still has the old id: the next generation, written as a whole, must
	// come before anybody relies on the new one.
	g.reply(w.to, JoinAnswer{Err: err, Generation: -1, MemberID: w.member})
	if g.state == Stable || g.state == CompletingRebalance {
		g.prepare(now)
	}
}
