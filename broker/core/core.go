package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

const (
	// inboxEvents is how many events wait for a loop; beyond it senders wait.
	inboxEvents = 1024
	// tickEvery is how often a loop looks for what has become due.
	tickEvery = 20 * time.Millisecond
	// flushesAtOnce is how many partitions of a loop are flushed side by side. Most of
	// a flush is waiting for the file system to commit names and sizes, which it does
	// for all who wait at the same time.
	flushesAtOnce = 4
	// waitersMax is how many parked reads a partition holds; beyond it a fetch is
	// answered at once with what there is.
	waitersMax = 4096
)

var (
	// ErrNotLeader says that this node does not serve the partition. Ask who does.
	ErrNotLeader = errors.New("not the serving leader of the partition")
	// ErrFencedEpoch and ErrUnknownEpoch say that a replica has applied a later leader
	// epoch than the asker's, or not that one yet.
	ErrFencedEpoch  = errors.New("replica has applied a later leader epoch")
	ErrUnknownEpoch = errors.New("replica has not applied that leader epoch")
	// ErrBehind says that a replica has not applied the offset yet. Who waits may see it.
	ErrBehind = errors.New("replica has not applied that offset")
	// ErrDeposed says that this node no longer leads the partition, and that what was
	// proposed to it before may still be written. Ask who leads whether it is.
	ErrDeposed = errors.New("no longer the leader of the partition")
	// ErrUnknownPartition says that this node holds no such partition.
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrClosed says that the loop has ended: the node is stopping.
	ErrClosed = errors.New("node is stopping")
)

// Log is what a loop asks of raft. Implementations do not block.
type Log interface {
	// Propose hands a command to the log without waiting; applied tells later
	// whether it was applied here.
	Propose(shard model.ShardID, cmd []byte, timeout time.Duration) (failed func() error, err error)
	// Snapshot lets the log forget what lies at or below through.
	Snapshot(ctx context.Context, shard model.ShardID, through uint64) error
}

// Leadership says that this node serves a partition under Epoch, or no longer does.
type Leadership struct {
	Partition model.PartitionID
	Epoch     model.LeaderEpoch
	Serving   bool
}

// Options configures all loops.
type Options struct {
	Cores int
	Log   *slog.Logger
	// Raft may be set by UseLog until the first replica starts.
	Raft Log
	// Leadership is called on a loop for each change; it must not block.
	Leadership func(Leadership)
	// Fatal stops the node; it is called on a loop or a job and does not return
	// while the process is healthy.
	Fatal func(error)
	// FlushDelay and FlushBytes say when segments are written and synced: a partition
	// is flushed once it has been dirty for FlushDelay, longer if it has little, or
	// has appended FlushBytes.
	FlushDelay time.Duration
	FlushBytes int64
	// CacheBytes bounds what one loop's partitions keep in memory although it is on
	// disk: recent batches, and the ends of segments.
	CacheBytes int64
	// WriteBytes bounds what they hold that is not written yet: from half of it on
	// flushes begin early, beyond it Apply does not return, so that raft hands over
	// no more than the device takes. One Apply per raft worker may exceed it.
	WriteBytes int64
	// SnapshotBytes and SnapshotEntries say how much log a partition may keep
	// behind its checkpoint before raft is told to forget it.
	SnapshotBytes   int64
	SnapshotEntries uint64
	// HousekeepEvery is how often retention and compaction look at a partition.
	HousekeepEvery time.Duration
	// ProducerExpiry is how long an idle producer's sequences are remembered; <= 0
	// for ever.
	ProducerExpiry func() time.Duration
	// Taken tells how far every script bound to a parent partition has taken it;
	// nil or not bound: nobody holds its retention back. It must not block.
	Taken func(model.PartitionID) (offset model.Offset, bound bool)
	// Note and Recover are raft's StateMachine.Note, of a partition that has applied so
	// much, and StateMachine.Recover; nil: the node has no peers.
	Note    func(h *Handle, applied uint64) []byte
	Recover func(h *Handle, note []byte, stop <-chan struct{}) error
	// Observe receives timings for metrics; it must not block.
	Observe Observer
}

// Observer is told what loops measure. Durations are seconds on the wall clock.
type Observer interface {
	Flushed(took time.Duration, err error)
	Applied(entries, bytes int)
}

