package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/peer"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/pull"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/pacemaker"
)

// node is one broker's rooms, wired as server does it. Owned by the driver.
type node struct {
	w        *World
	id       model.NodeID
	fs       *disk.Crashing
	raft     *raft.FakeNode
	cores    *core.Set
	cluster  *cluster.Cluster
	produce  *produce.Service
	fetch    *fetch.Service
	groups   *coordinator.Service
	verbs    *peer.Service
	giver    *pull.Giver
	taker    *pull.Taker
	pace     *pacemaker.Pacemaker
	seats    *move.Seats
	mover    *move.Mover
	keeper   *move.Keeper
	admitted chan model.Birth // of one whose disk was new: see join
	begun    bool
	revision map[model.PartitionID]uint64
	opened   map[model.PartitionID]time.Time
	failed   map[model.PartitionID]time.Time // to be opened, for what its disk has lost
	// entered: the metadata is not older than the node's start. Before that a partition
	// might be opened that is long gone.
	entered atomic.Bool

	ctx    context.Context // ends with the node
	cancel context.CancelFunc
	work   sync.WaitGroup
	down   chan struct{} // closed once the node has stopped for its disk
	once   sync.Once
	why    error // it stopped, before down was closed
}

// never is longer than any simulation: what is due by it is the driver's to do.
const never = 1000 * time.Hour

var quiet = slog.New(slog.DiscardHandler)

var members = []model.NodeID{0, 1, 2}

// start has a node come up with what its disk holds.
func (w *World) start(id model.NodeID) {
	n := &node{w: w, id: id, fs: w.disks[id], down: make(chan struct{}), admitted: make(chan model.Birth, 1), revision: map[model.PartitionID]uint64{}, opened: map[model.PartitionID]time.Time{}, failed: map[model.PartitionID]time.Time{}}
	w.nodes[id] = n
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.raft = w.net.Open(id, n.down)
	n.seats = move.NewSeats(id, n.raft)
	n.cores = core.New(core.Options{
		Cores: 2, Log: quiet, Raft: coreLog{n.raft, w.load.kept.heard}, Leadership: n.lead, Fatal: n.die, Observe: deaf{},
		FlushDelay: never, FlushBytes: 1 << 40, CacheBytes: 1 << 20, WriteBytes: 1 << 40,
		SnapshotBytes: 1 << 40, SnapshotEntries: 1 << 40, HousekeepEvery: never,
		ProducerExpiry: func() time.Duration { return 0 },
		Note:           func(h *core.Handle, applied uint64) []byte { return pull.Note(id, h.Shard, applied) },
		Recover: func(h *core.Handle, note []byte, stop <-chan struct{}) error {
			return n.taker.Recover(h, note, stop)
		},
	})
	n.cluster = cluster.New(cluster.Options{
		Node: id, Proposer: proposer{n}, Founders: members, Log: quiet,
		Static: map[string]string{
			"offsets.topic.num.partitions": "1", "group.initial.rebalance.delay.ms": "20", "group.min.session.timeout.ms": "1",
			"offsets.topic.segment.bytes": "1024", "log.cleaner.min.cleanable.ratio": "0.1",
		},
	})
	n.produce = produce.New(produce.Options{Cores: n.cores, Raft: n.raft, Space: func() error { return nil }, Now: time.Now})
	n.fetch = fetch.New(n.cores, n.raft)
	n.giver = pull.NewGiver(pull.GiverOptions{Log: quiet, Find: func(shard model.ShardID) (pull.Exporter, bool) {
		h, ok := n.cores.HandleByShard(shard)
		return h, ok
	}})
	n.taker = pull.NewTaker(pull.TakerOptions{
		Node: id, Caller: pullCaller{n}, Peers: n.holders, BytesPerSecond: -1, Log: quiet,
	})
	n.groups = coordinator.New(coordinator.Options{Log: coordinator.NewLog(n.produce, n.fetch), Cluster: n.cluster, Logger: quiet, NewID: w.load.members.newID})
	n.verbs = peer.New(peer.Options{
		Node: id, Local: local{n.produce, n.fetch}, Leader: n.cluster.Leader, Call: n.callVerb, Log: quiet,
		Exists: func(id model.PartitionID) bool { _, ok := n.cluster.Metadata().Partition(id); return ok },
	})
	n.pace = pacemaker.New(pacemaker.Options{
		Node: id, Reader: n.fetch, Children: n.verbs, Sidecar: w.load.script.sidecar(), View: script.View{Cluster: n.cluster, Log: quiet}, Plans: &w.load.script.plans, Log: quiet,
	})
	n.work.Go(n.followLeaders)
	n.mover, n.keeper = n.newMover(), n.newKeeper()
	n.work.Go(func() { n.pace.Run(n.ctx) })
	n.work.Go(func() { n.mover.Run(n.ctx) })
	w.log("%d node %d starts", w.step, id)
	if w.identities[id].joins {
		n.work.Go(n.join)
	} else {
		w.begins(n)
	}
	w.o.Still()
}

