package core

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

// TestServing: a leader serves once its own lead{epoch} was applied here, and no
// other; a parked fetch learns when it no longer does.
func TestServing(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: 3}, plain(3, "a"))
	if e := r.serving(); e != model.NoEpoch {
		t.Fatalf("serves %d by what another leader wrote", e)
	}
	r.h.Lead(true, 5)
	r.drain()
	if e := r.serving(); e != model.NoEpoch {
		t.Fatalf("serves %d before its lead was applied", e)
	}
	if read := r.read(0, false, nil); !errors.Is(read.Err, ErrNotLeader) {
		t.Errorf("a read before that: %v", read.Err)
	}
	if c, err := partition.Decode(<-r.log.proposed); err != nil || c.Kind != partition.KindLead || c.Epoch != 5 {
		t.Fatalf("proposed %+v, %v; want lead{5}", c, err)
	}
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: 5})
	if e := r.serving(); e != 5 {
		t.Fatalf("serves %d, want 5", e)
	}
	w := NewWaiter(1)
	r.read(1, false, w)
	r.h.Lead(true, 7) // the loss of 5 was never told
	r.drain()
	if e := r.serving(); e != model.NoEpoch {
		t.Fatalf("serves %d while 7 is on its way", e)
	}
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: 5}) // a repeated one
	if e := r.serving(); e != model.NoEpoch {
		t.Fatalf("serves %d by a lead of another epoch", e)
	}
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: 7})
	r.h.Lead(false, 8)
	r.drain()
	if !ready(w) || !w.Woken() {
		t.Error("a parked fetch was not woken by the loss of leadership")
	}
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: 7})
	if e := r.serving(); e != model.NoEpoch {
		t.Errorf("serves %d after it was deposed", e)
	}
	want := []Leadership{
		{Partition: r.h.ID, Epoch: 5, Serving: true}, {Partition: r.h.ID, Epoch: 5},
		{Partition: r.h.ID, Epoch: 7, Serving: true}, {Partition: r.h.ID, Epoch: 7},
	}
	if !slices.Equal(r.leads, want) {
		t.Errorf("told %+v, want %+v", r.leads, want)
	}
}

// TestDeposed: who is told that another serves under a later epoch serves no longer, and
// whoever waits there learns it; what raft says of a later one still holds.
func TestDeposed(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.lead(5)
	w, token := NewWaiter(1), r.set.Token()
	r.read(0, false, w)
	got := r.h.Expect(token)
	r.h.Depose(4)
	r.h.Depose(5)
	r.drain()
	if e := r.serving(); e != 5 || ready(w) {
		t.Fatalf("serves %d after another had served before", e)
	}
	r.h.Depose(7)
	r.drain()
	if e := r.serving(); e != model.NoEpoch || !ready(w) || !w.Woken() {
		t.Errorf("serves %d, a parked fetch is woken: %v", e, ready(w))
	}
	if o := <-got; !errors.Is(o.Err, ErrDeposed) || o.Token != token {
		t.Errorf("outcome %+v", o)
	}
	if n := len(r.h.expected.to); n != 0 {
		t.Errorf("%d outcomes are still expected", n)
	}
	r.h.Lead(true, 9)
	r.h.Depose(7) // it was on its way for long
	r.drain()
	<-r.log.proposed
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: 9})
	if e := r.serving(); e != 9 {
		t.Errorf("serves %d, want 9", e)
	}
	r.h.Lead(true, 11)
	(&deposeEvent{shard: r.h.Shard, epoch: 10}).step(r.c) // it was sent before raft's word
	r.drain()
	<-r.log.proposed
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: 11})
	if e := r.serving(); e != 11 {
		t.Errorf("serves %d, want 11", e)
	}
}

// TestLeadIsRepeated until it is applied, the node deposed, or the partition gone.
func TestLeadIsRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*rig)
		more int
	}{
		"applied": {func(r *rig) { r.log.verdicts <- nil }, 1},
		"deposed": {func(r *rig) { r.h.Lead(false, 6) }, 0},
		"dropped": {func(r *rig) { r.h.dropped.Store(true) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, config.Topic{}, nil)
				r.log.proposed = make(chan []byte)
				r.log.verdicts <- errLost
				r.log.verdicts <- errLost
				r.h.leading.Store(5)
				go proposeLead(r.log, r.h, 5)
				for range 2 {
					<-r.log.proposed
				}
				synctest.Wait()
				c.end(r)
				for range c.more {
					<-r.log.proposed
				}
				<-time.After(time.Second) // of the bubble: a proposeLead that goes on deadlocks it
			})
		})
	}
}

