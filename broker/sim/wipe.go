package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/raft"
)

// identity is a node's, as its disk has it.
type identity struct {
	disks int // how many it has had: the newest is its disk's name
	birth model.Birth
	joins bool // it is new, and has yet to be taken in
}

// wipe takes the disk of a node that is down, if nothing else is lost: of three replicas
// two must have what was acknowledged, and stay; and a group that nobody has made yet
// cannot be made without one of its founders.
func (w *World) wipe(id model.NodeID) {
	if w.robbed != nil || w.alone || w.load.passing || w.load.unsure || !w.load.made {
		return
	}
	shards := w.net.Shards()
	for _, n := range w.nodes {
		if n == nil {
			continue
		}
		for _, t := range n.cluster.Metadata().Topics() {
			for _, p := range t.Partitions {
				if len(p.Removing()) > 0 {
					return
				}
				shards = append(shards, p.Shard)
			}
		}
	}
	for _, shard := range shards {
		if !w.net.Whole(shard, nodesMax) {
			return
		}
	}
	w.disks[id] = disk.NewCrashing()
	w.net.Wipe(id)
	w.identities[id] = identity{disks: w.identities[id].disks + 1, joins: true}
	w.log("%d node %d loses its disk", w.step, id)
	w.saw("disk lost")
}

// joining tells whether a node has lost its disk and is not back yet: of two founders of a
// group it may be one.
func (w *World) joining() bool {
	return slices.ContainsFunc(w.identities[:], func(i identity) bool { return i.joins })
}

// registration is what a node says of itself.
func (n *node) registration() cluster.Node {
	return cluster.Node{
		ID: n.id, Host: fmt.Sprint("node-", n.id), Port: 9092, RPC: fmt.Sprint("node-", n.id, ":33145"),
		Disk: fmt.Sprintf("%d-%d", n.id, n.w.identities[n.id].disks), Level: controller.LevelBuild,
	}
}

// settle registers the node, which is written to the controller's log.
func (n *node) settle(ctx context.Context) error {
	_, err := n.cluster.RegisterNode(ctx, n.registration(), "sim")
	return err
}

// join has another node take this one in, whose disk is new, as server does.
func (n *node) join() {
	for k := 1; n.ctx.Err() == nil; k++ {
		to := members[(int(n.id)+1+k%(nodesMax-1))%nodesMax]
		ctx, cancel := context.WithTimeout(n.ctx, patience)
		b, err := n.ask(ctx, to, "join", nil, func(at *node) ([]byte, error) {
			_, birth, err := at.cluster.Join(at.ctx, n.registration(), false)
			return binary.BigEndian.AppendUint32(nil, uint32(birth)), err
		})
		cancel()
		if err == nil {
			n.admitted <- model.Birth(binary.BigEndian.Uint32(b))
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-n.ctx.Done():
		}
	}
}

// admit has a node begin that was taken in.
func (w *World) admit(n *node) {
	if n.begun {
		return
	}
	select {
	case birth := <-n.admitted:
		w.identities[n.id].birth, w.identities[n.id].joins = birth, false
		w.log("%d node %d is taken in, birth %d", w.step, n.id, birth)
		w.begins(n)
		w.o.Still()
		w.saw("joined")
	default:
	}
}

func (n *node) newKeeper() *move.Keeper {
	return move.NewKeeper(move.KeeperOptions{Node: n.id, Cluster: n.cluster, Raft: n.raft, Applied: n.askApplied, Settle: n.settle, Log: quiet})
}

// answerKnown tells how new the metadata is.
func (n *node) answerKnown(birth model.Birth) ([]byte, error) {
	if have, held := n.raft.Birth(raft.ControllerShard); !held || have != birth {
		return nil, &raft.Refusal{Code: move.RefusedNoReplica, Text: fmt.Sprintf("node %d does not run replica %d of the controller's group", n.id, birth)}
	}
	return binary.BigEndian.AppendUint64(nil, n.cluster.Metadata().Version), nil
}
