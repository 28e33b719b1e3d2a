package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

// step does one thing. The group is asked before the metadata, which is then at least as
// new: a replica that is in, and that no move names any more, never comes again.
func (m *Mover) step(ctx context.Context, h *core.Handle) (more bool, err error) {
	group, err := m.o.Raft.Members(ctx, h.Shard)
	if err != nil {
		return false, err
	}
	if err := m.o.Raft.Barrier(ctx, raft.ControllerShard); err != nil {
		return false, err
	}
	p, ok := m.o.Cluster.Metadata().Partition(h.ID)
	if _, serving := h.Serving(); !ok || p.Move == nil || !serving {
		return false, nil
	}
	a := next(&p, group, m.o.Node)
	m.o.Log.Debug("partition is moved", "topic", h.Topic, "partition", h.ID.Index, "do", a.Do, "replica", a.Member)
	for _, l := range a.After {
		caught, err := m.caughtUp(ctx, h, l)
		if err != nil {
			return false, err
		}
		if !caught {
			m.because(h.ID, fmt.Sprintf("node %d is catching up", l.Node))
			m.o.Raft.Nudge(h.Shard, l)
			return true, nil
		}
	}
	switch a.Do {
	case DoAdd:
		return true, m.o.Raft.AddLearner(ctx, h.Shard, a.Member, group.Change)
	case DoPromote:
		return true, m.o.Raft.Promote(ctx, h.Shard, a.Member, group.Change)
	case DoForget:
		return true, m.o.Raft.RemoveMember(ctx, h.Shard, a.Member, group.Change)
	case DoRemove:
		return true, m.remove(ctx, h, group, a)
	case DoHandOver:
		return false, m.giveAway(ctx, h, &p, group)
	}
	if err := m.leave(ctx, h, &p); err != nil {
		return false, err
	}
	if err := m.settle(h); err != nil {
		return false, fmt.Errorf("settle the group: %w", err)
	}
	return true, m.o.Cluster.Moved(ctx, h.ID, p.Move.Revision)
}

// leave tells whether the partition may be left to those that it moves to: until they are
// the partition's, all that a node without them had can be had again from those of before.
func (m *Mover) leave(ctx context.Context, h *core.Handle, p *cluster.Partition) error {
	if p.Move.In {
		return nil
	}
	var heirs []raft.Member
	for _, s := range p.Move.Seats() {
		heirs = append(heirs, raft.Member(s))
	}
	if up := len(m.upToDate(ctx, h, heirs)); up <= len(heirs)/2 {
		return fmt.Errorf("leave it to nodes %v: %w: %d of %d", p.Move.Replicas, ErrTooFewUpToDate, up, len(heirs))
	}
	return nil
}

// settleWait bounds the write that settles a group.
const settleWait = 5 * time.Second

// settle writes once more to a group before the move is over, and those who have left it
// remove their replicas. That an entry is committed reaches a disk with the next entry
// only: whoever is left, and killed before that, comes back to a group of which he does
// not know that the others have left, and waits for their votes for ever.
func (m *Mover) settle(h *core.Handle) error {
	epoch, serving := h.Serving()
	if !serving {
		return core.ErrNotLeader
	}
	c := partition.Command{Kind: partition.KindLead, Epoch: epoch} // a repeated one does nothing
	p, err := m.o.Raft.Propose(h.Shard, c.Append(nil), settleWait)
	if err != nil {
		return err
	}
	return p.Failed()
}

// ErrTooFewUpToDate says that a replica stays since those that would be left are down, or
// far behind. Try again once they are not.
var ErrTooFewUpToDate = errors.New("too few of the other replicas are up and have caught up")

// remove takes one voter out, if a majority of those who are left, this node among them,
// has all that was written a moment ago.
func (m *Mover) remove(ctx context.Context, h *core.Handle, group raft.Members, a Action) error {
	gone, err := a.FirstOut(group.Voters, m.upToDate(ctx, h, group.Voters))
	if err != nil {
		return err
	}
	return m.o.Raft.RemoveMember(ctx, h.Shard, gone, group.Change)
}

// upToDate gives those of a group that have caught up, this node among them.
func (m *Mover) upToDate(ctx context.Context, h *core.Handle, voters []raft.Member) (up []raft.Member) {
	caught := make([]bool, len(voters))
	var wg sync.WaitGroup
	for i, v := range voters {
		if caught[i] = v.Node == m.o.Node; caught[i] {
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
func (m *Mover) giveAway(ctx context.Context, h *core.Handle, p *cluster.Partition, group raft.Members) error {
	up := m.upToDate(ctx, h, group.Voters)
	for i, node := range p.Replicas {
		to := raft.Member(p.Seats()[i])
		if node == m.o.Node || !slices.Contains(up, to) {
			continue
		}
		if err := m.o.Raft.Transfer(h.Shard, node); err != nil {
			return err
		}
		return fmt.Errorf("node %d is asked to lead", node)
	}
	return fmt.Errorf("hand over to another: %w", ErrTooFewUpToDate)
}