// TestOutcome hands each proposer its own outcome, before raft is answered, and
// keeps nothing.
func TestOutcome(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.lead(1)
	mine, stale := plain(1, "a", "b"), plain(0, "z")
	mine.Token, stale.Token = r.set.Token(), r.set.Token()
	got, late := r.h.Expect(mine.Token), r.h.Expect(stale.Token)
	r.apply(plain(1, "somebody else's"), stale, mine)
	if o := <-got; o.Err != nil || o.Batches[0].Base != 1 || o.LogEnd != 3 {
		t.Errorf("outcome %+v", o)
	}
	if o := <-late; !errors.Is(o.Err, partition.ErrStaleEpoch) {
		t.Errorf("outcome of a stale command %+v", o)
	}
	r.h.Expect(99)
	r.h.Forget(99)
	if n := len(r.h.expected.to); n != 0 {
		t.Errorf("%d outcomes are still expected", n)
	}
}

// TestOutcomeOfDeposed: who has proposed to a leader that was deposed is told so, unless
// his command is applied within a moment.
func TestOutcomeOfDeposed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, config.Topic{}, nil)
		r.lead(1)
		applied, lost := plain(1, "a"), plain(1, "b")
		applied.Token, lost.Token = r.set.Token(), r.set.Token()
		got, none := r.h.Expect(applied.Token), r.h.Expect(lost.Token)
		r.h.Lead(false, 2)
		r.drain()
		r.apply(applied)
		if o := <-got; o.Err != nil || o.LogEnd != 1 {
			t.Errorf("outcome of what was applied: %+v", o)
		}
		began := time.Now()
		if o := <-none; !errors.Is(o.Err, ErrDeposed) || time.Since(began) != deposedWait {
			t.Errorf("outcome of what was not, after %s: %+v", time.Since(began), o)
		}
		synctest.Wait() // giveUp goes through what was told already
		if n := len(r.h.expected.to); n != 0 {
			t.Errorf("%d outcomes are still expected", n)
		}
	})
}

// TestParkedFetch: what wakes a waiter and what does not.
func TestParkedFetch(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.lead(1)
	r.apply(plain(1, "a"))
	w := NewWaiter(200)
	if read := r.read(1, false, w); read.Err != nil || ready(w) {
		t.Fatalf("at the end: %v", read.Err)
	}
	r.apply(plain(1, "b"))
	if ready(w) {
		t.Fatal("woken by less than it needs")
	}
	r.apply(plain(1, strings.Repeat("c", 200)))
	if !ready(w) || w.Woken() {
		t.Error("not satisfied by enough")
	}
	if n := len(r.replica().waiters); n != 0 {
		t.Errorf("%d waiters are kept after that", n)
	}
	spec := record.Plain(record.None)
	spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence = 7, 0, 0
	once := produce(1, spec, "d")
	r.apply(once)
	again := NewWaiter(1)
	r.read(4, false, again)
	r.apply(once)
	if ready(again) {
		t.Error("woken by a duplicate, which wrote nothing")
	}
	past := NewWaiter(1)
	if read := r.read(99, false, past); !errors.Is(read.Err, partition.ErrOffsetOutOfRange) || !ready(past) || !past.Woken() {
		t.Errorf("beyond the end: %v", read.Err)
	}
}

