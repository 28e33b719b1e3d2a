package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

// robbed is a replica whose files are gone. One at a time: of three replicas two must have
// what was acknowledged.
type robbed struct {
	node model.NodeID
	id   model.PartitionID
}

// rob takes the files of one partition from the disk of a node that is down.
func (w *World) rob(id model.NodeID) {
	n := w.pick()
	if n == nil || w.robbed != nil || w.alone || !w.load.made || !n.entered.Load() || !w.net.Whole(raft.ControllerShard, nodesMax) {
		return
	}
	var all []robbed
	for _, t := range n.cluster.Metadata().Topics() {
		for _, p := range t.Partitions {
			if w.net.Whole(p.Shard, nodesMax) && len(p.Removing()) == 0 {
				all = append(all, robbed{id, t.PartitionID(p.Index)})
			}
		}
	}
	if len(all) == 0 {
		return
	}
	r := all[w.dice.IntN(len(all))]
	if names := w.disks[id].Files(dirOf(r.id)); len(names) == 0 {
		return
	}
	err := partition.Destroy(w.disks[id], dirOf(r.id))
	must(err == nil, "remove the files of a node that is down: %v", err)
	w.robbed = &r
	w.log("%d node %d loses the files of %s", w.step, id, r.id)
	w.saw("files lost")
}

// renewAgain is the pause before a replica is opened again that could not be.
const renewAgain = 100 * time.Millisecond

// renew has a replica begin anew whose disk has lost what it needs, as server does.
func (w *World) renew(n *node, id model.PartitionID, p *cluster.Partition, birth model.Birth, why error) {
	n.failed[id] = time.Now()
	leader, _ := n.cluster.Leader(id)
	if seat, ok := p.Seat(n.id); leader == model.NoNode || leader == n.id || !ok || seat.Birth != birth {
		return
	}
	w.log("%d node %d asks for another replica of %s: %v", w.step, n.id, id, why)
	w.async(n, func() {
		ctx, cancel := context.WithTimeout(n.ctx, patience)
		defer cancel()
		_ = n.cluster.RenewReplica(ctx, id, n.id, birth) // it is asked for again with the next try
	})
	w.saw("replica renewed")
}

func (w *World) wasRobbed(n *node, id model.PartitionID, err error) bool {
	lost := []error{raft.ErrLogDamaged, raft.ErrMachineBehind, partition.ErrCorrupt}
	return w.robbed != nil && *w.robbed == robbed{n.id, id} && slices.ContainsFunc(lost, func(l error) bool { return errors.Is(err, l) })
}
