package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

// catchUpLook is how often a replica is asked how far it is, and catchUpTurn how long
// before it is looked anew at what is to be done.
const catchUpLook, catchUpTurn = 50 * time.Millisecond, 2 * time.Second

// The codes of a raft.Refusal, of a node that is asked how far its replica is.
const (
	// RefusedStarting: it is starting, and will answer a little later.
	RefusedStarting = 2
	// RefusedNoReplica: it does not run the replica yet.
	RefusedNoReplica = 3
)

// AppliedBy gives the raft index that a partition here has applied.
func AppliedBy(ctx context.Context, h *core.Handle) (applied uint64, err error) {
	err = h.Query(ctx, func(p *partition.Partition) { applied = p.Applied() })
	return applied, err
}

// caughtUp tells whether a replica comes to have what this node has now within a turn. An
// error says that its node does not answer, or does not run it.
func (m *Mover) caughtUp(ctx context.Context, h *core.Handle, of raft.Member) (bool, error) {
	goal, err := AppliedBy(ctx, h)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTurn)
	defer cancel()
	tick := time.NewTicker(catchUpLook)
	defer tick.Stop()
	for answered := false; ; {
		applied, err := m.o.Applied(ctx, h.Shard, of)
		switch {
		case err == nil && applied >= goal:
			return true, nil
		case err != nil && ctx.Err() == nil && !isStarting(err):
			return false, fmt.Errorf("node %d does not answer: %w", of.Node, err)
		}
		answered = answered || err == nil
		if ctx.Err() == nil { // else a tick has come too while it was asked, and a select would draw
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
			}
		}
		if !answered {
			return false, fmt.Errorf("node %d does not run its replica yet: %w", of.Node, err)
		}
		return false, nil
	}
}

// isStarting tells whether a node will run its replica a little later.
func isStarting(err error) bool {
	r := (*raft.Refusal)(nil)
	return errors.As(err, &r) && (r.Code == RefusedNoReplica || r.Code == RefusedStarting)
}
