package server

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

// renewWait bounds one command that asks for another replica.
const renewWait = 5 * time.Second

// renew has a replica begin anew that cannot be started for what its disk has lost, if
// others hold the partition and one of them leads it. It is asked for again, with the start,
// until the metadata names another.
func (r *replicas) renew(s *start) {
	if !errors.Is(s.err, raft.ErrLogDamaged) && !errors.Is(s.err, raft.ErrMachineBehind) && !errors.Is(s.err, partition.ErrCorrupt) {
		return
	}
	if leader, _ := r.cluster.Leader(s.id); leader == model.NoNode || leader == r.node {
		return
	}
	if seat, ok := s.place.Seat(r.node); !ok || seat.Birth != s.birth {
		return // it is under way
	}
	r.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, renewWait)
		defer cancel()
		if err := r.cluster.RenewReplica(ctx, s.id, r.node, s.birth); err != nil {
			r.log.Warn("no other replica for a damaged one", "topic", s.topic.Name, "partition", s.id.Index, "err", err)
			return
		}
		r.log.Info("damaged replica begins anew", "topic", s.topic.Name, "partition", s.id.Index)
	})
}