// TestFollows: when a replica that does not serve answers who asks for that.
func TestFollows(t *testing.T) {
	var r *rig
	follow := func() error {
		read := Read{Handle: r.h, Replica: true, Epoch: 1, Ask: partition.ReadAsk{From: 1, BytesMax: 1 << 20}}
		e := &readEvent{reads: []*Read{&read}, reply: make(chan struct{}, 1)}
		r.c.Step(e)
		return read.Err
	}
	r = newRig(t, config.Topic{}, func(o *Options) {
		o.Recover = func(*Handle, []byte, <-chan struct{}) error { return follow() }
	})
	r.apply(partition.Command{Kind: partition.KindLead, Epoch: 1}, plain(1, "a"))
	if err := follow(); !errors.Is(err, ErrNotLeader) {
		t.Errorf("before it heard of a leader: %v", err)
	}
	r.h.Led(true)
	if err := follow(); err != nil {
		t.Errorf("with a leader: %v", err)
	}
	if read := r.read(1, false, nil); !errors.Is(read.Err, ErrNotLeader) {
		t.Errorf("who asks for the leader: %v", read.Err)
	}
	if err := r.h.Recover(nil, nil); !errors.Is(err, ErrNotLeader) {
		t.Errorf("while it is brought up: %v", err)
	}
	if err := follow(); err != nil {
		t.Errorf("after that: %v", err)
	}
	w := NewWaiter(1)
	behind := Read{Handle: r.h, Replica: true, Epoch: model.NoEpoch, Ask: partition.ReadAsk{From: 3}}
	e := &readEvent{reads: []*Read{&behind}, waiter: w, reply: make(chan struct{}, 1)}
	r.c.Step(e)
	if !errors.Is(behind.Err, ErrBehind) || behind.Answer.HighWatermark != 1 || ready(w) {
		t.Errorf("beyond its end: %v %+v", behind.Err, behind.Answer)
	}
	r.apply(plain(1, "b"))
	if !ready(w) || w.Woken() {
		t.Error("who waits for it is not told of more")
	}
}

// TestParkedCommitted: who reads committed is not woken by what it may not see.
func TestParkedCommitted(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.lead(1)
	committed, plainly := NewWaiter(1), NewWaiter(1)
	r.read(0, true, committed)
	r.read(0, false, plainly)
	spec := record.Plain(record.None)
	spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence, spec.Transactional = 7, 0, 0, true
	r.apply(produce(1, spec, "open"))
	if ready(committed) || !ready(plainly) {
		t.Error("an open transaction woke a fetch that may not see it, or not the one that may")
	}
	r.apply(plain(1, "behind it"))
	if ready(committed) {
		t.Error("what lies behind an open transaction is not stable")
	}
}

// TestWaitersLeave: polls of an idle partition do not pile up.
func TestWaitersLeave(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.lead(1)
	stays := NewWaiter(1)
	r.read(0, false, stays)
	for range 10000 {
		w := NewWaiter(1)
		r.read(0, false, w)
		w.Cancel()
	}
	if n := len(r.replica().waiters); n > 2*pruneMin {
		t.Errorf("%d waiters are kept of which one waits", n)
	}
	r.apply(plain(1, "x"))
	if !ready(stays) {
		t.Error("the one that waits was forgotten")
	}
	for range waitersMax {
		r.read(1, false, NewWaiter(1))
	}
	over := NewWaiter(1)
	r.read(1, false, over)
	if !ready(over) || !over.Woken() {
		t.Error("a full room does not answer at once")
	}
}

func asked(e *syncEvent) bool {
	select {
	case <-e.reply:
		return true
	default:
		return false
	}
}

// TestFlush: raft's Sync is answered by a checkpoint that covers all that was
// applied when it was asked, and the log is let go of behind that alone.
func TestFlush(t *testing.T) {
	r := newRig(t, config.Topic{}, func(o *Options) { o.SnapshotEntries = 3 })
	r.lead(1)
	r.apply(plain(1, "a"))
	r.later(7 * time.Second)
	if take(r.c.flushes) != nil {
		t.Fatal("so little was flushed after the delay for more")
	}
	r.later(10 * time.Second)
	first := take(r.c.flushes)
	if first == nil {
		t.Fatal("not flushed after its delay")
	}
	r.apply(plain(1, "b")) // the flush under way does not cover it
	e := &syncEvent{shard: rigShard, reply: make(chan error, 1)}
	r.c.Step(e)
	r.finish(first)
	if asked(e) {
		t.Fatal("Sync was answered by a checkpoint that is too old")
	}
	if got := r.replica().part.CheckpointIndex(); got != 2 {
		t.Fatalf("checkpoint at %d, want 2", got)
	}
	if len(r.log.snapshots) != 0 {
		t.Fatal("the log was let go of too soon")
	}
	r.finish(take(r.c.flushes))
	if !asked(e) {
		t.Error("Sync was not answered")
	}
	if through := <-r.log.snapshots; through != 3 {
		t.Errorf("the log was let go of through %d, want 3", through)
	}
	// The seat is taken: the next one waits for housekeeping.
	r.apply(plain(1, "c"), plain(1, "d"), plain(1, "e"))
	r.later(20 * time.Second)
	r.finish(take(r.c.flushes))
	if len(r.log.snapshots) != 0 {
		t.Error("two snapshots of a loop at once")
	}
	r.log.forget <- nil
	r.c.snapshots <- struct{}{} // the first has left its seat
	<-r.c.snapshots
	r.later(time.Hour)
	if through := <-r.log.snapshots; through != 6 {
		t.Errorf("the log was let go of through %d, want 6", through)
	}
	r.log.forget <- errLost
}

