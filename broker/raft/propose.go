package raft

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/millrace-io/millrace/broker/model"
)

var (
	// ErrDropped says that the command is surely not in the log: another try is safe.
	ErrDropped = errors.New("proposal dropped")
	// ErrUnknown says that the command may have been, or may yet be, applied.
	// Do not propose it again without a way to tell.
	ErrUnknown = errors.New("outcome of the proposal is unknown")
	// ErrBusy says that the shard's queue is full; surely not in the log.
	ErrBusy = errors.New("too many proposals in flight")
	// ErrClosed says that the host or the replica is gone; surely not in the log.
	ErrClosed = errors.New("replica is not running")
	// ErrStopped is ErrClosed for good: the host itself was closed.
	ErrStopped = fmt.Errorf("%w: the node is stopping", ErrClosed)
	// ErrTooLarge says that the command is larger than the log takes at all; surely
	// not in it.
	ErrTooLarge = errors.New("command is larger than the raft log takes")
)

// proposeTimeoutMin is the least time that dragonboat counts: two of its ticks.
const proposeTimeoutMin = 2 * tickMilliseconds * time.Millisecond

// Proposal is a command on its way through the log. One goroutine awaits it, once.
type Proposal struct {
	state *dragonboat.RequestState // of a Host
	fake  chan verdict             // of a Fake
}

// verdict is the log's word on a proposal.
type verdict struct {
	result []byte
	err    error
}

// Propose hands a copy of cmd to the log. An error means
// that it is surely not in the log.
func (h *Host) Propose(shard model.ShardID, cmd []byte, timeout time.Duration) (*Proposal, error) {
	if err := h.checkSize(cmd); err != nil {
		return nil, fmt.Errorf("propose to shard %d: %w", shard, err)
	}
	timeout = max(timeout, proposeTimeoutMin)
	n, err := h.of(shard)
	if err != nil {
		return nil, fmt.Errorf("propose to shard %d: %w", shard, refused(err))
	}
	rs, err := n.Propose(n.GetNoOPSession(uint64(shard)), cmd, timeout)
	if err != nil {
		return nil, fmt.Errorf("propose to shard %d: %w", shard, refused(err))
	}
	return &Proposal{state: rs}, nil
}

