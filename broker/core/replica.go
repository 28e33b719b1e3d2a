package core

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// replica is a partition and what its loop remembers of it. Owned by the loop.
type replica struct {
	h          *Handle
	part       *partition.Partition
	epoch      model.LeaderEpoch // raft's term while this node leads, else NoEpoch
	waiters    []parked
	dirtySince time.Time
	lazyFor    time.Duration // how long from then it waits while it has little
	dirtyBytes int64
	flushAt    int64 // how many of them do not wait
	flushing   bool
	compacting bool
	syncs      []pendingSync
	// snapshot is the raft index that the log may have forgotten through.
	snapshot      uint64
	snapshotBytes int64
	// untrimmed: the last try to have the log forget failed. Not the loop's alone.
	untrimmed atomic.Bool
	// release: the log must be let go as soon as it can be, however short it is.
	release   bool
	nextHouse time.Time
	idle      idlers
	// leaving waits for the replica's jobs to end before it takes it from the loop.
	leaving event
	// failed: its disk has failed, the node is about to stop.
	failed bool
	// pruneAt is how many waiters there are when the forgotten ones are looked for.
	pruneAt int
}

// pendingSync is a raft Sync that waits for a checkpoint at or past index.
type pendingSync struct {
	index uint64
	reply chan error
}

type addEvent struct {
	h    *Handle
	part *partition.Partition
}

func (e *addEvent) step(c *Core) {
	c.replicas[e.h.Shard] = &replica{
		h: e.h, part: e.part, epoch: model.NoEpoch,
		snapshot:  e.part.CheckpointIndex(),
		nextHouse: time.Now().Add(c.set.o.HousekeepEvery),
	}
}

type dropEvent struct {
	shard model.ShardID
	reply chan error
}

// step lets go of the partition, once no job holds it any more. Its checkpoint is
// not brought up to date: that waits for the disk, and raft has the rest.
func (e *dropEvent) step(c *Core) {
	r := c.replicas[e.shard]
	if _, away := c.away[e.shard]; away { // and nobody brings it back: raft has stopped
		delete(c.away, e.shard)
		e.reply <- nil
		return
	}
	if r == nil {
		e.reply <- ErrUnknownPartition
		return
	}
	if r.flushing || r.compacting {
		r.leaving = e
		return
	}
	c.release(r, r.part.Abandon)
	e.reply <- nil
}

// release takes r from the loop; let lets go of its files.
func (c *Core) release(r *replica, let func()) {
	c.retire(r)
	delete(c.replicas, r.h.Shard)
	delete(c.dirty, r)
	before := holds(r)
	let()
	c.recount(r, before)
}

// retire answers everyone who waits for r, which leaves the loop.
func (c *Core) retire(r *replica) {
	c.stopServing(r)
	r.wake()
	if r.failed {
		return // nobody may be told that it is durable
	}
	for _, s := range r.syncs {
		s.reply <- nil
	}
	r.syncs = nil
}

type closeEvent struct{ reply chan error }

// step flushes and closes every partition: it is the loop's last event, so jobs
// in flight are waited for here.
func (e *closeEvent) step(c *Core) {
	c.closing.Store(true)
	c.finishJobs()
	var errs []error
	for _, r := range c.replicas {
		c.retire(r)
		errs = append(errs, r.part.Close())
	}
	c.flushes.close()
	c.compactions.close()
	e.reply <- errors.Join(errs...)
}

// finishJobs takes events until no job is under way. Others are refused by the
// state that raft's end has left: nothing can be applied any more.
func (c *Core) finishJobs() {
	for {
		busy := false
		for _, r := range c.replicas {
			busy = busy || r.flushing || r.compacting
		}
		if !busy {
			return
		}
		(<-c.in).step(c)
	}
}

type configureEvent struct {
	shard  model.ShardID
	config partition.Config
}

func (e *configureEvent) step(c *Core) {
	if r := c.replicas[e.shard]; r != nil {
		before := holds(r)
		r.part.Configure(e.config)
		c.recount(r, before)
	}
}

type queryEvent struct {
	shard model.ShardID
	f     func(*partition.Partition)
	reply chan error
	// claimed is set by the loop that runs f or by the asker who has given up.
	claimed atomic.Bool
}

func (e *queryEvent) step(c *Core) {
	if !e.claimed.CompareAndSwap(false, true) {
		return
	}
	r := c.replicas[e.shard]
	if r == nil {
		e.reply <- c.missing(e.shard)
		return
	}
	e.f(r.part)
	e.reply <- nil
}

type applyEvent struct {
	shard   model.ShardID
	entries []partition.Entry
	reply   chan error
}