// Set is every loop of this process.
type Set struct {
	o     Options
	cores []*Core
	// byID and byShard hold *Handle; written by Open and Drop alone.
	byID, byShard sync.Map
	boot          uint64
	tokens        atomic.Uint64
	wg            sync.WaitGroup
	pace          pace
}

// Release asks that a partition be flushed and raft told to forget what its
// checkpoint covers: its log keeps others' from being freed. It does not wait.
func (s *Set) Release(shard model.ShardID) {
	if h, ok := s.byShard.Load(shard); ok {
		h.(*Handle).core.send(&releaseEvent{shard})
	}
}

// Housekeep has retention and compaction look at a partition now, and not only once
// HousekeepEvery has passed. It does not wait for what they do.
func (s *Set) Housekeep(shard model.ShardID) {
	if h, ok := s.byShard.Load(shard); ok {
		h.(*Handle).core.send(&houseEvent{shard})
	}
}

// New starts o.Cores loops.
func New(o Options) *Set {
	s := newSet(o)
	s.start()
	return s
}

// newSet makes the loops, which do not run yet: a test steps them by hand.
func newSet(o Options) *Set {
	s := &Set{o: o, boot: uint64(rand.Uint32()|1) << 32}
	for i := range o.Cores {
		s.cores = append(s.cores, newCore(model.CoreID(i), s))
	}
	return s
}

func (s *Set) start() {
	for _, c := range s.cores {
		s.wg.Add(2 + flushesAtOnce)
		go func() { defer s.wg.Done(); c.run() }()
		for range flushesAtOnce {
			go func() { defer s.wg.Done(); c.runJobs(c.flushes) }()
		}
		go func() { defer s.wg.Done(); c.runJobs(c.compactions) }()
	}
}

// Close ends the loops; every partition is flushed and checkpointed. raft must
// be closed before: no entry may arrive afterwards.
func (s *Set) Close() error {
	var errs []error
	for _, c := range s.cores {
		e := &closeEvent{reply: make(chan error, 1)}
		if c.send(e) {
			err, _ := await(c, e.reply)
			errs = append(errs, err)
		}
	}
	s.wg.Wait()
	return errors.Join(errs...)
}

// UseLog gives the loops their raft; call it before the first replica starts.
func (s *Set) UseLog(l Log) { s.o.Raft = l }

// Handle finds a partition of this node.
func (s *Set) Handle(id model.PartitionID) (*Handle, bool) {
	v, ok := s.byID.Load(id)
	if !ok {
		return nil, false
	}
	return v.(*Handle), true
}

// HandleByShard finds a partition of this node by its Raft group.
func (s *Set) HandleByShard(shard model.ShardID) (*Handle, bool) {
	v, ok := s.byShard.Load(shard)
	if !ok {
		return nil, false
	}
	return v.(*Handle), true
}

// Handles calls f for every partition of this node until it returns false.
func (s *Set) Handles(f func(*Handle) bool) {
	s.byID.Range(func(_, v any) bool { return f(v.(*Handle)) })
}

// Token gives a number that no other proposal of any boot of any node has,
// but for a chance of 2^-31 per boot.
func (s *Set) Token() uint64 { return s.boot | uint64(uint32(s.tokens.Add(1))) }

// Open recovers a partition from disk and hands it to its loop. The Handle is
// the state machine to start raft's replica with.
func (s *Set) Open(o partition.Options, shard model.ShardID, name string) (*Handle, error) {
	part, err := partition.Open(o)
	if err != nil {
		return nil, fmt.Errorf("open partition %s-%d: %w", name, o.ID.Index, err)
	}
	c := s.cores[uint64(shard)%uint64(len(s.cores))]
	h := &Handle{ID: o.ID, Shard: shard, Topic: name, core: c, files: o}
	h.serving.Store(int64(model.NoEpoch))
	h.leading.Store(int64(model.NoEpoch))
	if !c.send(&addEvent{h: h, part: part}) {
		return nil, errors.Join(ErrClosed, part.Close())
	}
	s.byID.Store(o.ID, h)
	s.byShard.Store(shard, h)
	return h, nil
}

// Drop takes a partition from its loop; its raft replica must have stopped. The
// files stay as they are: nothing is flushed.
func (s *Set) Drop(h *Handle) error {
	h.dropped.Store(true)
	s.byID.Delete(h.ID)
	s.byShard.Delete(h.Shard)
	e := &dropEvent{shard: h.Shard, reply: make(chan error, 1)}
	if !h.core.send(e) {
		return ErrClosed
	}
	if err, ok := await(h.core, e.reply); ok {
		return err
	}
	return ErrClosed
}

