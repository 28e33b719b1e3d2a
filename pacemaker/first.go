package pacemaker

import (
	"context"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/script"
)

// Where records may fail, one child takes every range before all others: the
// dead letters, or the first output where verdicts are skipped. Two fibers may
// run the same records and see others fail; whose append that child takes has
// decided, and the other's is refused before it wrote anything.

// takeFirst sets the leg's targets: the takers but for the deciding child, which
// it gives if there is one.
func (l *leg) takeFirst() *child {
	l.targets = l.takers
	i := slices.IndexFunc(l.takers, func(c *child) bool { return c.DLQ })
	if i < 0 && l.plan.OnError == script.Skip && len(l.takers) > 1 {
		i = 0
	}
	if i < 0 || l.decided {
		return nil
	}
	l.targets = slices.Delete(slices.Clone(l.takers), i, i+1)
	return l.takers[i]
}

// decideAll gives every piece to first and then on, in order. Empty ones are
// held back to be merged, as long as a child may stand behind them.
func (l *leg) decideAll(ctx context.Context, first *child, in <-chan piece, out chan<- piece) {
	var held *piece
	release := func() bool {
		if held == nil {
			return true
		}
		p := *held
		held = nil
		return l.decide(ctx, first, p, out)
	}
	timer := time.NewTimer(emptyDelayMax)
	defer timer.Stop()
	for {
		if ctx.Err() != nil || elapsed(timer) && !release() { // before what came: see appendAll
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			if !release() {
				return
			}
		case p, more := <-in:
			if !more {
				release()
				return
			}
			merged := held != nil && p.err == nil && p.gap == 0
			if merged {
				held.merge(p)
				p, held = *held, nil
			}
			if p.empty() && p.to-p.from < emptyOffsetsMax {
				held = &p
				if !merged {
					timer.Reset(emptyDelayMax)
				}
				continue
			}
			if !release() || !l.decide(ctx, first, p, out) {
				return
			}
		}
	}
}

// decide gives one piece to first and on; false: the leg is over.
func (l *leg) decide(ctx context.Context, first *child, p piece, out chan<- piece) bool {
	if p.err == nil {
		batches := p.letters
		if !first.DLQ {
			batches = l.batchesOf(first, &p)
		}
		if err := l.append(ctx, first, p.to, batches, &p); err != nil {
			p = piece{err: err}
		}
	}
	select {
	case out <- p:
		return p.err == nil
	case <-ctx.Done():
		return false
	}
}
