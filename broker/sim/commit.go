package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// commits is one committed offset, as a register that clients write and read: what is
// read was written by somebody, and nobody has overwritten it since. Owned by the driver.
type commits struct {
	writes []*commit
	last   model.Offset
}

// commit is a write; times are steps.
type commit struct {
	value       model.Offset
	began, done int // done 0: its outcome is not known
}

const groupName = "readers"

var committedPlace = group.TopicPartition{Topic: eventsTopic, Partition: 0}

// coordinate finds the node that coordinates the group, as one of the nodes knows it.
func (w *World) coordinate(f func(ctx context.Context, n *node)) *op {
	asked := w.pick()
	if asked == nil {
		return nil
	}
	t, ok := asked.cluster.Metadata().Topic(cluster.TopicOffsets)
	if !ok {
		return nil
	}
	leader, _ := asked.cluster.Leader(t.PartitionID(0))
	if leader == model.NoNode || w.nodes[leader] == nil {
		return nil
	}
	asked = w.nodes[leader]
	return w.async(asked, func() {
		ctx, cancel := context.WithTimeout(asked.ctx, patience)
		defer cancel()
		f(ctx, asked)
	})
}

// commit stores an offset that was never stored before.
func (w *World) commit() {
	if w.load.ended {
		return
	}
	c := &commit{value: w.load.commits.last + 1, began: w.step}
	err := errors.New("not sent")
	o := w.coordinate(func(ctx context.Context, n *node) {
		a := n.groups.Commit(ctx, groupName, group.Commit{Generation: -1, Offsets: []group.OffsetSet{{
			TopicPartition: committedPlace, Offset: group.Offset{Offset: c.value, Epoch: -1, Committed: time.Now().UnixMilli()},
		}}})
		if err = a.Err; err == nil {
			err = a.Partitions[0]
		}
	})
	if o == nil {
		return
	}
	w.load.commits.last++
	w.load.commits.writes = append(w.load.commits.writes, c)
	o.done = func() {
		w.log("%d commit of %d: %v", w.step, c.value, err)
		if err == nil {
			c.done = w.step
			w.saw("committed")
		}
	}
}

// committed reads the offset.
func (w *World) committed() {
	began := w.step
	var found []group.OffsetSet
	err := errors.New("not sent")
	o := w.coordinate(func(ctx context.Context, n *node) {
		found, err = n.groups.Fetch(ctx, groupName, coordinator.FetchAsk{Partitions: []group.TopicPartition{committedPlace}})
	})
	if o == nil {
		return
	}
	o.done = func() {
		w.log("%d committed is %v, %v", w.step, found, err)
		if err != nil {
			return
		}
		w.saw("commit read")
		value := model.Offset(0)
		if len(found) > 0 {
			value = found[0].Offset.Offset
		}
		if why := w.load.commits.wrong(value, began); why != "" {
			w.broken("the committed offset reads %d: %s", value, why)
		}
	}
}

// wrong says why a read that began at a step cannot have found value; 0 is none.
func (c *commits) wrong(value model.Offset, began int) string {
	at := slices.IndexFunc(c.writes, func(x *commit) bool { return x.value == value })
	if value != 0 && at < 0 {
		return "nobody has committed that"
	}
	for _, later := range c.writes {
		if later.done == 0 || later.done >= began {
			continue
		}
		// later was over before the read began: what was over before later began is gone.
		if value == 0 || c.writes[at].done != 0 && c.writes[at].done < later.began {
			return fmt.Sprintf("%d was committed after it, at step %d", later.value, later.done)
		}
	}
	return ""
}
