package core

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// Handle is how everyone but the loop knows a partition. Its methods may be
// called from any goroutine; it is also the raft.StateMachine of the replica.
type Handle struct {
	ID    model.PartitionID
	Shard model.ShardID
	// Topic is the topic's name.
	Topic string
	core  *Core
	files partition.Options // how it is opened
	// serving is the epoch that this node serves under, NoEpoch while it does not.
	serving atomic.Int64
	// leading is the epoch that raft says this node leads under.
	leading atomic.Int64
	// led tells whether raft knows here who leads.
	led atomic.Bool
	// recovering is set while what another node has is brought here, by a note.
	recovering atomic.Bool
	config     atomic.Pointer[config.Topic]
	// dropped is set when the partition leaves this node: nothing is proposed then.
	dropped  atomic.Bool
	expected expected
}

// Serving gives the epoch that this node serves the partition under.
func (h *Handle) Serving() (model.LeaderEpoch, bool) {
	e := model.LeaderEpoch(h.serving.Load())
	return e, e != model.NoEpoch
}

// Config is the topic's configuration as last set; never nil once it was set.
func (h *Handle) Config() *config.Topic { return h.config.Load() }

// SetConfig changes the topic's configuration here.
func (h *Handle) SetConfig(t *config.Topic) {
	h.config.Store(t)
	h.core.send(&configureEvent{shard: h.Shard, config: PartitionConfig(t)})
}

// Lead tells the loop what raft says: this node leads the shard under epoch, or
// somebody else (or nobody) does.
func (h *Handle) Lead(leads bool, epoch model.LeaderEpoch) {
	if leads {
		h.leading.Store(int64(epoch))
	} else {
		h.leading.Store(int64(model.NoEpoch))
	}
	h.core.send(&leadEvent{shard: h.Shard, leads: leads, epoch: epoch})
}

// Led tells whether raft knows who leads the shard, this node or another. A replica that
// hears of no leader may miss what others have, and answers nobody. Tell it before Lead.
func (h *Handle) Led(known bool) { h.led.Store(known) }

// Query runs f on the loop that owns the partition and waits for it. f must be
// quick: it reads no file and keeps nothing of p. After an error f has not run
// and will not.
func (h *Handle) Query(ctx context.Context, f func(p *partition.Partition)) error {
	e := &queryEvent{shard: h.Shard, f: f, reply: make(chan error, 1)}
	if !h.core.send(e) {
		return ErrClosed
	}
	select {
	case err := <-e.reply:
		return err
	case <-h.core.done:
	case <-ctx.Done():
		if e.claimed.CompareAndSwap(false, true) {
			return fmt.Errorf("query partition %s-%d: %w", h.Topic, h.ID.Index, ctx.Err())
		}
	}
	if err, ok := await(h.core, e.reply); ok {
		return err
	}
	return ErrClosed
}

// Open is raft's first call: the checkpoint's raft index.
func (h *Handle) Open(<-chan struct{}) (uint64, error) {
	var applied uint64
	err := h.Query(context.Background(), func(p *partition.Partition) { applied = p.Applied() })
	return applied, err
}

// Apply hands committed entries to the loop and waits until they are applied; for
// ever when they cannot be, since the node is stopping for it.
func (h *Handle) Apply(entries []partition.Entry) error {
	e := &applyEvent{shard: h.Shard, entries: entries, reply: make(chan error, 1)}
	if !h.core.send(e) {
		return ErrClosed
	}
	if err, ok := await(h.core, e.reply); ok {
		return err
	}
	return ErrClosed
}

// Sync returns once a durable checkpoint covers everything applied so far. It is
// not called once raft has closed.
func (h *Handle) Sync() error {
	e := &syncEvent{shard: h.Shard, reply: make(chan error, 1)}
	if !h.core.send(e) {
		return ErrClosed
	}
	if err, ok := await(h.core, e.reply); ok {
		return err
	}
	return ErrClosed
}

// Close is raft's last call; the loop keeps the partition until Drop or Close.
func (h *Handle) Close() error { return nil }

// Core is the loop that owns the partition.
func (h *Handle) Core() model.CoreID { return h.core.id }