// begins starts a node's part of the controller's group, and with it all else.
func (w *World) begins(n *node) {
	birth := w.identities[n.id].birth
	err := n.raft.StartController(raft.Replica{Shard: raft.ControllerShard, Birth: birth, Members: members, Joins: birth > 0}, n.cluster.StateMachine())
	must(err == nil, "start the controller of node %d: %v", n.id, err)
	n.begun = true
	n.work.Go(n.register)
}

// register repeats what server does at a start until it is done.
func (n *node) register() {
	for n.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(n.ctx, time.Second)
		err := n.settle(ctx)
		cancel()
		if err == nil {
			n.entered.Store(true)
			n.work.Go(func() { n.keeper.Run(n.ctx) })
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-n.ctx.Done():
		}
	}
}

// lead is server's.
func (n *node) lead(e core.Leadership) {
	n.cluster.Lead(e)
	n.groups.Lead(coordinator.Leadership(e))
	n.pace.Lead(e)
}

func (n *node) followLeaders() {
	for c := range n.raft.Changes() {
		if c.Shard == raft.ControllerShard {
			n.cluster.SetController(c.Leader)
		} else if h, ok := n.cores.HandleByShard(c.Shard); ok {
			h.Lead(c.Leader == n.id, c.Term)
		}
	}
}

func (n *node) die(why error) {
	n.once.Do(func() {
		n.why = why
		close(n.down)
	})
}

func (n *node) dead() bool {
	select {
	case <-n.down:
		return true
	default:
		return false
	}
}

// crash ends a node as a loss of power does: what its disk has not synced may be lost.
func (w *World) crash(id model.NodeID) {
	w.disks[id] = w.nodes[id].fs.Crash(w.dice.Uint64())
	w.stop(id)
	w.saw("crash")
}

// stop ends a node's goroutines. What they do to its disk from here on is lost.
func (w *World) stop(id model.NodeID) {
	n := w.nodes[id]
	w.nodes[id] = nil
	n.die(nil)
	n.cancel()
	n.raft.Close()
	n.groups.Close()
	n.work.Wait()
	_ = n.cores.Close() // its disk is another's by now
	n.giver.Close()
	w.o.Still()
}

// reconcile makes the node hold what the metadata says, as server's replicas do.
func (w *World) reconcile(n *node) {
	w.admit(n)
	if !n.entered.Load() {
		return
	}
	m := n.cluster.Metadata()
	for _, t := range m.Topics() {
		for _, p := range t.Partitions {
			seat, seated := n.seats.Seat(&p)
			id := t.PartitionID(p.Index)
			h, running := n.cores.Handle(id)
			switch {
			case seated && !running && (w.clinging.absent && seat.Birth > 0 || time.Since(n.failed[id]) < renewAgain):
			case seated && !running:
				w.open(n, t, &p, seat.Birth)
			case running && !n.seats.Runs(&p) && !w.clinging.stays:
				w.drop(n, h)
				if !seated {
					n.seats.Forget(p.Shard)
				}
			case running:
				w.again(n, h)
				if n.revision[id] != t.Revision {
					c := t.Config
					h.SetConfig(&c)
				}
			}
			n.revision[id] = t.Revision
		}
	}
	var gone []*core.Handle
	n.cores.Handles(func(h *core.Handle) bool {
		if _, ok := m.Partition(h.ID); !ok {
			gone = append(gone, h)
		}
		return true
	})
	sortHandles(gone)
	for _, h := range gone {
		w.drop(n, h)
	}
}

