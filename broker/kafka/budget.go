package kafka

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/block"
	"golang.org/x/sync/semaphore"
)

// errPressed says that a peer gave way: it stalled while others waited for the
// bytes it held. The connection is closed.
var errPressed = errors.New("peer stalled while the node's memory budget was short")

// pool is a budget of bytes shared by all connections. Safe from any goroutine.
type pool struct {
	total   int64
	sem     *semaphore.Weighted
	used    atomic.Int64
	waiting atomic.Int32
}

func newPool(total int64) *pool {
	return &pool{total: total, sem: semaphore.NewWeighted(total)}
}

// acquire takes n bytes, waiting in line for them. n above the total takes all.
func (p *pool) acquire(ctx context.Context, n int64) (int64, error) {
	n = min(n, p.total)
	if p.sem.TryAcquire(n) {
		p.used.Add(n)
		return n, nil
	}
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	if err := p.sem.Acquire(ctx, n); err != nil {
		return 0, err
	}
	p.used.Add(n)
	return n, nil
}

func (p *pool) tryAcquire(n int64) bool {
	if n > p.total || !p.sem.TryAcquire(n) {
		return false
	}
	p.used.Add(n)
	return true
}

func (p *pool) release(n int64) {
	if n > 0 {
		p.used.Add(-n)
		p.sem.Release(n)
	}
}

// pressed tells whether somebody waits.
func (p *pool) pressed() bool { return p.waiting.Load() > 0 }

// free is a hint of what is left.
func (p *pool) free() int64 { return max(0, p.total-p.used.Load()) }

// charge is what one request holds of the request pools until its answer left.
type charge struct {
	step          int64
	small, huge   int64
	decoded       int64 // of the small pool too
	pools         *requestPools
	frame         []byte // to give back with it: nothing of a produce outlives its answer
	alreadyClosed bool
}

// requestPools parts the request budget, so that no frame waits for larger ones:
// frames up to frameStepBytes, and the first bytes of others, share a quarter,
// those up to frameSmallBytes another, what huge frames have beyond that the rest.
// A huge frame takes its share at once, so that no two can hold half of theirs and
// wait for ever.
type requestPools struct{ step, small, huge *pool }

func newRequestPools(total int64) *requestPools {
	return &requestPools{step: newPool(total / 4), small: newPool(total - total/4 - total/2), huge: newPool(total / 2)}
}

// used is what requests hold now.
func (r *requestPools) used() int64 {
	return r.step.used.Load() + r.small.used.Load() + r.huge.used.Load()
}

func (r *requestPools) pressed(c *charge) bool {
	return c.step > 0 && r.step.pressed() || c.small > 0 && r.small.pressed() || c.huge > 0 && r.huge.pressed()
}

// release gives everything back; more than once is harmless.
func (c *charge) release() {
	if c == nil || c.alreadyClosed {
		return
	}
	c.alreadyClosed = true
	c.pools.step.release(c.step)
	c.pools.small.release(c.small + c.decoded)
	c.pools.huge.release(c.huge)
	block.Return(c.frame)
	c.frame = nil
}
