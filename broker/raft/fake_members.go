package raft

import (
	"context"
	"fmt"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// Running is as of Host.
func (o *FakeNode) Running(shard model.ShardID) bool {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	return o.net.running(shard, o.id) != nil
}

// Members is as of Host.
func (o *FakeNode) Members(ctx context.Context, shard model.ShardID) (Members, error) {
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	if err := o.Barrier(ctx, shard); err != nil {
		return Members{}, fmt.Errorf("members of shard %d: %w", shard, err)
	}
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	r, err := o.run(shard)
	if err != nil {
		return Members{}, fmt.Errorf("members: %w", err)
	}
	return r.roster.members(), nil
}

// AddLearner is as of Host.
func (o *FakeNode) AddLearner(ctx context.Context, shard model.ShardID, m Member, change uint64) error {
	return o.changeMembers(ctx, shard, pb.ConfigChange{Type: pb.AddNonVoting, ReplicaID: m.id(), Address: target(m.Node), ConfigChangeId: change})
}

// Promote is as of Host.
func (o *FakeNode) Promote(ctx context.Context, shard model.ShardID, m Member, change uint64) error {
	return o.changeMembers(ctx, shard, pb.ConfigChange{Type: pb.AddNode, ReplicaID: m.id(), Address: target(m.Node), ConfigChangeId: change})
}

// RemoveMember is as of Host.
func (o *FakeNode) RemoveMember(ctx context.Context, shard model.ShardID, m Member, change uint64) error {
	return o.changeMembers(ctx, shard, pb.ConfigChange{Type: pb.RemoveNode, ReplicaID: m.id(), ConfigChangeId: change})
}

func (o *FakeNode) changeMembers(ctx context.Context, shard model.ShardID, cc pb.ConfigChange) error {
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	p := &fakeProposal{node: o, shard: shard, cmd: pb.MustMarshal(&cc), change: &cc, answer: make(chan verdict, 1)}
	err := o.put(p)
	if err == nil {
		select {
		case v := <-p.answer:
			err = v.err
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
		}
	}
	if err != nil {
		return fmt.Errorf("change the members of shard %d: %w", shard, err)
	}
	return nil
}

// Nudge is as of Host. A FakeNode's followers never wait to be asked.
func (o *FakeNode) Nudge(model.ShardID, Member) {}

// Transfer is as of Host.
func (o *FakeNode) Transfer(shard model.ShardID, to model.NodeID) error {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	r, err := o.run(shard)
	if err != nil {
		return fmt.Errorf("transfer the leadership: %w", err)
	}
	if r.leader.Leader == o.id && to != o.id {
		r.transfer = to
	}
	return nil
}
