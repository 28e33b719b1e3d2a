package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	// movesAtOnce is how many partitions that a node serves are under way at a time: what
	// they hold goes over its network and from its disk.
	movesAtOnce = 4
	// moveAgain is the pause before a partition is tried again that could not go on.
	moveAgain = time.Second
	// moveLook is how often it is looked for moves that nobody told of.
	moveLook = time.Second
	// catchUpLook is how often a replica is asked how far it is, and catchUpTurn how long
	// before it is looked anew at what is to be done.
	catchUpLook, catchUpTurn = 50 * time.Millisecond, 2 * time.Second
)

// mover changes who is in the groups of the partitions that this node serves, to what
// the controller's moves want. It remembers nothing that matters: what is to be done
// follows from the move and the group, so that any leader goes on where another was.
type mover struct {
	node    model.NodeID
	cluster *cluster.Cluster
	raft    *raft.Host
	log     *slog.Logger
	ledHere func(func(*core.Handle, cluster.Partition) bool)
	spawn   func(func(context.Context))
	// busy, tried and ended are owned by run. Those that are tried ended without an end.
	busy  map[model.PartitionID]bool
	tried map[model.PartitionID]time.Time
	ended chan ended
	// reasons say why moves wait. mu guards them.
	mu      sync.Mutex
	reasons map[model.PartitionID]string
}

type ended struct {
	id  model.PartitionID
	err error
}

func newMover(s *Server) *mover {
	return &mover{
		node: s.n.ID, cluster: s.cluster, raft: s.raft, log: s.log, ledHere: s.ledHere, spawn: s.run,
		busy: map[model.PartitionID]bool{}, tried: map[model.PartitionID]time.Time{}, ended: make(chan ended, movesAtOnce),
		reasons: map[model.PartitionID]string{},
	}
}

func (m *mover) run(ctx context.Context) {
	changed, cancel := m.cluster.Watch()
	defer cancel()
	look := time.NewTicker(moveLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-m.ended:
			delete(m.busy, e.id)
			if e.err != nil {
				m.tried[e.id] = time.Now()
			}
		case <-changed:
		case <-look.C:
		}
		m.begin(time.Now())
	}
}

// candidate is a partition that is to be moved.
type candidate struct {
	h        *core.Handle
	tried    time.Time
	revision uint64
}

// begin takes up what is to be moved, those first that have waited longest.
func (m *mover) begin(now time.Time) {
	var all []candidate
	known := map[model.PartitionID]bool{}
	m.ledHere(func(h *core.Handle, p cluster.Partition) bool {
		if p.Move == nil {
			return true
		}
		known[h.ID] = true
		tried := m.tried[h.ID]
		if !m.busy[h.ID] && now.Sub(tried) >= moveAgain {
			all = append(all, candidate{h, tried, p.Move.Revision})
		}
		return true
	})
	for id := range m.tried {
		if !known[id] {
			delete(m.tried, id)
			m.because(id, "")
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if c := a.tried.Compare(b.tried); c != 0 {
			return c
		}
		return int(int64(a.revision) - int64(b.revision))
	})
	for _, c := range all {
		if len(m.busy) == movesAtOnce {
			return
		}
		m.busy[c.h.ID] = true
		m.spawn(func(ctx context.Context) {
			err := m.move(ctx, c.h)
			select {
			case m.ended <- ended{c.h.ID, err}:
			case <-ctx.Done():
			}
		})
	}
}

// because notes why a partition waits, and tells whether that is news.
func (m *mover) because(id model.PartitionID, reason string) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.reasons[id]
	if reason == "" {
		delete(m.reasons, id)
	} else {
		m.reasons[id] = reason
	}
	return old != reason
}

// move takes step after step until the move is over, or not this node's any more.
func (m *mover) move(ctx context.Context, h *core.Handle) error {
	for {
		more, err := m.step(ctx, h)
		if err != nil && ctx.Err() == nil {
			if m.because(h.ID, err.Error()) {
				m.log.Info("partition waits to be moved", "topic", h.Topic, "partition", h.ID.Index, "why", err)
			}
			return err
		}
		if !more || ctx.Err() != nil {
			m.because(h.ID, "")
			return ctx.Err()
		}
	}
}

