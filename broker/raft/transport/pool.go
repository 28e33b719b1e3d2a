package transport

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// pool keeps connections for calls from one call to the next, and bounds how many
// calls are under way. Any goroutine may use it.
type pool struct {
	// mu guards all that follows, and is never held while something is awaited.
	mu        sync.Mutex
	neighbors map[string]*neighbor
}

// neighbor is what a pool has of one target; there is one as long as somebody
// calls it, or a connection is kept.
type neighbor struct {
	target string
	// turns holds a token for each call under way.
	turns chan struct{}
	// callers are those under way, and those that wait for their turn.
	callers int
	// kept are connections that no call uses, the last used last.
	kept []*callConn
}

func newPool() *pool { return &pool{neighbors: map[string]*neighbor{}} }

// enter waits for a call's turn; leave must follow.
func (p *pool) enter(ctx context.Context, target string) (*neighbor, error) {
	n := p.find(target)
	select {
	case n.turns <- struct{}{}:
		return n, nil
	case <-ctx.Done():
		p.forsake(n)
		return nil, fmt.Errorf("wait for one of %d calls to end: %w", callsMax, ctx.Err())
	}
}

func (p *pool) find(target string) *neighbor {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.neighbors[target]
	if n == nil {
		n = &neighbor{target: target, turns: make(chan struct{}, callsMax)}
		p.neighbors[target] = n
	}
	n.callers++
	return n
}

func (p *pool) leave(n *neighbor) {
	<-n.turns
	p.forsake(n)
}

func (p *pool) forsake(n *neighbor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.callers--
	p.tidy(n)
}

// take gives a kept connection that is not known to be over, or nil.
func (p *pool) take(n *neighbor) *callConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := len(n.kept) - 1; k >= 0; k-- {
		c := n.kept[k]
		n.kept[k], n.kept = nil, n.kept[:k]
		if c.failed() == nil {
			return c
		}
	}
	return nil
}

// put keeps a connection that is not over, or ends it. One to an address without a
// name is not kept: another node may be meant by the next time.
func (p *pool) put(n *neighbor, c *callConn) {
	if name, _ := splitTarget(n.target); name == "" || !p.keep(n, c) {
		c.fail(ErrClosed)
	}
}

func (p *pool) keep(n *neighbor, c *callConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.failed() != nil || len(n.kept) >= callsKeptMax {
		return false
	}
	n.kept = append(n.kept, c)
	return true
}

// sweep drops what is over of a target: one of its connections is.
func (p *pool) sweep(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.neighbors[target]; n != nil {
		n.kept = slices.DeleteFunc(n.kept, func(c *callConn) bool { return c.failed() != nil })
		p.tidy(n)
	}
}

// tidy forgets a target that nobody calls and nothing is kept of.
func (p *pool) tidy(n *neighbor) {
	if n.callers == 0 && len(n.kept) == 0 {
		delete(p.neighbors, n.target)
	}
}
