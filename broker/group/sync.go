package group

import (
	"slices"
	"time"
)

func (g *Group) sync(e Sync, now time.Time) {
	m, err := g.checkSync(e)
	if err != nil {
		g.reply(e.To, SyncAnswer{Err: err})
		return
	}
	m.synced = true
	g.touch(m, now)
	if g.state == Stable {
		g.settle()
		g.reply(e.To, g.assigned(m))
		return
	}
	g.answerSync(m, SyncAnswer{Err: ErrRebalanceInProgress})
	m.syncing = e.To
	if m.id == g.leader && !g.assigning() {
		g.assign(e.Assignments)
	}
}

func (g *Group) checkSync(e Sync) (*member, error) {
	if g.deleting || g.state == Dead {
		return nil, ErrGone
	}
	m, err := g.find(e.Member)
	switch {
	case err != nil:
		return nil, err
	case e.Generation != g.generation:
		return nil, ErrIllegalGeneration
	case e.ProtocolType != "" && e.ProtocolType != g.protocolType,
		e.Protocol != "" && e.Protocol != g.protocol:
		return nil, ErrInconsistentProtocol
	case g.state == Empty:
		return nil, ErrUnknownMember
	case g.state == PreparingRebalance:
		return nil, ErrRebalanceInProgress
	}
	return m, nil
}

func (g *Group) assigned(m *member) SyncAnswer {
	return SyncAnswer{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}
}

// assign stores what the leader has decided. Members that it does not name get
// nothing to do, names that are no members are passed over.
func (g *Group) assign(all []Assignment) {
	assigned := make(map[string][]byte, len(g.members))
	for _, a := range all {
		if g.byID[a.MemberID] != nil {
			assigned[a.MemberID] = a.Bytes
		}
	}
	record := g.metadata(assigned)
	g.write(&assignWrite{generation: g.generation, assigned: assigned}, record)
}

func (g *Group) assigning() bool {
	return slices.ContainsFunc(g.inflight, func(w write) bool {
		a, ok := w.(*assignWrite)
		return ok && a.generation == g.generation
	})
}

// assignWrite stores a generation's assignments.
type assignWrite struct {
	generation int32
	assigned   map[string][]byte
}

func (w *assignWrite) done(g *Group, err error, now time.Time) {
	g.stored = g.stored || err == nil
	if g.state != CompletingRebalance || g.generation != w.generation {
		return // the next rebalance has begun and asked everybody to join again
	}
	if err != nil {
		for _, m := range g.members {
			m.assignment = nil
			g.answerSync(m, SyncAnswer{Err: err})
		}
		g.prepare(now)
		return
	}
	g.become(Stable, now)
	for _, m := range g.members {
		m.assignment = w.assigned[m.id]
		if m.syncing != 0 {
			g.touch(m, now)
			g.answerSync(m, g.assigned(m))
		}
	}
	g.settle()
}

// settle stops waiting once every member has asked for its assignment.
func (g *Group) settle() {
	if g.state == Stable && !slices.ContainsFunc(g.members, func(m *member) bool { return !m.synced }) {
		g.syncBy = time.Time{}
	}
}

// syncExpired removes those who joined and never asked for their assignment.
func (g *Group) syncExpired(now time.Time) {
	g.syncBy = time.Time{}
	removed := false
	for _, m := range slices.Clone(g.members) {
		if !m.synced {
			g.drop(m, ErrUnknownMember)
			removed = true
		}
	}
	if removed {
		g.prepare(now)
	}
}