// TestFlushBytes: a partition with much unsynced does not wait for the delay.
func TestFlushBytes(t *testing.T) {
	r := newRig(t, config.Topic{}, func(o *Options) { o.FlushBytes = 1000 })
	r.lead(1)
	r.apply(plain(1, strings.Repeat("a", 2000)))
	r.finish(take(r.c.flushes))
	if got := r.replica().part.CheckpointIndex(); got != 2 {
		t.Errorf("checkpoint at %d, want 2", got)
	}
}

// TestFlushOfMuch: what is worth a flush does not wait for more.
func TestFlushOfMuch(t *testing.T) {
	r := newRig(t, config.Topic{}, func(o *Options) { o.FlushBytes = 1 << 20 })
	r.lead(1)
	r.apply(plain(1, "a", strings.Repeat("b", 100<<10)))
	r.later(time.Second / 4)
	if take(r.c.flushes) != nil {
		t.Fatal("flushed before its delay")
	}
	r.later(time.Second)
	if take(r.c.flushes) == nil {
		t.Fatal("not flushed after its delay")
	}
}

// TestDrop waits for the job that holds the partition, flushes nothing more, and
// gives the cache's bytes back.
func TestDrop(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.lead(1)
	r.apply(plain(1, "a"))
	r.later(20 * time.Second)
	w := NewWaiter(1)
	r.read(1, false, w)
	e := &dropEvent{shard: rigShard, reply: make(chan error, 1)}
	r.c.Step(e)
	if len(e.reply) != 0 {
		t.Fatal("dropped under its flush")
	}
	r.finish(take(r.c.flushes))
	if err := <-e.reply; err != nil {
		t.Fatal(err)
	}
	if !ready(w) || r.serving() != model.NoEpoch || r.c.cache != 0 || len(r.c.replicas) != 0 || len(r.c.dirty) != 0 {
		t.Errorf("left behind: serving %d, cache %d, %d replicas, %d dirty", r.serving(), r.c.cache, len(r.c.replicas), len(r.c.dirty))
	}
	q := &queryEvent{shard: rigShard, f: func(*partition.Partition) { t.Error("queried a partition that is gone") }, reply: make(chan error, 1)}
	r.c.Step(q)
	if err := <-q.reply; !errors.Is(err, ErrUnknownPartition) {
		t.Error(err)
	}
}

// TestCaches of all partitions together stay within the loop's budget.
func TestCaches(t *testing.T) {
	r := newRig(t, config.Topic{}, func(o *Options) { o.CacheBytes = 10000 })
	for i := range 4 {
		r.open(rigShard+1+model.ShardID(i), config.Topic{})
	}
	for i := range 200 {
		shard := rigShard + model.ShardID(i%5)
		cmd := plain(0, strings.Repeat("x", 50*(1+i%5)))
		e := &applyEvent{shard: shard, reply: make(chan error, 1), entries: []partition.Entry{{Index: uint64(i + 1), Cmd: lead0()}, {Index: uint64(i + 2), Cmd: cmd.Append(nil)}}}
		e.entries[0].Index, e.entries[1].Index = uint64(2*i+1), uint64(2*i+2)
		r.c.Step(e)
		held := int64(0)
		for _, p := range r.c.replicas {
			held += p.part.CacheBytes()
		}
		if held != r.c.cache || held > 10000 {
			t.Fatalf("after %d: %d held, %d counted, 10000 allowed", i, held, r.c.cache)
		}
	}
}

