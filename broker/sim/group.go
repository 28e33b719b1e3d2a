package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// The group that members share: partitions of events are theirs, there yet or not, which
// a coordinator does not look at. Its timeouts are short beside a run's time.
const (
	membersGroup     = "members"
	membersMax       = 3
	sharedPartitions = 4
	memberSession    = 600 * time.Millisecond
	memberRebalance  = 400 * time.Millisecond
)

// membership is a classic group's clients, and what is known of it. Owned by the driver,
// but for ids.
type membership struct {
	members []*member
	ids     atomic.Int64 // that coordinators have given out
	known   groupTruth
	// What clients must not do, to see the judge fail: leaders give all partitions to
	// everybody; commits of the generation before are sent as those of the one that is;
	// members begin at 1 instead of where a partition is.
	careless, borrowing, blind bool
}

// member is one client, with one request at a time. As an eager consumer does, it gives
// up its partitions before it joins again.
type member struct {
	name        string
	knownID     bool   // asks for its id first (KIP-394)
	instance    string // of a static member (KIP-345)
	id          string
	former      string // of the static member's process before this one
	generation  int32  // of its last answer to a join
	leads       []group.JoinMember
	joined      bool
	synced      bool
	owns        []int32
	next        map[int32]model.Offset // to be committed; nil until the committed ones are read
	busy        bool
	asleep      bool
	incarnation int
}

func (g *membership) init() {
	g.known.init()
	for i := range membersMax {
		g.members = append(g.members, &member{name: fmt.Sprint("member-", i), knownID: i == 0})
	}
	g.members[membersMax-1].instance = "static"
}

// newID makes the ids of members, which have a part in the log and so in what replays. One
// join is under way at a time between two of the driver's steps.
func (g *membership) newID(prefix string) string { return fmt.Sprintf("%s-%d", prefix, g.ids.Add(1)) }

// forget gives up what it owns, and its place too unless it may join with its id.
func (m *member) forget(id bool) {
	m.joined, m.synced, m.owns, m.next, m.leads = false, false, nil, nil, nil
	if id {
		m.id, m.generation = "", -1
	}
}

// stepMember has a member do what is next for it.
func (w *World) stepMember() {
	if !w.load.made {
		return
	}
	m := w.load.members.members[w.dice.IntN(membersMax)]
	k := w.dice.IntN(60)
	if w.load.ended {
		m.asleep = false
		k = 60
	}
	switch {
	case m.asleep:
		m.asleep = k >= 8
	case k < 1:
		w.log("%d %s sleeps", w.step, m.name)
		m.asleep = true
		w.saw("slept")
	case k < 2, m.instance != "" && k < 5: // its process is gone, and another comes; answers on their way are nobody's
		w.log("%d %s vanishes", w.step, m.name)
		m.former = cmp.Or(m.id, m.former)
		m.forget(true)
		m.busy = false
		m.incarnation++
		w.saw("vanished")
	case m.busy:
	case !m.joined:
		w.join(m)
	case !m.synced:
		w.sync(m)
	case m.next == nil:
		w.positions(m)
	case k < 6 && m.instance == "":
		w.leave(m)
	case k < 14:
		w.commitLate(m)
	case k < 36:
		w.commitOwned(m)
	default:
		w.beat(m)
	}
}

// request has a member ask its coordinator; heard runs on the driver, if the member has
// not vanished by then.
func (w *World) request(m *member, ask func(ctx context.Context, n *node), heard func()) bool {
	o := w.coordinate(ask)
	if o == nil {
		return false
	}
	m.busy = true
	incarnation := m.incarnation
	o.done = func() {
		if m.incarnation == incarnation {
			m.busy = false
			heard()
		}
	}
	o.lost = func() {
		if m.incarnation == incarnation {
			m.busy = false
		}
	}
	return true
}

// refused does what a client does of an error, and tells whether there was one.
func (w *World) refused(m *member, what string, err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, group.ErrFencedInstance) && m.instance != "": // its id may be lost with a coordinator
		m.forget(true)
		w.saw("fenced")
	case errors.Is(err, group.ErrUnknownMember):
		m.forget(true)
		w.saw("evicted")
	case errors.Is(err, group.ErrRebalanceInProgress), errors.Is(err, group.ErrIllegalGeneration):
		m.forget(false)
		w.saw("rejoined")
	case errors.Is(err, coordinator.ErrNotCoordinator), errors.Is(err, coordinator.ErrLoading), errors.Is(err, coordinator.ErrUnavailable):
	default:
		w.broken("%s is told of its %s: %v", m.name, what, err)
	}
	return true
}

func (m *member) who() group.Member { return group.Member{ID: m.id, InstanceID: m.instance} }

