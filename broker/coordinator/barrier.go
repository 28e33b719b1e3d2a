package coordinator

import (
	"context"
	"fmt"
	"sync"

	"github.com/millrace-io/millrace/broker/model"
)

// barrier lets many reads share one proof that this node still leads. A read
// joins the round that begins after it came; at most one round is under way.
type barrier struct {
	log Log
	id  model.PartitionID
	ctx context.Context

	mu      sync.Mutex // guards the rest
	running bool
	next    *round // of those that wait for the round under way to end
}

type round struct {
	done chan struct{}
	err  error // written before done is closed
}

// wait returns nil when what was committed before the call is visible here.
func (b *barrier) wait(ctx context.Context) error {
	b.mu.Lock()
	if b.next == nil {
		b.next = &round{done: make(chan struct{})}
	}
	r := b.next
	if !b.running {
		b.running = true
		go b.run()
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run holds rounds until nobody waits.
func (b *barrier) run() {
	for {
		b.mu.Lock()
		r := b.next
		b.next = nil
		b.running = r != nil
		b.mu.Unlock()
		if r == nil {
			return
		}
		if err := b.log.Barrier(b.ctx, b.id); err != nil {
			r.err = fmt.Errorf("%w: leadership could not be confirmed: %w", ErrNotCoordinator, err)
		}
		close(r.done)
	}
}