func lead0() []byte {
	c := partition.Command{Kind: partition.KindLead, Epoch: 0}
	return c.Append(nil)
}

// TestProducersExpire: who has written nothing for as long as that is forgotten; who
// writes records that are old is not, however old they are.
func TestProducersExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const expiry = 24 * time.Hour
		r := newRig(t, config.Topic{}, func(o *Options) { o.ProducerExpiry = func() time.Duration { return expiry } })
		r.lead(1)
		sequence := map[model.ProducerID]int32{}
		write := func(id model.ProducerID) {
			s := record.Plain(record.None)
			s.BaseTimestamp, s.ProducerID, s.ProducerEpoch, s.BaseSequence = 1, id, 0, sequence[id]
			sequence[id]++
			r.apply(produce(1, s, "x"))
		}
		write(1)
		write(2)
		forgotten := map[model.ProducerID]time.Duration{}
		for hours := range 60 {
			write(2)
			r.later(time.Hour)
			synctest.Wait() // what is proposed comes by a goroutine
			select {
			default:
			case b := <-r.log.proposed:
				c, err := partition.Decode(b)
				if err != nil || c.Kind != partition.KindExpire {
					t.Fatalf("proposed %+v, %v", c, err)
				}
				for _, e := range c.Expired {
					forgotten[e.Producer] = time.Duration(hours+1) * time.Hour
				}
				r.apply(c)
			}
		}
		if len(forgotten) != 1 || forgotten[1] < expiry || forgotten[1] > expiry+2*time.Hour {
			t.Errorf("forgotten: %v, want the first after %s", forgotten, expiry)
		}
	})
}

// TestRetentionHeld: a topic that keeps what its scripts have not taken is not
// trimmed past the slowest.
func TestRetentionHeld(t *testing.T) {
	taken, bound := model.Offset(2), true
	topic := config.Topic{Delete: true, RetentionBytes: 0, SegmentBytes: 1, RetainForScripts: true}
	r := newRig(t, topic, func(o *Options) {
		o.Taken = func(model.PartitionID) (model.Offset, bool) { return taken, bound }
	})
	r.lead(1)
	for range 4 {
		r.apply(plain(1, "x"))
	}
	next := func() model.Offset {
		t.Helper()
		r.later(time.Hour)
		c, err := partition.Decode(<-r.log.proposed)
		if err != nil || c.Kind != partition.KindTrim || c.Epoch != 1 {
			t.Fatalf("proposed %+v, %v", c, err)
		}
		return c.LogStart
	}
	if to := next(); to != 2 {
		t.Errorf("trim to %d, the scripts have taken 2", to)
	}
	bound = false
	if to := next(); to != 3 {
		t.Errorf("trim to %d, want 3: nobody holds it", to)
	}
	r.h.Lead(false, 2)
	r.drain()
	r.later(time.Hour)
	if len(r.log.proposed) != 0 {
		t.Error("a node that does not lead proposed a trim")
	}
}

// TestHousekeep: what is due is found when it is asked for, before its time has come.
func TestHousekeep(t *testing.T) {
	r := newRig(t, config.Topic{Delete: true, RetentionBytes: 0, SegmentBytes: 1}, nil)
	r.lead(1)
	for range 3 {
		r.apply(plain(1, "x"))
	}
	r.set.Housekeep(rigShard + 1) // is not here
	r.set.Housekeep(rigShard)
	r.drain()
	c, err := partition.Decode(<-r.log.proposed)
	if err != nil || c.Kind != partition.KindTrim || c.LogStart != 2 {
		t.Errorf("proposed %+v, %v", c, err)
	}
}