func (w *World) join(m *member) {
	var a group.JoinAnswer
	e := group.Join{
		Member: m.who(), ClientID: m.name, ClientHost: "sim", ProtocolType: group.ConsumerProtocol,
		Protocols:      []group.Protocol{{Name: "spread", Metadata: []byte(eventsTopic), Topics: []string{eventsTopic}}},
		SessionTimeout: memberSession, RebalanceTimeout: memberRebalance, KnownIDRequired: m.knownID,
		CanSkipAssignment: m.incarnation%2 == 0,
	}
	w.request(m, func(ctx context.Context, n *node) { a = n.groups.Join(ctx, membersGroup, e) }, func() {
		w.log("%d %s joins as %q: generation %d, led by %q, %v", w.step, m.name, a.MemberID, a.Generation, a.LeaderID, a.Err)
		if errors.Is(a.Err, group.ErrMemberIDRequired) {
			m.id = a.MemberID
			return
		}
		if w.refused(m, "join", a.Err) {
			return
		}
		m.id, m.generation, m.joined, m.leads = a.MemberID, a.Generation, true, nil
		if a.LeaderID == a.MemberID && !a.SkipAssignment {
			m.leads = a.Members
			slices.SortFunc(m.leads, func(x, y group.JoinMember) int { return cmp.Compare(x.ID, y.ID) })
		}
	})
}

// spread gives each partition to one of the members, another one in each generation.
func (g *membership) spread(members []group.JoinMember, generation int32) (all []group.Assignment) {
	for i, m := range members {
		a := group.Assignment{MemberID: m.ID, Bytes: []byte{}}
		for p := range int32(sharedPartitions) {
			if g.careless || (int(p)+int(generation))%len(members) == i {
				a.Bytes = append(a.Bytes, byte(p))
			}
		}
		all = append(all, a)
	}
	return all
}

func (w *World) sync(m *member) {
	g := &w.load.members
	e := group.Sync{Member: m.who(), Generation: m.generation}
	if len(m.leads) > 0 {
		e.Assignments = g.spread(m.leads, m.generation)
	}
	var a group.SyncAnswer
	asked := w.request(m, func(ctx context.Context, n *node) { a = n.groups.Sync(ctx, membersGroup, e) }, func() {
		w.log("%d %s, %q, syncs with generation %d: %v, %v", w.step, m.name, m.id, m.generation, a.Assignment, a.Err)
		if w.refused(m, "sync", a.Err) {
			return
		}
		m.synced, m.owns = true, nil
		for _, p := range a.Assignment {
			m.owns = append(m.owns, int32(p))
		}
		for _, f := range g.known.assigned(m.generation, m.who(), m.owns) {
			w.broken("%s: %s", m.name, f)
		}
		w.saw("assigned")
	})
	if asked {
		g.known.gives(m.generation, m.leads, e.Assignments)
	}
}

// positions reads where the partitions are that have come to a member.
func (w *World) positions(m *member) {
	g := &w.load.members
	var places []group.TopicPartition
	for _, p := range m.owns {
		places = append(places, group.TopicPartition{Topic: eventsTopic, Partition: p})
	}
	if len(places) == 0 {
		m.next = map[int32]model.Offset{}
		return
	}
	least := slices.Clone(g.known.acked[:])
	var found []group.OffsetSet
	var err error
	w.request(m, func(ctx context.Context, n *node) {
		found, err = n.groups.Fetch(ctx, membersGroup, coordinator.FetchAsk{Partitions: places})
	}, func() {
		w.log("%d %s reads its positions: %v, %v", w.step, m.name, found, err)
		if w.refused(m, "positions", err) {
			return
		}
		at := map[int32]model.Offset{}
		for _, f := range found {
			at[f.Partition] = f.Offset.Offset
		}
		m.next = map[int32]model.Offset{}
		for _, p := range m.owns {
			m.next[p] = at[p] + 1
			if g.blind {
				m.next[p] = 1
			}
			if f := g.known.position(p, at[p], least[p]); f != "" {
				w.broken("%s: %s", m.name, f)
			}
		}
		w.saw("positions read")
	})
}

// commitOwned moves the positions of what a member owns.
func (w *World) commitOwned(m *member) {
	if len(m.owns) == 0 || w.load.ended {
		w.beat(m)
		return
	}
	if !w.commitAs(m, m.generation, maps.Clone(m.next)) {
		return
	}
	for _, p := range m.owns {
		m.next[p]++
	}
}

