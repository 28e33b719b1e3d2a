package group

import (
	"time"
)

// State is where a group stands, in Kafka's words.
type State uint8

// States of a group.
const (
	Empty               State = iota // no members; offsets may be there
	PreparingRebalance               // members are asked to join again
	CompletingRebalance              // members wait for the leader's assignment
	Stable
	Dead // deleted, or about to be
)

// String gives Kafka's name of the state.
func (s State) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}[s]
}

// joinTimeout is how long a member that has not been answered yet is kept
// although nothing is heard of it: its client has given up by then.
const joinTimeout = 5 * time.Minute

// Options are the limits that groups keep.
type Options struct {
	// InitialDelay is how long an empty group waits for more members to join.
	InitialDelay time.Duration
	// SessionMin and SessionMax bound session timeouts.
	SessionMin, SessionMax time.Duration
	// MembersMax bounds the members of a group.
	MembersMax int
	// MetadataBytesMax bounds the text that is committed with an offset.
	MetadataBytesMax int
	// Retention is how long offsets are kept once their group is empty.
	Retention time.Duration
}

// Group is one group. Its owner is the loop that calls Step.
type Group struct {
	id string
	o  *Options

	state      State
	since      int64 // ms since the epoch of the last change of state
	generation int32
	// protocolType is "" until a member has joined: such a group only has offsets.
	protocolType, protocol string
	leader                 string
	members                []*member // in order of joining
	byID                   map[string]*member
	static                 map[string]*member // by instance id
	// pending are ids that were given out and whose members have not come back.
	pending []pendingMember

	joinBy  time.Time // in PreparingRebalance
	initial bool      // joinBy is the initial delay
	// remaining is by how much the initial delay may still grow, grown whether a
	// member came since it was last set.
	remaining time.Duration
	grown     bool
	syncBy    time.Time // zero: nobody is awaited

	offsets map[TopicPartition]Offset
	// stored says that the log holds a MetadataSet of this group.
	stored bool
	// deleting says that tombstones for all there is are on their way.
	deleting bool

	inflight []write // in order; the first has sequence seq-len(inflight)+1
	seq      uint64
	next     time.Time // a lower bound of what is due; zero is never
	effects  []Effect
}

// New gives an empty group that no log knows.
func New(id string, o *Options) *Group {
	return &Group{
		id: id, o: o,
		byID: map[string]*member{}, static: map[string]*member{},
		offsets: map[TopicPartition]Offset{},
	}
}

// ID gives the group's name.
func (g *Group) ID() string { return g.id }

// Step takes an event at now, and gives what is to be done about it, in order.
// The slice is valid until the next call.
func (g *Group) Step(e Event, now time.Time) []Effect {
	g.effects = g.effects[:0]
	switch e := e.(type) {
	case Join:
		g.join(e, now)
	case Sync:
		g.sync(e, now)
	case Heartbeat:
		g.heartbeat(e, now)
	case Leave:
		g.leave(e, now)
	case Commit:
		g.commit(e, now)
	case DeleteOffsets:
		g.deleteOffsets(e)
	case DeleteGroup:
		g.deleteGroup(e)
	case ForgetTopics:
		g.forgetTopics(e)
	case Expire:
		g.expire(now)
	case Tick:
		g.tick(now)
	case Written:
		g.written(e, now)
	}
	return g.effects
}

// Deadline says when a Tick is due; the zero time is never. It may be early.
func (g *Group) Deadline() time.Time { return g.next }

// Blank says that there is nothing about the group to remember: its owner may
// forget it.
func (g *Group) Blank() bool {
	return (g.state == Empty || g.state == Dead) && !g.stored && len(g.inflight) == 0 &&
		len(g.members) == 0 && len(g.pending) == 0 && len(g.offsets) == 0
}

func (g *Group) reply(to Token, a Answer) {
	if to != 0 {
		g.effects = append(g.effects, Reply{To: to, Answer: a})
	}
}

// write is what becomes true, and whom to tell, once a Write is answered.
type write interface {
	done(g *Group, err error, now time.Time)
}

func (g *Group) write(w write, records ...Record) {
	g.seq++
	g.inflight = append(g.inflight, w)
	g.effects = append(g.effects, Write{Seq: g.seq, Records: records})
}

func (g *Group) written(e Written, now time.Time) {
	must(len(g.inflight) > 0, "write %d of %q answered, none is open", e.Seq, g.id)
	first := g.seq - uint64(len(g.inflight)) + 1
	must(e.Seq == first, "write %d of %q answered before write %d", e.Seq, g.id, first)
	w := g.inflight[0]
	g.inflight[0] = nil
	g.inflight = g.inflight[1:]
	if len(g.inflight) == 0 {
		g.inflight = nil
	}
	w.done(g, e.Err, now)
}

func (g *Group) become(s State, now time.Time) {
	g.state = s
	g.since = now.UnixMilli()
}

// arm makes sure that a Tick comes at t or before.
func (g *Group) arm(t time.Time) {
	if g.next.IsZero() || t.Before(g.next) {
		g.next = t
	}
}

// tick does what is due. Deadlines are looked at in the order in which members
// joined.
func (g *Group) tick(now time.Time) {
	g.next = time.Time{}
	g.expirePending(now)
	g.expireSessions(now)
	if g.state == PreparingRebalance && !now.Before(g.joinBy) {
		g.joinExpired(now)
	}
	if !g.syncBy.IsZero() && !now.Before(g.syncBy) {
		g.syncExpired(now)
	}
	g.rearm()
}

func (g *Group) rearm() {
	for _, p := range g.pending {
		g.arm(p.expires)
	}
	for _, m := range g.members {
		g.arm(m.expires)
	}
	if g.state == PreparingRebalance {
		g.arm(g.joinBy)
	}
	if !g.syncBy.IsZero() {
		g.arm(g.syncBy)
	}
}

func (g *Group) expirePending(now time.Time) {
	kept := g.pending[:0]
	for _, p := range g.pending {
		if now.Before(p.expires) {
			kept = append(kept, p)
		}
	}
	gone := len(kept) < len(g.pending)
	g.pending = kept
	if gone {
		g.tryCompleteJoin(now)
	}
}

// expireSessions removes members that were not heard of. One whose request is
// waiting here is alive, unless it never got an answer: see joinTimeout.
func (g *Group) expireSessions(now time.Time) {
	var gone []*member
	for _, m := range g.members {
		switch {
		case now.Before(m.expires):
		case !m.fresh && (m.joining != 0 || m.syncing != 0):
			m.expires = now.Add(m.sessionTimeout)
		default:
			gone = append(gone, m)
		}
	}
	for _, m := range gone {
		if g.byID[m.id] == m {
			g.remove(m, now)
		}
	}
}
