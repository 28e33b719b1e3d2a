package produce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/record"
)

const (
	// commandBytesMax is how much a command coalesces; a single batch may be larger.
	commandBytesMax = 1 << 20
	// timeoutMin is the least that a write waits for the log: two Raft ticks.
	timeoutMin = 400 * time.Millisecond
)

// write is an Ask on its way through a lane.
type write struct {
	Pending
	batch    []byte // let go of once it is proposed
	timeout  time.Duration
	scripted bool
	append   int64             // ms under LogAppendTime, else -1
	all      bool              // acks=all
	epoch    model.LeaderEpoch // it was taken under, and is proposed under or not at all
	// id tells whose it is and which; zero without a producer.
	id sequenced
	// refusal is set on a write that was refused before it got here: it passes
	// through for the sake of those that follow it.
	refusal *Result
}

// lane keeps a partition's writes in order. Its goroutine lives while there is
// something to write; mu guards queue and running.
type lane struct {
	service *Service
	handle  *core.Handle
	mu      sync.Mutex
	queue   []*write
	running bool
	gaps    gaps // owned by run
}

func (l *lane) push(w *write) {
	l.mu.Lock()
	l.queue = append(l.queue, w)
	start := !l.running
	l.running = true
	l.mu.Unlock()
	if start {
		go l.run()
	}
}

// take gives the writes of the next command, or ends the lane's goroutine.
func (l *lane) take() []*write {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := 0, 0
	for n < len(l.queue) && (n == 0 || bytes+len(l.queue[n].batch) <= commandBytesMax) {
		bytes += len(l.queue[n].batch)
		n++
	}
	if n == 0 {
		l.running, l.queue = false, nil
		return nil
	}
	taken := l.queue[:n:n]
	l.queue = l.queue[n:]
	return taken
}

func (l *lane) run() {
	for {
		ws := l.take()
		if ws == nil {
			return
		}
		epoch, _ := l.handle.Serving()
		if ws = l.admit(ws, epoch); len(ws) > 0 {
			l.propose(ws, epoch)
		}
	}
}

// admit resolves the writes that are refused, and runs the topic's sync scripts
// over those that they see. What follows a refused write of the same producer is
// refused too. What was taken under an earlier epoch is refused: whoever asked for it may
// have been told so, and have written something newer elsewhere.
func (l *lane) admit(ws []*write, epoch model.LeaderEpoch) []*write {
	kept := ws[:0]
	for _, w := range ws {
		switch err := l.checkGap(w.id); {
		case w.refusal != nil:
			l.refuse(w, *w.refusal)
		case w.epoch != epoch:
			l.refuse(w, refused(ErrNotLeader))
		case err != nil:
			w.resolve(refused(err))
		default:
			if err := l.transform(w); err != nil {
				l.refuse(w, refused(err))
				continue
			}
			kept = append(kept, w)
		}
	}
	clear(ws[len(kept):])
	return kept
}

// checkGap refuses what follows a gap that the log has not filled either.
func (l *lane) checkGap(id sequenced) error {
	err := l.gaps.check(id, l.service.o.Now())
	if err == nil {
		return nil
	}
	var log partition.ProducerState
	known := false
	asked := l.handle.Query(context.Background(), func(p *partition.Partition) { log, known = p.Producer(id.producer) })
	if asked != nil || !known {
		return err
	}
	l.gaps.mend(log)
	return l.gaps.check(id, l.service.o.Now())
}

// refuse resolves a write that is not in the log as far as is known.
func (l *lane) refuse(w *write, r Result) {
	l.gaps.note(w.id, l.service.o.Now())
	w.resolve(r)
}

func (l *lane) transform(w *write) error {
	if !w.scripted {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), max(w.timeout, timeoutMin))
	defer cancel()
	out, err := l.service.o.Scripts.Transform(ctx, l.handle.ID.Topic, l.handle.ID.Index, w.batch)
	if err != nil {
		return err
	}
	w.batch = out
	if b := record.Batch(out); w.append >= 0 && (!b.LogAppendTime() || b.MaxTimestamp() != w.append) {
		b.StampAppendTime(w.append)
	}
	return nil
}

