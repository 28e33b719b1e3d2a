package core

import (
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// PartitionConfig is what a partition needs of its topic's settings.
func PartitionConfig(t *config.Topic) partition.Config {
	return partition.Config{
		SegmentBytesMax: t.SegmentBytes, SegmentAgeMax: t.SegmentTime,
		RetentionTime: t.RetentionTime, RetentionBytes: t.RetentionBytes,
		Compact: t.Compact, Delete: t.Delete,
		IndexIntervalBytes: t.IndexIntervalBytes,
		DeleteRetention:    t.DeleteRetention,
		CompactionLagMin:   t.CompactionLagMin, CompactionLagMax: t.CompactionLagMax,
		MinCleanableRatio: t.MinCleanableRatio,
	}
}

// dueTimeout bounds a proposal of the leader's own making; the next look repeats
// what was lost.
const dueTimeout = 10 * time.Second

// proposeDue puts what the clock has decided into the log: on this leader alone,
// so that apply stays a function of the log.
func (c *Core) proposeDue(r *replica, now time.Time) {
	if to, due := r.part.RetentionTarget(now); due {
		if to = c.held(r, to); to > r.part.LogStart() {
			c.proposeOwn(r, partition.Command{Kind: partition.KindTrim, LogStart: to})
		}
	}
	if to, due := r.part.HorizonTarget(now); due {
		c.proposeOwn(r, partition.Command{Kind: partition.KindHorizon, Horizon: to})
	}
	if expiry := c.set.o.ProducerExpiry(); expiry > 0 {
		if idle := r.idle.due(r.part.ExpiredProducers(now.Add(-expiry).UnixMilli()), now, expiry); len(idle) > 0 {
			c.proposeOwn(r, partition.Command{Kind: partition.KindExpire, Expired: idle})
		}
	}
}

// held lowers a retention target to what scripts have taken, where the topic
// asks for it.
func (c *Core) held(r *replica, to model.Offset) model.Offset {
	t := r.h.Config()
	if t == nil || !t.RetainForScripts || c.set.o.Taken == nil {
		return to
	}
	if taken, bound := c.set.o.Taken(r.h.ID); bound {
		return min(to, taken)
	}
	return to
}

func (c *Core) proposeOwn(r *replica, cmd partition.Command) {
	cmd.Epoch = r.epoch
	bytes, h, log := cmd.Append(nil), r.h, c.set.o.Raft
	go func() {
		failed, err := log.Propose(h.Shard, bytes, dueTimeout)
		if err == nil {
			err = failed()
		}
		if err != nil {
			c.set.o.Log.Debug("housekeeping proposal lost", "topic", h.Topic, "partition", h.ID.Index, "err", err)
		}
	}()
}
