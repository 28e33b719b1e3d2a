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
		c.proposeOwn(r, partition.Command{Kind: partition.KindTrim, LogStart: to})
	}
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

var _ = model.NoEpoch