// step does one thing. The group is asked before the metadata, which is then at least as
// new: a replica that is in, and that no move names any more, never comes again.
func (m *mover) step(ctx context.Context, h *core.Handle) (more bool, err error) {
	group, err := m.raft.Members(ctx, h.Shard)
	if err != nil {
		return false, err
	}
	if err := m.raft.Barrier(ctx, raft.ControllerShard); err != nil {
		return false, err
	}
	p, ok := m.cluster.Metadata().Partition(h.ID)
	if _, serving := h.Serving(); !ok || p.Move == nil || !serving {
		return false, nil
	}
	a := next(&p, group, m.node)
	m.log.Debug("partition is moved", "topic", h.Topic, "partition", h.ID.Index, "do", a.do, "replica", a.member)
	for _, l := range a.after {
		caught, err := m.caughtUp(ctx, h, l)
		if err != nil {
			return false, err
		}
		if !caught {
			m.because(h.ID, fmt.Sprintf("node %d is catching up", l.Node))
			return true, nil
		}
	}
	switch a.do {
	case doAdd:
		return true, m.raft.AddLearner(ctx, h.Shard, a.member, group.Change)
	case doPromote:
		return true, m.raft.Promote(ctx, h.Shard, a.member, group.Change)
	case doForget:
		return true, m.raft.RemoveMember(ctx, h.Shard, a.member, group.Change)
	case doRemove:
		return true, m.remove(ctx, h, group, a.member)
	case doHandOver:
		return false, m.giveAway(ctx, h, &p, group)
	}
	if err := m.settle(h); err != nil {
		return false, fmt.Errorf("settle the group: %w", err)
	}
	return true, m.cluster.Moved(ctx, h.ID, p.Move.Revision)
}

// settleWait bounds the write that settles a group.
const settleWait = 5 * time.Second

// settle writes once more to a group before the move is over, and those who have left it
// remove their replicas. That an entry is committed reaches a disk with the next entry
// only: whoever is left, and killed before that, comes back to a group of which he does
// not know that the others have left, and waits for their votes for ever.
func (m *mover) settle(h *core.Handle) error {
	epoch, serving := h.Serving()
	if !serving {
		return core.ErrNotLeader
	}
	c := partition.Command{Kind: partition.KindLead, Epoch: epoch} // a repeated one does nothing
	p, err := m.raft.Propose(h.Shard, c.Append(nil), settleWait)
	if err != nil {
		return err
	}
	return p.Failed()
}

// The things that a step does.
const (
	doForget   = "remove a learner"
	doRemove   = "remove a voter"
	doHandOver = "hand over"
	doAdd      = "add a learner"
	doPromote  = "promote"
	doMoved    = "tell that it has moved"
)

// action is one thing, of one replica, to be done when those of after have caught up.
type action struct {
	do     string
	member raft.Member
	after  []raft.Member
}

// next says what is to be done for a move, given who is in the group. Whoever is in and
// not named goes first: a node has one replica in the group. Learners come one at a
// time, and none votes before all have caught up, so that the group is as short as can
// be of a size that stands fewer losses.
func next(p *cluster.Partition, group raft.Members, self model.NodeID) action {
	named := map[raft.Member]bool{}
	for _, s := range p.Seats() {
		named[raft.Member(s)] = true
	}
	for _, l := range group.Learners {
		if !named[l] {
			return action{do: doForget, member: l}
		}
	}
	leaving := slices.DeleteFunc(slices.Clone(group.Voters), func(v raft.Member) bool { return named[v] })
	for _, v := range leaving {
		if v.Node != self {
			return action{do: doRemove, member: v}
		}
	}
	if len(leaving) > 0 {
		return action{do: doHandOver, member: leaving[0]}
	}
	var learners []raft.Member
	for _, s := range p.Move.Seats() {
		switch seat := raft.Member(s); {
		case slices.Contains(group.Voters, seat):
		case slices.Contains(group.Learners, seat):
			learners = append(learners, seat)
		default:
			return action{do: doAdd, member: seat, after: learners}
		}
	}
	if len(learners) > 0 {
		return action{do: doPromote, member: learners[0], after: learners}
	}
	return action{do: doMoved}
}

