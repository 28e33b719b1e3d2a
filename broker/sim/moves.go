package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

// newMover is server's.
func (n *node) newMover() *move.Mover {
	return move.New(move.Options{
		Node: n.id, Cluster: n.cluster, Raft: n.raft, Led: n.ledHere, Applied: n.askApplied, Log: quiet,
		Spawn: func(f func(context.Context)) { n.work.Go(func() { f(n.ctx) }) },
	})
}

func (n *node) ledHere(f func(*core.Handle, cluster.Partition) bool) {
	m := n.cluster.Metadata()
	n.cores.Handles(func(h *core.Handle) bool {
		p, ok := m.Partition(h.ID)
		if _, serving := h.Serving(); !ok || !serving {
			return true
		}
		return f(h, p)
	})
}

func (n *node) holders(shard model.ShardID) []model.NodeID {
	h, ok := n.cores.HandleByShard(shard)
	if !ok {
		return nil
	}
	p, _ := n.cluster.Metadata().Partition(h.ID)
	return p.Holders()
}

func (n *node) askApplied(ctx context.Context, shard model.ShardID, of raft.Member) (uint64, error) {
	order := binary.BigEndian.AppendUint64(nil, uint64(shard))
	b, err := n.ask(ctx, of.Node, "applied", order, func(at *node) ([]byte, error) { return at.answerApplied(shard, of.Birth) })
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

func (n *node) answerApplied(shard model.ShardID, birth model.Birth) ([]byte, error) {
	if shard == raft.ControllerShard {
		return n.answerKnown(birth)
	}
	if birth > 0 {
		n.seats.Hear(shard, birth)
	}
	h, ok := n.cores.HandleByShard(shard)
	if have, held := n.raft.Birth(shard); !ok || !held || have != birth {
		return nil, &raft.Refusal{Code: move.RefusedNoReplica, Text: fmt.Sprintf("node %d does not run replica %d of shard %d", n.id, birth, shard)}
	}
	applied, err := move.AppliedBy(n.ctx, h)
	return binary.BigEndian.AppendUint64(nil, applied), err
}

// makeWay removes what an older replica of a node has left, as server does.
func (n *node) makeWay(id model.PartitionID, of raft.Replica) error {
	have, held := n.raft.Birth(of.Shard)
	if held && have != of.Birth {
		if err := n.raft.Remove(of.Shard); err != nil {
			return err
		}
		held = false
	}
	if held || of.Birth == 0 {
		return nil
	}
	return partition.Destroy(n.fs, dirOf(id))
}

// clinging are ways of holding replicas that the judge must find.
type clinging struct {
	stays  bool // what is to go stays
	absent bool // what is to come does not
}

// againAfter is how long a replica stays as it is that has heard that it is out: server
// looks as seldom.
const againAfter = 5 * time.Second

// again ends a replica that has stopped by itself, so that it is opened once more: those
// who are left may wait for its vote.
func (w *World) again(n *node, h *core.Handle) {
	if n.raft.Running(h.Shard) || time.Since(n.opened[h.ID]) < againAfter {
		return
	}
	w.log("%d node %d begins again with %s-%d", w.step, n.id, h.Topic, h.ID.Index)
	if err := n.shut(h); err != nil && !n.fs.Stopped() {
		w.broken("node %d does not end %s-%d: %v", n.id, h.Topic, h.ID.Index, err)
	}
	w.saw("replica begun again")
}

// moveOp has a partition go to other nodes, two or all of them, or stay; in
// some of the seeds to one alone too.
func (w *World) moveOp() {
	n := w.pick()
	if n == nil || w.load.ended || !w.load.made || !n.entered.Load() {
		return
	}
	topics := n.cluster.Metadata().Topics()
	if len(topics) == 0 { // it has not heard yet
		return
	}
	t := topics[w.dice.IntN(len(topics))]
	p := t.Partitions[w.dice.IntN(len(t.Partitions))]
	ask := cluster.Reassignment{Partition: t.PartitionID(p.Index), Cancel: w.dice.IntN(5) == 0}
	if !ask.Cancel {
		nodes := slices.Clone(members)
		w.dice.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		ask.Replicas = nodes[:2+w.dice.IntN(2)]
		if w.o.Seed%4 == 0 && w.dice.IntN(4) == 0 {
			ask.Replicas, w.alone = nodes[:1], true
		}
	}
	var outcomes []error
	var err error
	w.async(n, func() {
		ctx, cancel := context.WithTimeout(n.ctx, patience)
		defer cancel()
		outcomes, err = n.cluster.Reassign(ctx, []cluster.Reassignment{ask})
	}).done = func() {
		w.log("%d %s-%d is to be on %v, cancelled %v: %v, %v", w.step, t.Name, p.Index, ask.Replicas, ask.Cancel, outcomes, err)
		if err == nil && outcomes[0] == nil {
			w.saw("move asked")
			if ask.Cancel {
				w.saw("move cancelled")
			}
		}
	}
}

// moving lists what a node has yet to do about moves, as it knows them.
func (w *World) moving(n *node) (all []error) {
	for _, t := range n.cluster.Metadata().Topics() {
		for _, p := range t.Partitions {
			if p.Move != nil {
				all = append(all, fmt.Errorf("node %d: %s-%d has not moved: %v, %+v, %v", n.id, t.Name, p.Index, p.Replicas, *p.Move, n.mover.Reasons()))
			}
			if _, holds := n.cores.Handle(t.PartitionID(p.Index)); holds != slices.Contains(p.Replicas, n.id) {
				all = append(all, fmt.Errorf("node %d has a replica of %s-%d: %v, which is on %v", n.id, t.Name, p.Index, holds, p.Replicas))
			}
		}
	}
	return all
}

// holder gives a node that is to hold a partition, as node 0 knows it, and its replica.
func (w *World) holder(id model.PartitionID) (*node, *core.Handle) {
	p, ok := w.nodes[0].cluster.Metadata().Partition(id)
	if !ok {
		return nil, nil
	}
	n := w.nodes[p.Replicas[0]]
	h, _ := n.cores.Handle(id)
	return n, h
}