// TestFailedFlush: after a failed sync nobody is told that anything is well.
func TestFailedFlush(t *testing.T) {
	r, faulty, _ := faultyRig(t, config.Topic{})
	r.lead(1)
	r.apply(plain(1, "a"))
	faulty.Inject(disk.Fault{Op: disk.OpSync, Err: syscall.EIO})
	e := &syncEvent{shard: rigShard, reply: make(chan error, 1)}
	r.c.Step(e)
	r.finish(take(r.c.flushes))
	if len(r.fatal) != 1 || !errors.Is(r.fatal[0], syscall.EIO) {
		t.Fatalf("fatal: %v", r.fatal)
	}
	late := &syncEvent{shard: rigShard, reply: make(chan error, 1)}
	r.c.Step(late)
	if asked(e) || asked(late) || r.apply(plain(1, "b")) {
		t.Error("raft was answered on a disk that has failed")
	}
	if r.serving() != model.NoEpoch {
		t.Error("still serves")
	}
	r.later(time.Hour)
	if take(r.c.flushes) != nil || len(r.fatal) != 1 {
		t.Error("tried again")
	}
	end := &closeEvent{reply: make(chan error, 1)}
	r.c.Step(end)
	if asked(e) || asked(late) {
		t.Error("Close told raft that it is durable")
	}
}

// TestFailedWrite stops the node too: what is in memory alone is never called
// durable, and raft gets no answer to panic on.
func TestFailedWrite(t *testing.T) {
	r, faulty, _ := faultyRig(t, config.Topic{})
	r.lead(1)
	faulty.Inject(disk.Fault{Op: disk.OpWrite, Err: syscall.EIO})
	if !r.apply(plain(1, "a")) {
		t.Error("apply waits for a disk")
	}
	e := &syncEvent{shard: rigShard, reply: make(chan error, 1)}
	r.c.Step(e)
	if err := r.finish(take(r.c.flushes)); !errors.Is(err, syscall.EIO) || asked(e) {
		t.Errorf("flush: %v; raft was told that it is durable: %v", err, asked(e))
	}
	if len(r.fatal) != 1 || !errors.Is(r.fatal[0], syscall.EIO) {
		t.Errorf("fatal: %v", r.fatal)
	}
	if r.apply(plain(1, "a")) {
		t.Error("an entry was applied after a failed write")
	}
}

// compacting gives a rig with a compaction worth doing under way.
func compacting(t *testing.T) (*rig, *disk.Faulty, *disk.Memory, *job) {
	r, faulty, memory := faultyRig(t, config.Topic{Compact: true, SegmentBytes: 1})
	r.set.o.CacheBytes = 0 // what is on disk is read from there
	r.lead(1)
	r.apply(plain(1, "x", "y"), plain(1, "x"), plain(1, "x"), plain(1, "z"))
	r.later(20 * time.Second)
	r.finish(take(r.c.flushes))
	r.later(time.Hour)
	j := take(r.c.compactions)
	if j == nil {
		t.Fatal("nothing to compact")
	}
	return r, faulty, memory, j
}

// TestCompaction: a flush and a drop go on beside it, and it becomes true by the
// next checkpoint.
func TestCompaction(t *testing.T) {
	r, _, _, j := compacting(t)
	r.apply(plain(1, "y"))
	before := r.replica().part.SegmentCount()
	r.later(20 * time.Second)
	r.finish(take(r.c.flushes))
	r.finish(j)
	if now := r.replica().part.SegmentCount(); now >= before {
		t.Errorf("%d segments, there were %d", now, before)
	}
	r.later(20 * time.Second)
	r.finish(take(r.c.flushes))
	if len(r.fatal) != 0 {
		t.Error(r.fatal)
	}
}

// TestFailedCompaction: a sync that fails stops the node, damage does not, nor
// does a disk without room for the output.
func TestFailedCompaction(t *testing.T) {
	r, faulty, _, j := compacting(t)
	faulty.Inject(disk.Fault{Op: disk.OpSync, Err: syscall.EIO})
	if err := r.finish(j); err == nil || len(r.fatal) != 1 || !errors.Is(r.fatal[0], syscall.EIO) {
		t.Errorf("after a failed sync (%v): fatal %v", err, r.fatal)
	}
	r, faulty, _, j = compacting(t)
	faulty.Inject(disk.Fault{Op: disk.OpWrite, Err: syscall.ENOSPC})
	if err := r.finish(j); err == nil || len(r.fatal) != 0 || r.serving() != 1 {
		t.Errorf("after a full disk (%v): fatal %v, serving %d", err, r.fatal, r.serving())
	}
	r, faulty, _, j = compacting(t)
	faulty.Inject(disk.Fault{Op: disk.OpRead, Err: syscall.EIO})
	if err := r.finish(j); err == nil || len(r.fatal) != 0 || r.serving() != 1 {
		t.Errorf("after a failed read (%v): fatal %v, serving %d", err, r.fatal, r.serving())
	}
	r, _, memory, j := compacting(t)
	for _, f := range memory.Files(path.Join("/", r.h.ID.String())) {
		if strings.HasSuffix(f, ".log") {
			must(memory.Corrupt(f, 80, 0xff))
			break
		}
	}
	if err := r.finish(j); !errors.Is(err, partition.ErrCorrupt) || len(r.fatal) != 0 || r.serving() != 1 {
		t.Errorf("after damage (%v): fatal %v, serving %d", err, r.fatal, r.serving())
	}
}

