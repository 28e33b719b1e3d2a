package core

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// job is disk work that a loop hands to another goroutine. finish runs on the loop
// afterwards.
type job struct {
	r      *replica
	run    func() error
	finish func(c *Core, took time.Duration, err error)
}

type jobDone struct {
	j    job
	took time.Duration
	err  error
}

func (e *jobDone) step(c *Core) { e.j.finish(c, e.took, e.err) }

// jobQueue is what waits for one of the loop's job goroutines. It has no bound of
// its own: a partition has at most one job in it, and a bounded one could deadlock
// against a full inbox.
type jobQueue struct {
	mu     sync.Mutex
	wait   sync.Cond
	jobs   []job
	closed bool
}

func newJobQueue() *jobQueue {
	q := &jobQueue{}
	q.wait.L = &q.mu
	return q
}

func (q *jobQueue) push(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, j)
	q.wait.Signal()
}

func (q *jobQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wait.Broadcast()
}

func (q *jobQueue) pop() (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 && !q.closed {
		q.wait.Wait()
	}
	if len(q.jobs) == 0 {
		return job{}, false
	}
	j := q.jobs[0]
	q.jobs = q.jobs[1:]
	return j, true
}

// runJobs does the loop's disk work of one kind, one job after the other.
func (c *Core) runJobs(q *jobQueue) {
	for {
		j, ok := q.pop()
		if !ok {
			return
		}
		began := time.Now()
		err := j.run()
		c.send(&jobDone{j: j, took: time.Since(began), err: err})
	}
}

// A flush costs the same for one record as for many: of less than a part of
// FlushBytes it waits lazyFactor to twice as many times as long, for more, or until
// raft needs it.
const (
	littlePart = 16
	lazyFactor = 8
)

func (c *Core) markDirty(r *replica, bytes int64) {
	if _, dirty := c.dirty[r]; !dirty {
		c.dirty[r] = struct{}{}
		// What became dirty together should not all be due together.
		delay := c.set.o.FlushDelay
		r.dirtySince = time.Now().Add(-rand.N(delay/2 + 1))
		r.lazyFor = lazyFactor*delay + rand.N(lazyFactor*delay)
		r.dirtyBytes = 0
		r.flushAt = c.set.o.FlushBytes - rand.N(c.set.o.FlushBytes/2+1) // nor reach it together
	}
	r.dirtyBytes += bytes
	if r.dirtyBytes >= r.flushAt {
		c.flush(r)
	}
}

// flush starts writing and syncing what r has appended, and the checkpoint behind it.
func (c *Core) flush(r *replica) {
	if r.flushing || r.failed {
		return
	}
	j := r.part.FlushStart()
	delete(c.dirty, r)
	r.dirtyBytes = 0
	if j == nil {
		c.finishSyncs(r)
		return
	}
	r.flushing = true
	c.flushes.push(job{r: r, run: j.Run, finish: func(c *Core, took time.Duration, err error) { c.flushed(r, j, took, err) }})
}

func (c *Core) flushed(r *replica, j *partition.FlushJob, took time.Duration, err error) {
	c.set.o.Observe.Flushed(took, err)
	r.flushing = false
	before := holds(r)
	r.part.FlushDone(j, err)
	if err != nil {
		c.fail(r, fmt.Errorf("flush partition %s-%d: %w", r.h.Topic, r.h.ID.Index, err))
	} else {
		c.recount(r, before)
		c.finishSyncs(r)
		c.forgetLog(r)
		if _, dirty := c.dirty[r]; dirty && r.dirtyBytes >= r.flushAt {
			c.flush(r) // it came to so much meanwhile
		}
		c.flushEarly()
	}
	c.leaveIfAsked(r)
}

func (c *Core) leaveIfAsked(r *replica) {
	if e := r.leaving; e != nil {
		r.leaving = nil
		e.step(c)
	}
}

type syncEvent struct {
	shard model.ShardID
	reply chan error
}

func (e *syncEvent) step(c *Core) {
	r := c.replicas[e.shard]
	if r == nil {
		e.reply <- nil
		return
	}
	r.syncs = append(r.syncs, pendingSync{index: r.part.Applied(), reply: e.reply})
	c.finishSyncs(r)
}

// finishSyncs answers raft's Syncs that the checkpoint covers and starts another
// flush for those it does not.
func (c *Core) finishSyncs(r *replica) {
	kept := r.syncs[:0]
	for _, s := range r.syncs {
		if r.part.CheckpointIndex() >= s.index {
			s.reply <- nil
		} else {
			kept = append(kept, s)
		}
	}
	r.syncs = kept
	if len(kept) > 0 && !r.flushing && !r.failed {
		c.flush(r)
	}
}

type houseEvent struct{ shard model.ShardID }

func (e *houseEvent) step(c *Core) {
	if r := c.replicas[e.shard]; r != nil {
		c.housekeep(r, c.ages.at(time.Now()))
	}
}

// housekeep starts what time alone makes due. Only the leader decides what goes
// into the log; compaction is local.
func (c *Core) housekeep(r *replica, now time.Time) {
	if _, serving := r.h.Serving(); serving {
		c.proposeDue(r, now)
	}
	c.forgetLog(r) // what found the seat taken
	if r.compacting || r.flushing || r.leaving != nil {
		return
	}
	j := r.part.CompactStart(now)
	if j == nil {
		return
	}
	r.compacting = true
	c.compactions.push(job{r: r, run: j.Run, finish: func(c *Core, _ time.Duration, err error) {
		r.compacting = false
		before := holds(r)
		r.part.CompactDone(j, err)
		c.recount(r, before)
		c.compacted(r, err)
		c.leaveIfAsked(r)
	}})
}

func (c *Core) compacted(r *replica, err error) {
	switch {
	case r.failed:
	case err == nil:
		c.markDirty(r, 0)
	case writeFailed(err):
		c.fail(r, fmt.Errorf("compact partition %s-%d: %w", r.h.Topic, r.h.ID.Index, err))
	default:
		c.set.o.Log.Error("compaction failed", "topic", r.h.Topic, "partition", r.h.ID.Index, "err", err)
	}
}

// writeFailed tells a device that does not keep what it is given, which must stop
// the node, from what leaves the log as it was: damaged or unreadable input, and
// too little space for an output that is thrown away.
func writeFailed(err error) bool {
	var path *fs.PathError
	if !errors.As(err, &path) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return false
	}
	return path.Op != "read" && path.Op != "open" && path.Op != "stat"
}