// refused translates dragonboat's error for a request that it did not take.
func refused(err error) error {
	switch {
	case errors.Is(err, dragonboat.ErrSystemBusy):
		return ErrBusy
	case errors.Is(err, dragonboat.ErrPayloadTooBig):
		return ErrTooLarge
	case errors.Is(err, dragonboat.ErrClosed):
		return ErrStopped
	case errors.Is(err, dragonboat.ErrShardNotFound),
		errors.Is(err, dragonboat.ErrShardClosed), errors.Is(err, dragonboat.ErrShardNotReady):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return fmt.Errorf("%w: %w", ErrDropped, err)
}

// Await waits for the log's word on p, or for early, which the state machine
// delivers before the log says that it applied the command: whichever is first.
// got tells that v came from early. err is nil once the command was applied here,
// else ErrDropped or ErrUnknown; a ctx that ends first leaves it ErrUnknown too.
// result is what the controller's machine answered.
func Await[T any](ctx context.Context, p *Proposal, early <-chan T) (v T, got bool, result []byte, err error) {
	var decided <-chan dragonboat.RequestResult
	if p.state != nil {
		decided = p.state.ResultC()
	}
	select {
	case v = <-early:
		return v, true, nil, nil
	case r := <-decided:
		result, err = outcome(r)
	case w := <-p.fake:
		result, err = w.result, w.err
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
	select {
	case v = <-early: // both were there
		return v, true, result, nil
	default:
		return v, false, result, err
	}
}

// outcome translates dragonboat's word.
func outcome(r dragonboat.RequestResult) (result []byte, err error) {
	switch {
	case r.Completed():
		v := r.GetResult()
		return v.Data, nil
	case r.Dropped(), r.Rejected():
		return nil, ErrDropped
	}
	return nil, ErrUnknown
}

// Failed waits for the outcome and tells whether the command was applied.
func (p *Proposal) Failed() error {
	_, _, _, err := Await[struct{}](context.Background(), p, nil)
	return err
}

// ProposeController hands a command to the controller's shard and waits until
// it has been applied here. It retries only what was surely dropped.
func (h *Host) ProposeController(ctx context.Context, cmd []byte) ([]byte, error) {
	return proposeController(ctx, h, cmd)
}

// proposer is a Host or a Fake.
type proposer interface {
	Propose(shard model.ShardID, cmd []byte, timeout time.Duration) (*Proposal, error)
}

func proposeController(ctx context.Context, h proposer, cmd []byte) ([]byte, error) {
	for {
		result, err := proposeOnce(ctx, h, cmd)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrUnknown) || errors.Is(err, ErrStopped) || errors.Is(err, ErrTooLarge) {
			return result, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(controllerRetry):
		}
		if over := over(ctx); over != nil {
			return nil, fmt.Errorf("propose to the controller: %w (last: %w)", over, err)
		}
	}
}

// over tells whether ctx has ended, or ends at this moment.
func over(ctx context.Context) error {
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// controllerRetry is the pause after a command was dropped: an election takes longer.
const controllerRetry = 20 * time.Millisecond

// controllerTimeout bounds a metadata command whose asker has no deadline.
const controllerTimeout = 10 * time.Second

func proposeOnce(ctx context.Context, h proposer, cmd []byte) ([]byte, error) {
	timeout := controllerTimeout
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	p, err := h.Propose(ControllerShard, cmd, timeout)
	if err != nil {
		return nil, err
	}
	_, _, result, err := Await[struct{}](ctx, p, nil)
	return result, err
}

// Leader tells who leads shard, as this node knows it.
func (h *Host) Leader(shard model.ShardID) (LeaderChange, bool) {
	n, err := h.of(shard)
	if err != nil {
		return LeaderChange{Shard: shard, Leader: model.NoNode}, false
	}
	id, term, ok, err := n.GetLeaderID(uint64(shard))
	if err != nil || !ok || id == 0 {
		return LeaderChange{Shard: shard, Leader: model.NoNode}, false
	}
	return LeaderChange{Shard: shard, Leader: replicaNode(id), Term: model.LeaderEpoch(term)}, true
}

// Snapshot makes shard's log forget what lies at or below through, which the
// StateMachine must already have made durable.
func (h *Host) Snapshot(ctx context.Context, shard model.ShardID, through uint64) error {
	n, err := h.of(shard)
	if err != nil {
		return fmt.Errorf("request snapshot of shard %d: %w", shard, refused(err))
	}
	rs, err := n.RequestSnapshot(uint64(shard), dragonboat.SnapshotOption{
		OverrideCompactionOverhead: true, CompactionIndex: through,
	}, time.Minute)
	if err != nil {
		return fmt.Errorf("request snapshot of shard %d: %w", shard, refused(err))
	}
	select {
	case r := <-rs.ResultC():
		// Rejected says that a snapshot at this index exists already.
		if !r.Completed() && !r.Rejected() {
			return fmt.Errorf("snapshot of shard %d through index %d did not complete", shard, through)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("snapshot of shard %d: %w", shard, ctx.Err())
	}
}

// barriers batches read barriers per shard: all callers that arrive while one is
// on its way share the next. The library queues few of them.
type barriers struct {
	mu      sync.Mutex
	waiting map[model.ShardID]*barrier // not started: may still be joined
	running map[model.ShardID]bool
}

type barrier struct {
	done chan struct{}
	err  error
}

// Barrier returns nil once everything that was committed to shard when it was
// called has been applied here, proven by a majority.
func (h *Host) Barrier(ctx context.Context, shard model.ShardID) error {
	b := h.joinBarrier(shard)
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("read barrier of shard %d: %w", shard, ctx.Err())
	}
}

// joinBarrier gives a barrier that has not started yet. The first caller starts
// it as soon as the one before it has ended.
func (h *Host) joinBarrier(shard model.ShardID) *barrier {
	h.barriers.mu.Lock()
	defer h.barriers.mu.Unlock()
	if h.barriers.waiting == nil {
		h.barriers.waiting, h.barriers.running = map[model.ShardID]*barrier{}, map[model.ShardID]bool{}
	}
	if b, waiting := h.barriers.waiting[shard]; waiting {
		return b
	}
	b := &barrier{done: make(chan struct{})}
	h.barriers.waiting[shard] = b
	if !h.barriers.running[shard] {
		h.barriers.running[shard] = true
		go h.runBarriers(shard)
	}
	return b
}

// runBarriers ends when nobody has come while the last one was on its way.
func (h *Host) runBarriers(shard model.ShardID) {
	for {
		h.barriers.mu.Lock()
		b := h.barriers.waiting[shard]
		delete(h.barriers.waiting, shard) // from here on it may miss what is written
		if b == nil {
			delete(h.barriers.running, shard)
		}
		h.barriers.mu.Unlock()
		if b == nil {
			return
		}
		b.err = h.runBarrier(shard)
		close(b.done)
	}
}

// barrierTimeout is how long a shard without a majority keeps a reader waiting.
const barrierTimeout = 5 * time.Second

func (h *Host) runBarrier(shard model.ShardID) error {
	n, err := h.of(shard)
	if err != nil {
		return fmt.Errorf("read barrier of shard %d: %w", shard, refused(err))
	}
	rs, err := n.ReadIndex(uint64(shard), barrierTimeout)
	if err != nil {
		return fmt.Errorf("read barrier of shard %d: %w", shard, refused(err))
	}
	defer rs.Release()
	if r := <-rs.ResultC(); !r.Completed() {
		return fmt.Errorf("read barrier of shard %d: %w", shard, ErrDropped)
	}
	return nil
}
