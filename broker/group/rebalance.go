package group

import (
	"slices"
	"time"
)

// rebalance begins a rebalance, or goes on with the one that is prepared.
func (g *Group) rebalance(now time.Time) {
	if g.state == PreparingRebalance {
		g.tryCompleteJoin(now)
		return
	}
	g.prepare(now)
}

// prepare asks all members to join again.
func (g *Group) prepare(now time.Time) {
	for _, m := range g.members {
		g.answerSync(m, SyncAnswer{Err: ErrRebalanceInProgress})
	}
	g.syncBy = time.Time{}
	wait := g.rebalanceTimeout()
	g.initial = g.state == Empty
	if g.initial {
		delay := min(g.o.InitialDelay, wait)
		g.remaining, g.grown = wait-delay, false
		wait = delay
	}
	g.become(PreparingRebalance, now)
	g.joinBy = now.Add(wait)
	g.arm(g.joinBy)
	g.tryCompleteJoin(now)
}

func (g *Group) rebalanceTimeout() time.Duration {
	var t time.Duration
	for _, m := range g.members {
		t = max(t, m.rebalanceTimeout)
	}
	return t
}

// tryCompleteJoin ends the wait once everybody is there.
func (g *Group) tryCompleteJoin(now time.Time) {
	if g.state != PreparingRebalance || len(g.pending) > 0 {
		return
	}
	if g.initial && now.Before(g.joinBy) {
		return
	}
	for _, m := range g.members {
		if m.joining == 0 {
			return
		}
	}
	g.completeJoin(now)
}

func (g *Group) joinExpired(now time.Time) {
	if g.initial && g.grown && g.remaining > 0 {
		delay := min(g.o.InitialDelay, g.remaining)
		g.remaining, g.grown = g.remaining-delay, false
		g.joinBy = now.Add(delay)
		return
	}
	g.completeJoin(now)
}

// completeJoin begins the next generation with those that have joined and the
// static members that have not: these keep their place until their session ends.
func (g *Group) completeJoin(now time.Time) {
	for _, m := range slices.Clone(g.members) {
		if m.joining == 0 && m.instanceID == "" {
			g.drop(m, ErrUnknownMember)
		}
	}
	if len(g.members) > 0 && !g.electLeader() {
		g.initial = false
		g.joinBy = now.Add(g.rebalanceTimeout())
		g.arm(g.joinBy)
		return
	}
	g.initial = false
	g.generation++
	if len(g.members) == 0 {
		g.protocol = ""
		g.become(Empty, now)
		g.write(emptyWrite{}, g.metadata(nil))
		return
	}
	g.protocol = g.choose()
	g.become(CompletingRebalance, now)
	g.syncBy = now.Add(g.rebalanceTimeout())
	g.arm(g.syncBy)
	for _, m := range g.members {
		m.fresh, m.synced = false, false
		g.answerJoin(m, g.joined(m))
		g.touch(m, now)
	}
}

// emptyWrite stores that the last member has gone. Nobody waits for it, and if
// it fails the members in the log expire after the next load.
type emptyWrite struct{}

func (emptyWrite) done(g *Group, err error, _ time.Time) { g.stored = g.stored || err == nil }

// electLeader keeps a leader that has joined, else takes who joined first.
func (g *Group) electLeader() bool {
	if m := g.byID[g.leader]; m != nil && m.joining != 0 {
		return true
	}
	for _, m := range g.members {
		if m.joining != 0 {
			g.leader = m.id
			return true
		}
	}
	return false
}

// choose gives the protocol that most members prefer of those that all support;
// among equals, the leader's preference decides.
func (g *Group) choose() string {
	votes := map[string]int{} // of the protocols that all support
	for _, p := range g.members[0].protocols {
		if g.allSupport(p.Name) {
			votes[p.Name] = 0
		}
	}
	for _, m := range g.members {
		for _, p := range m.protocols {
			if n, ok := votes[p.Name]; ok {
				votes[p.Name] = n + 1
				break
			}
		}
	}
	best := ""
	if m := g.byID[g.leader]; m != nil {
		for _, p := range m.protocols {
			if votes[p.Name] > votes[best] {
				best = p.Name
			}
		}
	}
	return best
}

// metadata is the group as the log keeps it, with assigned in place of the
// members' assignments unless it is nil.
func (g *Group) metadata(assigned map[string][]byte) MetadataSet {
	r := MetadataSet{
		ProtocolType: g.protocolType, Protocol: g.protocol, Generation: g.generation,
		Leader: g.leader, StateTime: g.since,
	}
	for _, m := range g.members {
		a := m.assignment
		if assigned != nil {
			a = assigned[m.id]
		}
		p, _ := m.protocol(g.protocol)
		r.Members = append(r.Members, MemberSet{
			ID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeout: m.rebalanceTimeout, SessionTimeout: m.sessionTimeout,
			Subscription: p.Metadata, Topics: p.Topics, Assignment: a,
		})
	}
	return r
}
