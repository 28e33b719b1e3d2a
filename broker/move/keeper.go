package move

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	// keepEvery is how often the node that leads the controller's group looks whether it is
	// what it should be, and keepWait bounds what it does about it.
	keepEvery, keepWait = time.Second, 10 * time.Second
	// knowsWait bounds the question to one node what it knows.
	knowsWait = 2 * time.Second
)

// KeeperOptions is what a Keeper needs. All of it is required.
type KeeperOptions struct {
	Node    model.NodeID
	Cluster *cluster.Cluster
	Raft    interface {
		Group
		Leader(shard model.ShardID) (raft.LeaderChange, bool)
	}
	// Applied asks the node of a replica of the controller's group how new the metadata is
	// that it has: its version.
	Applied func(ctx context.Context, shard model.ShardID, of raft.Member) (uint64, error)
	// Settle writes once more to the controller's log: see Mover.settle.
	Settle func(ctx context.Context) error
	Log    *slog.Logger
}

// Keeper makes the controller's group what the metadata says of nodes: a node that joined
// learns and, where votes are few, is given one; a replica whose disk is gone, or whose
// node was removed, is taken out. Nodes that are decommissioned and empty are removed.
type Keeper struct{ o KeeperOptions }

// NewKeeper gives one that is still.
func NewKeeper(o KeeperOptions) *Keeper { return &Keeper{o} }

// Run keeps the group, while this node leads it, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l, ok := k.o.Raft.Leader(raft.ControllerShard); !ok || l.Leader != k.o.Node {
			continue
		}
		try, cancel := context.WithTimeout(ctx, keepWait)
		err := k.step(try)
		cancel()
		now := ""
		if err != nil && ctx.Err() == nil {
			now = err.Error()
		}
		if now != "" && now != said {
			k.o.Log.Warn("the controller's group waits", "why", err)
		}
		said = now
	}
}

// step does one thing. The members are asked before the metadata, which is then at
// least as new.
func (k *Keeper) step(ctx context.Context) error {
	group, err := k.o.Raft.Members(ctx, raft.ControllerShard)
	if err != nil {
		return err
	}
	m := k.o.Cluster.Metadata()
	for _, n := range m.Nodes {
		if n.State == controller.NodeDecommissioning && !holdsAny(m, n.ID) {
			k.o.Log.Info("node is empty and leaves the cluster", "node", n.ID)
			return k.o.Cluster.RemoveNode(ctx, n.ID)
		}
	}
	a := NextQuorum(m.Nodes, group, k.o.Node)
	if a.Do != DoNothing {
		k.o.Log.Info("the controller's group changes", "do", a.Do, "replica", a.Member)
	}
	switch a.Do {
	case DoAdd:
		return k.o.Raft.AddLearner(ctx, raft.ControllerShard, a.Member, group.Change)
	case DoForget:
		return k.takeOut(ctx, group, a.Member)
	case DoPromote:
		for _, l := range a.After {
			if k.knows(ctx, l) {
				return k.o.Raft.Promote(ctx, raft.ControllerShard, l, group.Change)
			}
			k.o.Raft.Nudge(raft.ControllerShard, l)
		}
		return nil // they come, or come back
	case DoRemove:
		return k.removeVoter(ctx, group, a)
	case DoHandOver:
		for _, v := range group.Voters {
			if v.Node != k.o.Node && k.knows(ctx, v) {
				return k.o.Raft.Transfer(raft.ControllerShard, v.Node)
			}
		}
		return fmt.Errorf("hand over the controller: %w", ErrTooFewUpToDate)
	}
	return nil
}

// holdsAny tells whether a node holds a partition, or is about to.
func holdsAny(m *cluster.Metadata, node model.NodeID) bool {
	for _, t := range m.Topics() {
		for i := range t.Partitions {
			if slices.Contains(t.Partitions[i].Holders(), node) {
				return true
			}
		}
	}
	return false
}

// removeVoter takes one out of the controller's group if a majority of those who are left
// has what this node knows.
func (k *Keeper) removeVoter(ctx context.Context, group raft.Members, a Action) error {
	var up []raft.Member
	for _, v := range group.Voters {
		if v.Node == k.o.Node || k.knows(ctx, v) {
			up = append(up, v)
		}
	}
	gone, err := a.FirstOut(group.Voters, up)
	if err != nil {
		return err
	}
	return k.takeOut(ctx, group, gone)
}

// takeOut also writes once more, so that what was committed is on the disks of those who
// are left.
func (k *Keeper) takeOut(ctx context.Context, group raft.Members, gone raft.Member) error {
	if err := k.o.Raft.RemoveMember(ctx, raft.ControllerShard, gone, group.Change); err != nil {
		return err
	}
	return k.o.Settle(ctx)
}

// knows tells whether a replica of the controller's group has all that this node had of
// it when it was asked.
func (k *Keeper) knows(ctx context.Context, of raft.Member) bool {
	ctx, cancel := context.WithTimeout(ctx, knowsWait)
	defer cancel()
	goal := k.o.Cluster.Metadata().Version
	version, err := k.o.Applied(ctx, raft.ControllerShard, of)
	if err != nil {
		k.o.Log.Debug("replica of the controller not asked", "node", of.Node, "err", err)
	}
	return err == nil && version >= goal
}