func (w *World) open(n *node, t *cluster.Topic, p *cluster.Partition, birth model.Birth) {
	c, id, replica := t.Config, t.PartitionID(p.Index), move.Replica(p, birth)
	err := n.makeWay(id, replica)
	var h *core.Handle
	if err == nil {
		h, err = n.cores.Open(partition.Options{FS: n.fs, Dir: dirOf(id), ID: id, Config: core.PartitionConfig(&c), Log: quiet}, p.Shard, t.Name)
	}
	if err == nil {
		h.SetConfig(&c)
		if err = n.raft.StartReplica(replica, h); err != nil {
			err = errors.Join(err, n.cores.Drop(h))
		}
	}
	w.o.Still() // one after the other: those that follow a note queue for a seat
	n.opened[id] = time.Now()
	switch {
	case err == nil:
		if w.robbed != nil && *w.robbed == (robbed{n.id, id}) {
			w.robbed = nil
		}
		w.log("%d node %d opens %s-%d, shard %d, birth %d", w.step, n.id, t.Name, p.Index, p.Shard, birth)
	case n.fs.Stopped():
		n.die(err)
	case w.wasRobbed(n, id, err):
		w.renew(n, id, p, birth, err)
	default:
		w.broken("node %d does not open %s-%d of birth %d: %v; its disk has %q", n.id, t.Name, p.Index, birth, err, n.fs.Files(dirOf(id)))
	}
}

// shut ends a replica and leaves what it has written.
func (n *node) shut(h *core.Handle) error {
	h.Lead(false, model.NoEpoch)
	err := errors.Join(n.raft.Stop(h.Shard), n.cores.Drop(h))
	n.produce.Forget(h)
	delete(n.revision, h.ID)
	if n.fs.Stopped() {
		n.die(err)
	}
	return err
}

func (w *World) drop(n *node, h *core.Handle) {
	err := n.shut(h)
	if err == nil {
		err = n.raft.Remove(h.Shard)
	}
	if err == nil {
		err = partition.Destroy(n.fs, dirOf(h.ID))
	}
	w.log("%d node %d drops %s-%d", w.step, n.id, h.Topic, h.ID.Index)
	if err != nil && !n.fs.Stopped() {
		w.broken("node %d does not drop %s-%d: %v", n.id, h.Topic, h.ID.Index, err)
	}
	if n.fs.Stopped() {
		n.die(err)
	}
}

func dirOf(id model.PartitionID) string { return fmt.Sprintf("/topics/%x/%d", id.Topic, id.Index) }

// coreLog is what server makes of a Host.
type coreLog struct {
	*raft.FakeNode
	own func(model.ShardID, []byte) // is told of what loops propose by themselves
}

// Propose implements core.Log.
func (l coreLog) Propose(s model.ShardID, cmd []byte, timeout time.Duration) (func() error, error) {
	l.own(s, cmd)
	p, err := l.FakeNode.Propose(s, cmd, timeout)
	if err != nil {
		return nil, err
	}
	return p.Failed, nil
}

// proposer gives controller commands ids that the seed decides.
type proposer struct{ n *node }

// ProposeController implements cluster.Proposer.
func (p proposer) ProposeController(ctx context.Context, cmd []byte) ([]byte, error) {
	return p.n.raft.ProposeController(ctx, p.n.w.seeded(p.n.id, cmd))
}

// deaf is no metrics.
type deaf struct{}

// Flushed implements core.Observer.
func (deaf) Flushed(time.Duration, error) {}

// Applied implements core.Observer.
func (deaf) Applied(int, int) {}
