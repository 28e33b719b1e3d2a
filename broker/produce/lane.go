package produce

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	// commandBytesMax is how much a command coalesces; a single batch may be larger.
	commandBytesMax = 1 << 20
	// timeoutMin is the least that a write waits for the log: two Raft ticks.
	timeoutMin = 400 * time.Millisecond
)

// write is an accepted Ask on its way through a lane.
type write struct {
	Pending
	batch    []byte
	timeout  time.Duration
	scripted bool
	append   int64 // ms under LogAppendTime, else -1
}

// lane keeps a partition's writes in order. Its goroutine lives while there is
// something to write; mu guards queue and running.
type lane struct {
	service *Service
	handle  *core.Handle
	mu      sync.Mutex
	queue   []*write
	running bool
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
		if ws = l.transform(ws); len(ws) > 0 {
			l.propose(ws)
		}
	}
}

// transform runs the topic's sync scripts over those writes that they see, and
// resolves the ones they refuse.
func (l *lane) transform(ws []*write) []*write {
	if !ws[0].scripted && len(ws) == 1 {
		return ws
	}
	kept := ws[:0]
	for _, w := range ws {
		if !w.scripted {
			kept = append(kept, w)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), w.timeout)
		out, err := l.service.o.Scripts.Transform(ctx, l.handle.ID.Topic, l.handle.ID.Index, w.batch)
		cancel()
		if err != nil {
			w.resolve(refused(err))
			continue
		}
		w.batch = out
		kept = append(kept, w)
	}
	return kept
}

// propose writes ws as one command and resolves each.
func (l *lane) propose(ws []*write) {
	cmd := partition.Command{Kind: partition.KindProduce}
	timeout := time.Duration(0)
	for _, w := range ws {
		cmd.Batches = append(cmd.Batches, w.batch)
		timeout = max(timeout, w.timeout)
	}
	out, err := l.service.command(l.handle, &cmd, timeout)
	if err == nil {
		err = out.Err
	}
	if err != nil {
		for _, w := range ws {
			w.resolve(refused(proposalError(err)))
		}
		return
	}
	for i, w := range ws {
		b := out.Batches[i]
		r := Result{Base: b.Base, AppendTime: w.append, LogStart: out.LogStart, Err: b.Err}
		if b.Err != nil {
			r.Base = model.NoOffset
		}
		w.resolve(r)
	}
}

// command proposes cmd under the epoch served now and waits for its outcome.
// An error means that there is none: see proposalError for what is known.
func (s *Service) command(h *core.Handle, cmd *partition.Command, timeout time.Duration) (partition.Outcome, error) {
	epoch, serving := h.Serving()
	if !serving {
		return partition.Outcome{}, ErrNotLeader
	}
	cmd.Epoch = epoch
	cmd.Token = s.o.Cores.Token()
	outcome := h.Expect(cmd.Token)
	defer h.Forget(cmd.Token)
	began := time.Now()
	p, err := s.proposeRetryBusy(h, cmd.Append(nil), max(timeout, timeoutMin))
	if err != nil {
		return partition.Outcome{}, err
	}
	select {
	case o := <-outcome:
		s.o.Committed(time.Since(began))
		return o, nil
	case r := <-p.Done():
		if _, err := raft.Outcome(r); err != nil {
			return partition.Outcome{}, err
		}
		return <-outcome, nil // delivered before raft said so
	}
}

// busyRetry is the pause after raft's queue for the shard was full.
const busyRetry = time.Millisecond

// proposeRetryBusy waits out a full queue: what was refused there is not in the
// log, so that another try is safe.
func (s *Service) proposeRetryBusy(h *core.Handle, cmd []byte, timeout time.Duration) (*raft.Proposal, error) {
	deadline := time.Now().Add(timeout)
	for {
		p, err := s.o.Raft.Propose(h.Shard, cmd, timeout)
		if err == nil || !errors.Is(err, raft.ErrBusy) || time.Now().After(deadline) {
			return p, err
		}
		time.Sleep(busyRetry)
	}
}

// proposalError says what a client may conclude from a proposal without outcome,
// or from one that was applied under a newer leader.
func proposalError(err error) error {
	switch {
	case errors.Is(err, raft.ErrUnknown):
		return fmt.Errorf("%w: %w", ErrTimedOut, err)
	case errors.Is(err, raft.ErrDropped), errors.Is(err, raft.ErrClosed), errors.Is(err, raft.ErrBusy),
		errors.Is(err, partition.ErrStaleEpoch):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return err
}