// propose writes ws as one command and resolves each.
func (l *lane) propose(ws []*write, epoch model.LeaderEpoch) {
	cmd := partition.Command{Kind: partition.KindProduce, Epoch: epoch}
	timeout := time.Duration(0)
	for _, w := range ws {
		cmd.Batches = append(cmd.Batches, w.batch)
		timeout = max(timeout, w.timeout)
		w.batch = nil
	}
	out, err := l.service.command(context.Background(), l.handle, &cmd, timeout)
	if err == nil {
		err = out.Err
	}
	if err != nil {
		for _, w := range ws {
			l.refuse(w, refused(proposalError(err)))
		}
		return
	}
	least := l.service.least(l.handle)
	var late []written
	for i, w := range ws {
		b := out.Batches[i]
		r := Result{Base: b.Base, AppendTime: b.AppendTime, LogStart: out.LogStart, Err: b.Err}
		if b.Err != nil {
			r.Base = model.NoOffset
		}
		if w.all && least > 1 && b.Err == nil {
			late = append(late, written{w, r})
			continue
		}
		w.resolve(r)
	}
	if len(late) > 0 {
		l.settle(late, out.Index, least)
	}
}

// commandHeaderMax is about what a command has besides its batches, and what a
// batch has besides its bytes: a good guess saves copies, a bad one costs them.
const commandHeaderMax, batchHeaderMax = 64, 5

// command proposes cmd under its epoch, if that is served still, and waits for its outcome.
// An error means that there is none: see proposalError for what is known.
func (s *Service) command(ctx context.Context, h *core.Handle, cmd *partition.Command, timeout time.Duration) (partition.Outcome, error) {
	cmd.Token = s.o.Cores.Token()
	outcome := h.Expect(cmd.Token)
	defer h.Forget(cmd.Token)
	epoch, serving := h.Serving() // after Expect: who is deposed from here on tells
	if !serving || epoch != cmd.Epoch {
		return partition.Outcome{}, ErrNotLeader
	}
	size := commandHeaderMax
	for _, b := range cmd.Batches {
		size += len(b) + batchHeaderMax
	}
	encoded := cmd.Append(block.Borrow(size))
	cmd.Batches = nil // copied: the requests' frames may go
	began := time.Now()
	p, err := s.proposeRetryBusy(ctx, h, encoded, max(timeout, timeoutMin))
	block.Return(encoded) // raft has a copy
	if err != nil {
		return partition.Outcome{}, err
	}
	o, got, _, err := raft.Await(ctx, p, outcome)
	if err == nil && !got { // core hands outcomes over before raft says so
		err = fmt.Errorf("%w: applied without an outcome", raft.ErrUnknown)
	}
	if got && errors.Is(o.Err, core.ErrDeposed) {
		return partition.Outcome{}, fmt.Errorf("%w: %w", raft.ErrUnknown, o.Err)
	}
	if err == nil {
		s.o.Committed(time.Since(began))
	}
	return o, err
}

// busyRetry is the pause after raft's queue for the shard was full.
const busyRetry = time.Millisecond

// proposeRetryBusy waits out a full queue: what was refused there is not in the
// log, so that another try is safe.
func (s *Service) proposeRetryBusy(ctx context.Context, h *core.Handle, cmd []byte, timeout time.Duration) (*raft.Proposal, error) {
	deadline := time.Now().Add(timeout)
	for {
		p, err := s.o.Raft.Propose(h.Shard, cmd, time.Until(deadline))
		if err == nil || !errors.Is(err, raft.ErrBusy) {
			return p, err
		}
		select {
		case <-time.After(busyRetry):
		case <-ctx.Done():
			return nil, err
		}
		if !time.Now().Before(deadline) { // also where ctx ends at that moment, and is not done yet
			return nil, err
		}
		if _, serving := h.Serving(); !serving {
			return nil, ErrNotLeader
		}
	}
}

// proposalError says what a client may conclude from a proposal without outcome,
// or from one that was applied under a newer leader.
func proposalError(err error) error {
	switch {
	case errors.Is(err, raft.ErrUnknown), errors.Is(err, core.ErrDeposed):
		return fmt.Errorf("%w: %w", ErrTimedOut, err)
	case errors.Is(err, raft.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, core.ErrUnknownPartition):
		return fmt.Errorf("%w: %w", ErrUnknownPartition, err)
	case errors.Is(err, raft.ErrDropped), errors.Is(err, raft.ErrClosed), errors.Is(err, raft.ErrBusy),
		errors.Is(err, partition.ErrStaleEpoch), errors.Is(err, core.ErrClosed), errors.Is(err, core.ErrNotLeader):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return err
}