// errTooFewUpToDate says that a replica stays since those that would be left are down, or
// far behind.
var errTooFewUpToDate = errors.New("too few of the other replicas are up and have caught up")

// remove takes a voter out, if a majority of those who are left, this node among them,
// has all that was written a moment ago.
func (m *mover) remove(ctx context.Context, h *core.Handle, group raft.Members, gone raft.Member) error {
	rest := slices.DeleteFunc(slices.Clone(group.Voters), func(v raft.Member) bool { return v == gone })
	up := m.upToDate(ctx, h, rest)
	if len(up) <= len(rest)/2 {
		return fmt.Errorf("remove the replica of node %d: %w: %d of %d", gone.Node, errTooFewUpToDate, len(up), len(rest))
	}
	return m.raft.RemoveMember(ctx, h.Shard, gone, group.Change)
}

// upToDate gives those of a group that have caught up, this node among them.
func (m *mover) upToDate(ctx context.Context, h *core.Handle, voters []raft.Member) (up []raft.Member) {
	caught := make([]bool, len(voters))
	var wg sync.WaitGroup
	for i, v := range voters {
		if caught[i] = v.Node == m.node; caught[i] {
			continue
		}
		wg.Go(func() {
			ok, err := m.caughtUp(ctx, h, v)
			caught[i] = ok && err == nil
		})
	}
	wg.Wait()
	for i, v := range voters {
		if caught[i] {
			up = append(up, v)
		}
	}
	return up
}

// giveAway has another replica lead, since this node's is to go.
func (m *mover) giveAway(ctx context.Context, h *core.Handle, p *cluster.Partition, group raft.Members) error {
	up := m.upToDate(ctx, h, group.Voters)
	for i, node := range p.Replicas {
		to := raft.Member(p.Seats()[i])
		if node == m.node || !slices.Contains(up, to) {
			continue
		}
		if err := m.raft.Transfer(h.Shard, node); err != nil {
			return err
		}
		return fmt.Errorf("node %d is asked to lead", node)
	}
	return fmt.Errorf("hand over to another: %w", errTooFewUpToDate)
}

// caughtUp tells whether a replica comes to have what this node has now within a turn. An
// error says that its node does not answer, or does not run it.
func (m *mover) caughtUp(ctx context.Context, h *core.Handle, of raft.Member) (bool, error) {
	goal, err := appliedBy(ctx, h)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTurn)
	defer cancel()
	tick := time.NewTicker(catchUpLook)
	defer tick.Stop()
	for answered := false; ; {
		applied, err := askApplied(ctx, m.raft, h.Shard, of)
		switch {
		case err == nil && applied >= goal:
			return true, nil
		case err != nil && ctx.Err() == nil && !isStarting(err):
			return false, fmt.Errorf("node %d does not answer: %w", of.Node, err)
		}
		answered = answered || err == nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			if !answered {
				return false, fmt.Errorf("node %d does not run its replica yet: %w", of.Node, err)
			}
			return false, nil
		}
	}
}

// isStarting tells whether a node will run its replica a little later.
func isStarting(err error) bool {
	r := (*raft.Refusal)(nil)
	return errors.As(err, &r) && (r.Code == refusedNoReplica || r.Code == refusedStarting)
}

func askApplied(ctx context.Context, host *raft.Host, shard model.ShardID, of raft.Member) (uint64, error) {
	body := binary.LittleEndian.AppendUint64(nil, uint64(shard))
	body = binary.LittleEndian.AppendUint32(body, uint32(of.Birth))
	b, err := host.Call(ctx, of.Node, raft.MethodApplied, body)
	if err != nil {
		return 0, err
	}
	if len(b) != appliedAnswer {
		return 0, fmt.Errorf("node %d answers %d bytes, not %d, for what it has applied", of.Node, len(b), appliedAnswer)
	}
	return binary.LittleEndian.Uint64(b), nil
}

// appliedBy gives the raft index that a partition here has applied.
func appliedBy(ctx context.Context, h *core.Handle) (applied uint64, err error) {
	err = h.Query(ctx, func(p *partition.Partition) { applied = p.Applied() })
	return applied, err
}
