package sim

import (
	"cmp"
	"slices"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
)

// pick draws one of the nodes that are up, nil if there is none.
func (w *World) pick() *node {
	var up []*node
	for _, n := range w.nodes {
		if n != nil {
			up = append(up, n)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[w.dice.IntN(len(up))]
}

// fault lets something go wrong that is not Raft's, or ends it. More than one node may
// be away at a time, and then nothing goes on for a while.
func (w *World) fault() {
	id := model.NodeID(w.dice.IntN(nodesMax))
	n := w.nodes[id]
	switch k := w.dice.IntN(12); {
	case n == nil && k < 6:
		w.start(id)
	case n == nil && k < 9:
		w.rob(id)
	case n == nil:
	case k < 2:
		w.log("%d node %d crashes", w.step, id)
		w.crash(id)
	case k < 4: // its power fails in the middle of a flush
		at := 1 + w.dice.IntN(12)
		w.log("%d the disk of node %d dies %d changes from now", w.step, id, at)
		n.fs.StopAt(at)
		w.flush()
	case k < 6:
		if w.away == id || w.away != model.NoNode {
			id = model.NoNode
		}
		w.cutOff(id)
	case k < 8:
		down := !w.load.script.down.Load()
		w.log("%d sidecars down: %v", w.step, down)
		w.load.script.down.Store(down)
		w.saw("sidecar")
	case k < 10:
		w.topicOp()
	}
}

// cutOff keeps one node from reaching the others, and lets the one before.
func (w *World) cutOff(id model.NodeID) {
	if w.away != model.NoNode {
		w.net.Cut(w.away, false)
	}
	if id != model.NoNode {
		w.net.Cut(id, true)
		w.saw("cut")
	}
	w.away = id
	w.log("%d node %d is cut off", w.step, id)
}

// flush has a partition written and synced, and Raft's log of it forgotten.
func (w *World) flush() {
	n := w.pick()
	if n == nil {
		return
	}
	var all []*core.Handle
	n.cores.Handles(func(h *core.Handle) bool { all = append(all, h); return true })
	if len(all) == 0 {
		return
	}
	sortHandles(all)
	if w.dice.IntN(8) == 0 {
		w.log("%d node %d snapshots the controller", w.step, n.id)
		w.async(n, func() { _ = n.raft.Snapshot(n.ctx, 1, 0) }) // it may be stopped before
		return
	}
	h := all[w.dice.IntN(len(all))]
	w.log("%d node %d flushes %s-%d", w.step, n.id, h.Topic, h.ID.Index)
	n.cores.Release(h.Shard)
	w.saw("flush")
}

func sortHandles(all []*core.Handle) {
	slices.SortFunc(all, func(a, b *core.Handle) int {
		return cmp.Compare(a.Shard, b.Shard)
	})
}