func (e *applyEvent) step(c *Core) {
	r := c.replicas[e.shard]
	if r == nil {
		e.reply <- ErrUnknownPartition
		return
	}
	if r.failed {
		return
	}
	high, stable, before := r.part.HighWatermark(), r.part.LSO(), holds(r)
	outcomes, err := r.part.Apply(e.entries)
	if err != nil {
		c.fail(r, err) // and no reply: raft would end the process before the reason is told
		return
	}
	bytes, appended, end := 0, 0, high
	for i := range outcomes {
		c.deliver(r, &outcomes[i])
		bytes += len(e.entries[i].Cmd)
		if outcomes[i].LogEnd > end {
			appended, end = appended+len(e.entries[i].Cmd), outcomes[i].LogEnd
		}
	}
	c.set.o.Observe.Applied(len(e.entries), bytes)
	r.snapshotBytes += int64(bytes)
	c.markDirty(r, int64(bytes))
	c.recount(r, before)
	if end != high {
		r.arrived(int64(appended), r.part.LSO() != stable)
	}
	c.answer(e)
}

// deliver hands an outcome to the proposer that waits for it here, and starts
// serving when it is this leader's own lead{epoch}.
func (c *Core) deliver(r *replica, o *partition.Outcome) {
	if o.Lead && o.Err == nil && r.epoch != model.NoEpoch && r.part.Epoch() == r.epoch {
		c.serve(r)
	}
	if o.Token == 0 {
		return
	}
	r.h.expected.tell(o)
}

func (c *Core) serve(r *replica) {
	if model.LeaderEpoch(r.h.serving.Swap(int64(r.epoch))) == r.epoch {
		return
	}
	c.set.o.Leadership(Leadership{Partition: r.h.ID, Epoch: r.epoch, Serving: true})
}

func (c *Core) stopServing(r *replica) {
	was := model.LeaderEpoch(r.h.serving.Swap(int64(model.NoEpoch)))
	if was != model.NoEpoch {
		r.h.expected.giveUp()
		c.set.o.Leadership(Leadership{Partition: r.h.ID, Epoch: was})
	}
}

type leadEvent struct {
	shard model.ShardID
	leads bool
	epoch model.LeaderEpoch
}

func (e *leadEvent) step(c *Core) {
	r := c.replicas[e.shard]
	if r == nil || e.leads && r.epoch == e.epoch {
		return
	}
	c.stopServing(r)
	r.epoch = model.NoEpoch
	if !e.leads {
		r.wake() // parked fetches learn that they must ask elsewhere
		return
	}
	r.epoch = e.epoch
	go proposeLead(c.set.o.Raft, r.h, e.epoch)
}

const (
	leadTimeout = 5 * time.Second
	leadRetry   = 20 * time.Millisecond
)

// proposeLead repeats lead{epoch} until it is applied here or the node no longer
// leads under that epoch. A repeated one does no harm: it raises nothing.
func proposeLead(log Log, h *Handle, epoch model.LeaderEpoch) {
	cmd := partition.Command{Kind: partition.KindLead, Epoch: epoch}
	bytes := cmd.Append(nil)
	for model.LeaderEpoch(h.leading.Load()) == epoch && !h.dropped.Load() {
		failed, err := log.Propose(h.Shard, bytes, leadTimeout)
		if err == nil {
			err = failed()
		}
		if err == nil {
			return
		}
		select {
		case <-h.core.done:
			return
		case <-time.After(leadRetry):
		}
	}
}

// snapshotTimeout bounds one raft snapshot; a later one catches up.
const snapshotTimeout = time.Minute

type releaseEvent struct{ shard model.ShardID }

func (e *releaseEvent) step(c *Core) {
	r := c.replicas[e.shard]
	if r == nil || r.release {
		return
	}
	r.release = true
	if r.part.CheckpointIndex() < r.part.Applied() {
		c.flush(r) // and then forgets
		return
	}
	c.forgetLog(r)
}

// forgetLog asks raft to drop what the checkpoint covers, one shard at a time.
func (c *Core) forgetLog(r *replica) {
	through := r.part.CheckpointIndex()
	if through < r.snapshot || through == r.snapshot && !r.release {
		return
	}
	if r.snapshotBytes < c.set.o.SnapshotBytes && through-r.snapshot < c.set.o.SnapshotEntries && !r.release {
		return
	}
	select {
	case c.snapshots <- struct{}{}:
	default:
		return // the next flush tries again
	}
	r.snapshot, r.snapshotBytes, r.release = through, 0, false
	go func() {
		defer func() { <-c.snapshots }()
		ctx, cancel := context.WithTimeout(context.Background(), snapshotTimeout)
		defer cancel()
		err := c.set.o.Raft.Snapshot(ctx, r.h.Shard, through)
		if failed := r.untrimmed.Swap(err != nil); err != nil && !failed { // a replica that is out of its group fails each time
			c.set.o.Log.Warn("raft log not trimmed", "topic", r.h.Topic, "partition", r.h.ID.Index, "err", err)
		}
	}()
}