// TestDropDuringCompaction waits for it.
func TestDropDuringCompaction(t *testing.T) {
	r, _, _, j := compacting(t)
	e := &dropEvent{shard: rigShard, reply: make(chan error, 1)}
	r.c.Step(e)
	if len(e.reply) != 0 {
		t.Fatal("dropped under its compaction")
	}
	r.finish(j)
	if err := <-e.reply; err != nil {
		t.Error(err)
	}
}

// TestQueryGivesUp: after an error f has not run and never will.
func TestQueryGivesUp(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := r.h.Query(ctx, func(*partition.Partition) { t.Error("it ran after its asker had gone") })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.drain()
}

// TestRecovery: what Close has flushed is there for the next start.
func TestRecovery(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.lead(1)
	r.apply(plain(1, "a", strings.Repeat("b", 300<<10)))
	e := &closeEvent{reply: make(chan error, 1)}
	r.c.Step(e)
	if err := <-e.reply; err != nil {
		t.Fatal(err)
	}
	next := newSet(rigOptions(newHandLog()))
	next.start()
	h, err := next.Open(partition.Options{FS: r.fs, Dir: path.Join("/", r.h.ID.String()), ID: r.h.ID}, rigShard, "t")
	if err != nil {
		t.Fatal(err)
	}
	if applied, err := h.Open(nil); err != nil || applied != 2 {
		t.Errorf("applied %d, %v; want 2", applied, err)
	}
	must(next.Close())
	if _, err := h.Open(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := next.Drop(h); !errors.Is(err, ErrClosed) {
		t.Errorf("Drop after Close: %v", err)
	}
}

// TestCloseUnderLoad: whoever asks while the loops end gets an answer or ErrClosed.
func TestCloseUnderLoad(t *testing.T) {
	for range 20 {
		o := rigOptions(newHandLog())
		o.Cores, o.FlushBytes, o.FlushDelay = 3, 500, time.Nanosecond
		set := New(o)
		fs := disk.NewMemory()
		var handles []*Handle
		for i := range 6 {
			id := model.PartitionID{Topic: model.TopicID{byte(i)}}
			h, err := set.Open(partition.Options{FS: fs, Dir: path.Join("/", id.String()), ID: id}, model.ShardID(i), "t")
			if err != nil {
				t.Fatal(err)
			}
			h.SetConfig(&config.Topic{})
			handles = append(handles, h)
		}
		var began, wg sync.WaitGroup
		began.Add(3 * len(handles))
		loop := func(f func() error) {
			wg.Go(func() {
				var once sync.Once
				for {
					err := f()
					once.Do(began.Done)
					if err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for i, h := range handles {
			loop(func() error { return h.Query(t.Context(), func(p *partition.Partition) { p.HighWatermark() }) })
			loop(func() error {
				reads := []Read{{Handle: h}, {Handle: handles[(i+1)%len(handles)]}, {Handle: handles[(i+2)%len(handles)]}}
				set.ReadAll(reads, NewWaiter(1))
				for _, r := range reads {
					if errors.Is(r.Err, ErrClosed) {
						return r.Err
					}
				}
				return nil
			})
			index := uint64(0)
			loop(func() error {
				index++
				cmd := plain(0, strings.Repeat("x", 100))
				if index == 1 {
					return h.Apply([]partition.Entry{{Index: index, Cmd: lead0()}})
				}
				return h.Apply([]partition.Entry{{Index: index, Cmd: cmd.Append(nil)}})
			})
		}
		began.Wait()
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	}
}