// Core is one loop. Its fields are owned by run but for what says otherwise.
type Core struct {
	id  model.CoreID
	set *Set
	in  chan event
	// flushes and compactions have goroutines of their own: a compaction may take a
	// minute.
	flushes, compactions *jobQueue
	done                 chan struct{} // closed when run has ended
	replicas             map[model.ShardID]*replica
	dirty                map[*replica]struct{}
	// away are partitions whose files are being replaced.
	away map[model.ShardID]struct{}
	// cache and unwritten count what all partitions hold, as CacheBytes and WriteBytes
	// bound it.
	cache, unwritten int64
	// pressure is unwritten, and closing that the loop flushes for the last time, for the
	// goroutines that flush.
	pressure atomic.Int64
	closing  atomic.Bool
	// owed are Applies that are done and not answered yet: see WriteBytes.
	owed []*applyEvent
	// snapshots is a seat: one log snapshot at a time per loop.
	snapshots chan struct{}
	nextHouse time.Time
	nextFlush time.Time
	ages      ageClock
}

func newCore(id model.CoreID, s *Set) *Core {
	return &Core{
		id: id, set: s,
		in: make(chan event, inboxEvents), flushes: newJobQueue(), compactions: newJobQueue(), done: make(chan struct{}),
		replicas: map[model.ShardID]*replica{}, dirty: map[*replica]struct{}{}, away: map[model.ShardID]struct{}{},
		snapshots: make(chan struct{}, 1),
	}
}

// event is a message to a loop.
type event interface{ step(c *Core) }

// send waits for a place in the inbox; false says that the loop has ended.
func (c *Core) send(e event) bool {
	select {
	case <-c.done:
		return false
	default:
	}
	select {
	case c.in <- e:
		return true
	case <-c.done:
		return false
	}
}

// await waits for a loop's reply; ok is false when the loop has ended without one.
func await[T any](c *Core, reply <-chan T) (v T, ok bool) {
	select {
	case v = <-reply:
		return v, true
	case <-c.done:
	}
	select {
	case v = <-reply:
		return v, true
	default:
		return v, false
	}
}

func (c *Core) run() {
	defer close(c.done)
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case e := <-c.in:
			c.Step(e)
			if _, last := e.(*closeEvent); last {
				return
			}
		case now := <-ticker.C:
			c.Tick(now)
		}
	}
}

// Step takes one event. It is exported within the module for simulation: a loop
// is run, or stepped by hand, never both.
func (c *Core) Step(e event) { e.step(c) }

// Tick does what has become due by now.
func (c *Core) Tick(now time.Time) {
	if every := max(tickEvery, min(time.Second, c.set.o.FlushDelay/64)); !now.Before(c.nextFlush) {
		c.nextFlush = now.Add(every)
		c.flushDue(now, every)
	}
	if now.After(c.nextHouse) {
		c.nextHouse = now.Add(time.Second)
		age := c.ages.at(now)
		for _, r := range c.replicas {
			if now.After(r.nextHouse) {
				r.nextHouse = now.Add(c.set.o.HousekeepEvery)
				c.housekeep(r, age)
			}
		}
	}
}

// flushDue flushes what has waited for FlushDelay, but no more at once than keeps up
// with it, called every so often: partitions that were made, or written to, together
// are due together.
func (c *Core) flushDue(now time.Time, every time.Duration) {
	most := 1 + int(time.Duration(len(c.dirty))*every/c.set.o.FlushDelay)
	for r := range c.dirty {
		wait := c.set.o.FlushDelay
		if r.dirtyBytes < c.set.o.FlushBytes/littlePart {
			wait = r.lazyFor
		}
		if now.Sub(r.dirtySince) < wait {
			continue
		}
		c.flush(r)
		if most--; most == 0 {
			return
		}
	}
}

// fail stops the node for r: what waits for r is not answered any more, since
// nothing may be told that rests on a disk which has failed.
func (c *Core) fail(r *replica, err error) {
	r.failed = true
	delete(c.dirty, r)
	c.stopServing(r)
	r.wake()
	c.set.o.Fatal(err)
}
