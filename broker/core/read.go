package core

import (
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// Waiter is a fetch that waits for enough bytes, on any number of partitions and
// loops. It is signalled once.
type Waiter struct {
	need  atomic.Int64
	woken atomic.Bool
	ready chan struct{}
}

// NewWaiter gives a waiter that is ready once bytes have arrived.
func NewWaiter(bytes int64) *Waiter {
	w := &Waiter{ready: make(chan struct{}, 1)}
	w.need.Store(bytes)
	return w
}

// Ready is signalled when enough has arrived, or leadership has moved.
func (w *Waiter) Ready() <-chan struct{} { return w.ready }

// Woken tells that waiting on is of no use: a partition has an error or moved, or
// no loop had room. Otherwise what arrived may be less than it seemed.
func (w *Waiter) Woken() bool { return w.woken.Load() }

// Arrived counts bytes; the one that reaches the need signals.
func (w *Waiter) Arrived(bytes int64) {
	if w.need.Add(-bytes) <= 0 {
		w.signal()
	}
}

// Wake signals without counting.
func (w *Waiter) Wake() {
	w.woken.Store(true)
	w.signal()
}

func (w *Waiter) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// satisfied tells that nothing more is awaited: a loop may forget the waiter.
func (w *Waiter) satisfied() bool { return w.need.Load() <= 0 }

// Cancel makes loops forget the waiter when they next look at it.
func (w *Waiter) Cancel() { w.need.Store(0) }

type parked struct {
	w *Waiter
	// committed waits for the last stable offset instead of the high watermark.
	committed bool
}

// arrived counts bytes for everyone who is parked and may see them, and forgets
// who has enough. Who waits for what is stable sees nothing while stable stands.
func (r *replica) arrived(bytes int64, stable bool) {
	kept := r.waiters[:0]
	for _, p := range r.waiters {
		if stable || !p.committed {
			p.w.Arrived(max(bytes, 1))
		}
		if !p.w.satisfied() {
			kept = append(kept, p)
		}
	}
	clear(r.waiters[len(kept):])
	r.waiters = kept
}

// wake signals everyone who is parked: what they wait for will not come here.
func (r *replica) wake() {
	for _, p := range r.waiters {
		p.w.Wake()
	}
	r.waiters = nil
}

// pruneMin is how many waiters a partition holds before it looks for those that
// have gone: polls of an idle partition leave one each.
const pruneMin = 16

// park keeps w until bytes arrive. A full room wakes it: it is answered at once.
func (r *replica) park(w *Waiter, committed bool) {
	if len(r.waiters) >= max(r.pruneAt, pruneMin) {
		r.forgetSatisfied()
		r.pruneAt = min(2*len(r.waiters), waitersMax)
	}
	if len(r.waiters) >= waitersMax {
		w.Wake()
		return
	}
	r.waiters = append(r.waiters, parked{w: w, committed: committed})
}

func (r *replica) forgetSatisfied() {
	kept := r.waiters[:0]
	for _, p := range r.waiters {
		if !p.w.satisfied() {
			kept = append(kept, p)
		}
	}
	clear(r.waiters[len(kept):])
	r.waiters = kept
}

// Read is one partition's part of a fetch.
type Read struct {
	Handle *Handle
	Ask    partition.ReadAsk
	// Replica has a replica that does not serve answer too, as far as it has applied, if
	// Epoch is the leader epoch that it has applied, or NoEpoch.
	Replica bool
	Epoch   model.LeaderEpoch
	// Answer and Err are set when ReadAll returns. The caller loads or releases
	// Answer. Of an offset that a replica does not have it has the bounds, beside the error.
	Answer *partition.ReadAnswer
	Err    error
}

// ReadAll asks every loop that holds one of reads, and waits for all. A read
// that yields fewer bytes than w still needs is parked with it; w may be nil.
func (s *Set) ReadAll(reads []Read, w *Waiter) {
	if len(reads) == 1 { // the common case of a fiber or a one-partition consumer
		c := reads[0].Handle.core
		ask(c, []*Read{&reads[0]}, w).wait(c)
		return
	}
	byCore := make(map[*Core][]*Read, len(s.cores))
	for i := range reads {
		c := reads[i].Handle.core
		byCore[c] = append(byCore[c], &reads[i])
	}
	asked := make(map[*Core]*readEvent, len(byCore))
	for c, part := range byCore {
		asked[c] = ask(c, part, w)
	}
	for c, e := range asked {
		e.wait(c)
	}
}

// ask sends reads to their loop without waiting for it.
func ask(c *Core, reads []*Read, w *Waiter) *readEvent {
	e := &readEvent{reads: reads, waiter: w, reply: make(chan struct{}, 1)}
	if !c.send(e) {
		failReads(reads)
		e.reply <- struct{}{}
	}
	return e
}

// wait returns when the reads are answered, or never will be.
func (e *readEvent) wait(c *Core) {
	if _, ok := await(c, e.reply); !ok {
		failReads(e.reads)
	}
}

func failReads(reads []*Read) {
	for _, r := range reads {
		r.Err = ErrClosed
	}
}

// follow reads from a replica that does not serve. What it has applied is committed,
// and stays: what it does not know is what has been committed since. One that leads by
// raft's word and does not serve yet answers nothing: it has to find out where it is.
func (r *replica) follow(read *Read) (*partition.ReadAnswer, error) {
	applied := r.part.Epoch()
	switch {
	case !read.Replica || !r.h.led.Load() || r.h.recovering.Load() || r.epoch != model.NoEpoch:
		return nil, ErrNotLeader
	case read.Epoch != model.NoEpoch && read.Epoch < applied:
		return nil, ErrFencedEpoch
	case read.Epoch > applied:
		return nil, ErrUnknownEpoch
	}
	bounds := &partition.ReadAnswer{HighWatermark: r.part.HighWatermark(), LSO: r.part.LSO(), LogStart: r.part.LogStart()}
	switch {
	case read.Ask.From > bounds.HighWatermark:
		return bounds, ErrBehind
	case read.Ask.From < bounds.LogStart:
		return bounds, partition.ErrOffsetOutOfRange
	}
	return r.part.Read(read.Ask)
}

type readEvent struct {
	reads  []*Read
	waiter *Waiter
	reply  chan struct{}
}

func (e *readEvent) step(c *Core) {
	for _, read := range e.reads {
		r := c.replicas[read.Handle.Shard]
		switch {
		case r == nil:
			read.Err = c.missing(read.Handle.Shard)
		case model.LeaderEpoch(r.h.serving.Load()) != model.NoEpoch:
			read.Answer, read.Err = r.part.Read(read.Ask)
		default:
			read.Answer, read.Err = r.follow(read)
		}
		if e.waiter == nil {
			continue
		}
		if read.Err == ErrBehind {
			r.park(e.waiter, read.Ask.Committed)
			continue
		}
		if read.Err != nil {
			e.waiter.Wake()
			continue
		}
		e.waiter.Arrived(int64(read.Answer.Bytes))
		if !e.waiter.satisfied() {
			r.park(e.waiter, read.Ask.Committed)
		}
	}
	e.reply <- struct{}{}
}