// commitLate sends what a member would have committed in the generation before: it must
// be refused, although the member is in the group.
func (w *World) commitLate(m *member) {
	offsets := map[int32]model.Offset{int32(w.dice.IntN(sharedPartitions)): 0}
	switch {
	case m.instance != "" && m.former != "" && m.former != m.id:
		w.commitFenced(m, offsets)
	case m.generation > 0:
		w.commitAs(m, m.generation-1, offsets)
	}
}

// commitFenced sends what the process that was a static member before would commit: that
// there is another is in the log.
func (w *World) commitFenced(m *member, offsets map[int32]model.Offset) {
	e := group.Commit{Member: group.Member{ID: m.former, InstanceID: m.instance}, Generation: m.generation, Offsets: offsetsOf(offsets)}
	err := errors.New("not sent")
	w.request(m, func(ctx context.Context, n *node) {
		a := n.groups.Commit(ctx, membersGroup, e)
		err = errors.Join(append(a.Partitions, a.Err)...)
	}, func() {
		w.log("%d %s, as it was %q, commits %v: %v", w.step, m.name, e.Member.ID, offsets, err)
		switch {
		case err == nil:
			w.broken("%s: a commit of %q is taken, whose place %q has", m.name, e.Member.ID, m.id)
		case errors.Is(err, group.ErrFencedInstance):
			w.saw("former process refused")
		}
	})
}

// offsetsOf gives them in order.
func offsetsOf(offsets map[int32]model.Offset) (all []group.OffsetSet) {
	for _, p := range slices.Sorted(maps.Keys(offsets)) {
		all = append(all, group.OffsetSet{
			TopicPartition: group.TopicPartition{Topic: eventsTopic, Partition: p},
			Offset:         group.Offset{Offset: offsets[p], Epoch: -1, Committed: time.Now().UnixMilli()},
		})
	}
	return all
}

// commitAs tells whether the commit was sent.
func (w *World) commitAs(m *member, generation int32, offsets map[int32]model.Offset) bool {
	known := &w.load.members.known
	newest := known.newest
	e := group.Commit{Member: m.who(), Generation: generation, Offsets: offsetsOf(offsets)}
	if w.load.members.borrowing {
		e.Generation = m.generation
	}
	var err error
	asked := w.request(m, func(ctx context.Context, n *node) {
		a := n.groups.Commit(ctx, membersGroup, e)
		err = errors.Join(append(a.Partitions, a.Err)...)
	}, func() {
		w.log("%d %s commits %v in generation %d: %v", w.step, m.name, offsets, generation, err)
		switch {
		case err == nil:
			if f := known.committed(generation, newest, offsets); f != "" {
				w.broken("%s: %s", m.name, f)
			}
			w.saw("member committed")
		case generation != m.generation && errors.Is(err, group.ErrIllegalGeneration): // it was not the member's own word
			w.saw("old generation refused")
		default:
			w.refused(m, "commit", err)
		}
	})
	if asked {
		for p, at := range offsets {
			known.sent[p] = max(known.sent[p], at)
		}
	}
	return asked
}

func (w *World) beat(m *member) {
	e := group.Heartbeat{Member: m.who(), Generation: m.generation}
	var err error
	w.request(m, func(ctx context.Context, n *node) { err = n.groups.Heartbeat(ctx, membersGroup, e) }, func() {
		w.log("%d %s beats in generation %d: %v", w.step, m.name, m.generation, err)
		w.refused(m, "heartbeat", err)
	})
}

func (w *World) leave(m *member) {
	var a group.LeaveAnswer
	asked := w.request(m, func(ctx context.Context, n *node) {
		a = n.groups.Leave(ctx, membersGroup, []group.Member{m.who()})
	}, func() {
		w.log("%d %s leaves: %v %v", w.step, m.name, a.Members, a.Err)
		if a.Err == nil && len(a.Members) == 1 {
			a.Err = a.Members[0]
		}
		if a.Err != nil {
			w.refused(m, "leave", a.Err)
			return
		}
		m.forget(true)
		w.saw("left")
	})
	if asked { // whatever it hears, it has nothing to say of its partitions any more
		m.owns, m.next = nil, nil
	}
}

// unsettled says why the group is not at rest: all members are to be in one generation,
// and to own every partition once.
func (g *membership) unsettled() string {
	var why []string
	owners := map[int32]int{}
	for _, m := range g.members {
		if !m.synced || m.next == nil || m.busy || m.generation != g.known.newest {
			why = append(why, fmt.Sprintf("%s is in generation %d of %d, synced %v", m.name, m.generation, g.known.newest, m.synced))
		}
		for _, p := range m.owns {
			owners[p]++
		}
	}
	for p := range int32(sharedPartitions) {
		if owners[p] != 1 {
			why = append(why, fmt.Sprintf("partition %d has %d owners", p, owners[p]))
		}
	}
	return strings.Join(why, ", ")
}
