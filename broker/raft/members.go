package raft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// Member is a replica of a shard's group.
type Member struct {
	Node  model.NodeID `json:"node"`
	Birth model.Birth  `json:"birth,omitempty"`
}

// Members are all replicas of a group, each list in order of id.
type Members struct {
	// Change is the log's index of what made them so. A further change names it: one that
	// was asked for of other members is refused.
	Change uint64   `json:"change"`
	Voters []Member `json:"voters"`
	// Learners get the log and do not count.
	Learners []Member `json:"learners,omitempty"`
}

// ErrMembersChanged says that a change of members was asked of other members than there
// are, or cannot be made of them; they are as they were. Ask who they are, and again.
var ErrMembersChanged = errors.New("members of the group are others")

// membersTimeout bounds one change, and one question, whose asker has no deadline.
const membersTimeout = 10 * time.Second

// Members tells who is in the group of a shard, proven by a majority.
func (h *Host) Members(ctx context.Context, shard model.ShardID) (Members, error) {
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	n, err := h.of(shard)
	var found *dragonboat.Membership
	if err == nil {
		found, err = n.SyncGetShardMembership(ctx, uint64(shard))
	}
	if err != nil {
		return Members{}, fmt.Errorf("members of shard %d: %w", shard, refused(err))
	}
	return Members{Change: found.ConfigChangeID, Voters: memberList(found.Nodes), Learners: memberList(found.NonVotings)}, nil
}

func memberList(targets map[uint64]string) []Member {
	ids := make([]uint64, 0, len(targets))
	for id := range targets {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	all := make([]Member, len(ids))
	for i, id := range ids {
		all[i] = Member{Node: replicaNode(id), Birth: replicaBirth(id)}
	}
	return all
}

// AddLearner makes a replica that its node is to start a learner. A node that has another
// replica in the group is refused.
func (h *Host) AddLearner(ctx context.Context, shard model.ShardID, m Member, change uint64) error {
	return h.changeMembers(ctx, shard, func(n *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return n.RequestAddNonVoting(uint64(shard), m.id(), target(m.Node), change, timeout)
	})
}

// Promote makes a learner a voter.
func (h *Host) Promote(ctx context.Context, shard model.ShardID, m Member, change uint64) error {
	return h.changeMembers(ctx, shard, func(n *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return n.RequestAddReplica(uint64(shard), m.id(), target(m.Node), change, timeout)
	})
}

// RemoveMember takes a replica out of the group, for ever. The last voter is refused.
func (h *Host) RemoveMember(ctx context.Context, shard model.ShardID, m Member, change uint64) error {
	return h.changeMembers(ctx, shard, func(n *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return n.RequestDeleteReplica(uint64(shard), m.id(), change, timeout)
	})
}

// Nudge has this node's replica of a shard, its leader, send a learner what it lacks, that
// does not come on. A read index which was never confirmed, since whoever was to confirm it
// has left and nobody else has a vote, keeps the library from asking learners for ever; and
// after a message that is lost it sends one nothing more before it has answered. It does
// nothing else, and nothing to a group that is led from elsewhere.
func (h *Host) Nudge(shard model.ShardID, learner Member) {
	l, ok := h.Leader(shard)
	if !ok || l.Leader != h.node {
		return
	}
	h.deliver(shard, pb.Message{Type: pb.HeartbeatResp, From: learner.id(), Term: uint64(l.Term)})
}

func (m Member) id() uint64 { return replicaID(m.Node, m.Birth) }

// changeMembers waits for the log's word. After ErrUnknown the change may come to be.
func (h *Host) changeMembers(ctx context.Context, shard model.ShardID, ask func(*dragonboat.NodeHost, time.Duration) (*dragonboat.RequestState, error)) error {
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	n, err := h.of(shard)
	var rs *dragonboat.RequestState
	if err == nil {
		deadline, _ := ctx.Deadline()
		rs, err = ask(n, max(time.Until(deadline), proposeTimeoutMin))
	}
	if err != nil {
		return fmt.Errorf("change the members of shard %d: %w", shard, refused(err))
	}
	select {
	case r := <-rs.ResultC():
		rs.Release()
		switch {
		case r.Completed():
			return nil
		case r.Rejected():
			err = ErrMembersChanged
		case r.Dropped():
			err = ErrDropped
		default:
			err = ErrUnknown
		}
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
	return fmt.Errorf("change the members of shard %d: %w", shard, err)
}
