package group

import (
	"bytes"
	"slices"
	"time"
)

// member is one member; owned by its Group.
type member struct {
	id, instanceID       string
	clientID, clientHost string
	sessionTimeout       time.Duration
	rebalanceTimeout     time.Duration
	protocols            []Protocol
	assignment           []byte
	joining, syncing     Token // requests that wait, or 0
	// fresh says that the member has not been part of a generation yet.
	fresh bool
	// synced says that the member asked for its assignment in this generation.
	synced  bool
	expires time.Time
}

type pendingMember struct {
	id      string
	expires time.Time
}

// protocol finds what the member supports under a name.
func (m *member) protocol(name string) (Protocol, bool) {
	for _, p := range m.protocols {
		if p.Name == name {
			return p, true
		}
	}
	return Protocol{}, false
}

func (m *member) metadata(protocol string) []byte {
	p, _ := m.protocol(protocol)
	return p.Metadata
}

// matches says that the member asks for what it asked for before.
func (m *member) matches(ps []Protocol) bool {
	return slices.EqualFunc(m.protocols, ps, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

// find gives the member that a request comes from, or why it is not one.
func (g *Group) find(who Member) (*member, error) {
	if who.InstanceID != "" {
		m := g.static[who.InstanceID]
		switch {
		case m == nil:
			return nil, ErrUnknownMember
		case m.id != who.ID:
			return nil, ErrFencedInstance
		}
		return m, nil
	}
	m := g.byID[who.ID]
	if m == nil {
		return nil, ErrUnknownMember
	}
	return m, nil
}

func (g *Group) add(m *member) {
	if len(g.members) == 0 {
		g.leader = m.id
	}
	g.members = append(g.members, m)
	g.byID[m.id] = m
	if m.instanceID != "" {
		g.static[m.instanceID] = m
	}
}

// drop takes m out, answering what it waits for with err.
func (g *Group) drop(m *member, err error) {
	g.answerJoin(m, JoinAnswer{Err: err, Generation: -1, MemberID: m.id})
	g.answerSync(m, SyncAnswer{Err: err})
	g.members = slices.DeleteFunc(g.members, func(x *member) bool { return x == m })
	delete(g.byID, m.id)
	if g.static[m.instanceID] == m {
		delete(g.static, m.instanceID)
	}
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

// remove takes m out and lets the others rebalance.
func (g *Group) remove(m *member, now time.Time) {
	g.drop(m, ErrUnknownMember)
	switch g.state {
	case Stable, CompletingRebalance:
		g.prepare(now)
	case PreparingRebalance:
		g.tryCompleteJoin(now)
	}
}

// touch begins the member's session anew.
func (g *Group) touch(m *member, now time.Time) {
	m.expires = now.Add(m.sessionTimeout)
	g.arm(m.expires)
}

func (g *Group) answerJoin(m *member, a JoinAnswer) {
	g.reply(m.joining, a)
	m.joining = 0
}

func (g *Group) answerSync(m *member, a SyncAnswer) {
	g.reply(m.syncing, a)
	m.syncing = 0
}

func (g *Group) takePending(id string) bool {
	n := len(g.pending)
	g.pending = slices.DeleteFunc(g.pending, func(p pendingMember) bool { return p.id == id })
	return len(g.pending) < n
}
