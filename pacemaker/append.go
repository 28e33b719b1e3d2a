package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/script"
)

const (
	// emptyDelayMax and emptyOffsetsMax bound how far a child may stand behind what
	// was taken only because nothing came out for it: what a crash repeats.
	emptyDelayMax   = 100 * time.Millisecond
	emptyOffsetsMax = 10_000
	// mergeBytesMax bounds what waiting pieces are merged into: one command.
	mergeBytesMax = 1 << 20
)

// appendAll gives pieces to the targets, in order. It returns nil at the leg's
// end, or once spec is no longer the newest and all that was read is appended.
func (l *leg) appendAll(ctx context.Context, spec *Spec, stop func(), pieces <-chan piece) error {
	timer := time.NewTimer(emptyDelayMax)
	defer timer.Stop()
	armed := true // the timer runs; its first tick finds nothing to do
	due := false
	for {
		// Before pieces: a tick that is left behind would cut the next wait short.
		select {
		case <-l.f.changed:
		default:
		}
		if l.f.spec.Load() != spec {
			stop()
		}
		// What is due comes first, and the end before that: of what is ready a select draws
		// one, and pieces that keep coming would put off what children are told.
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if due || armed && elapsed(timer) {
			due, armed = false, false
			if err := l.tellAll(ctx); err != nil {
				return err
			}
			continue // the spec may have changed meanwhile
		}
		select {
		case p, ok := <-pieces:
			if !ok {
				return l.tellAll(ctx)
			}
			if done, err := l.takeReady(ctx, p, pieces); done {
				return err
			}
			if !armed && l.behind() {
				timer.Reset(emptyDelayMax)
				armed = true
			}
		case <-timer.C:
			due = true
		case <-l.f.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// elapsed takes a timer's tick, if it has come.
func elapsed(t *time.Timer) bool {
	select {
	case <-t.C:
		return true
	default:
		return false
	}
}

// takeReady gives p and the pieces that wait behind it now, merged as far as they
// may be. What comes meanwhile is for the next time: whether it does is the scheduler's
// choice. done: the leg is over.
func (l *leg) takeReady(ctx context.Context, p piece, pieces <-chan piece) (done bool, err error) {
	waiting := len(pieces)
	for {
		next, more := piece{}, false
		for p.plain() && waiting > 0 {
			waiting--
			next, more = <-pieces
			if !more || !next.plain() || p.bytes+next.bytes > mergeBytesMax {
				break
			}
			p.merge(next)
			more = false
		}
		if done, err := l.take(ctx, p); done || !more {
			return done, err
		}
		p = next
	}
}

// take gives one piece. An error piece ends the leg, after all were told.
func (l *leg) take(ctx context.Context, p piece) (done bool, err error) {
	if p.err != nil {
		if err := l.tellAll(ctx); err != nil {
			return true, err
		}
		return true, p.err
	}
	if err := l.give(ctx, p); err != nil {
		return true, err
	}
	return false, nil
}

// plain tells that nothing but outputs came out: it may be merged with others,
// and children without outputs need not be told at once.
func (p *piece) plain() bool { return p.err == nil && p.gap == 0 && len(p.failed) == 0 }

// empty tells that nothing came out at all.
func (p *piece) empty() bool { return p.plain() && len(p.batches) == 0 }

// merge appends next, which follows p. p is plain; next may have failures.
func (p *piece) merge(next piece) {
	if p.batches == nil {
		p.batches = map[int][][]byte{}
	}
	for i, b := range next.batches {
		p.batches[i] = append(p.batches[i], b...)
	}
	p.failed, p.letters = next.failed, next.letters
	p.to, p.bytes = next.to, p.bytes+next.bytes
	p.in, p.out, p.dropped, p.cpu = p.in+next.in, p.out+next.out, p.dropped+next.dropped, p.cpu+next.cpu
}

// give appends p to the targets. Where records failed or are gone, every target
// is told now.
func (l *leg) give(ctx context.Context, p piece) error {
	all := !p.plain()
	l.pos = p.to
	var due []*child
	for _, c := range l.targets {
		if c.at < p.to && (all || len(l.batchesOf(c, &p)) > 0 || l.pos-c.at >= emptyOffsetsMax) {
			due = append(due, c)
		}
	}
	err := each(len(due), func(i int) error { return l.append(ctx, due[i], p.to, l.batchesOf(due[i], &p), &p) })
	if err == nil {
		l.f.status.took(&p, l.least())
	}
	return err
}

func (l *leg) batchesOf(c *child, p *piece) [][]byte {
	for i := range l.all {
		if &l.all[i] == c {
			return p.batches[i]
		}
	}
	return nil
}

// append moves one child to an offset with what came out for it; p, if not nil,
// says what failed or was gone on the way.
func (l *leg) append(ctx context.Context, c *child, to model.Offset, batches [][]byte, p *piece) error {
	src := partition.Source{Key: l.f.key, Activation: l.plan.Activation, Seen: l.seen, From: c.at, To: to}
	if p != nil {
		src.Gap = p.gap
		if l.plan.OnError == script.Skip {
			for _, bad := range p.failed {
				src.Verdicts = append(src.Verdicts, bad.Offset)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err // a child takes what it is given, whoever still waits for its answer
	}
	state, err := l.f.o.Children.AppendSource(ctx, c.ID, src, batches)
	if err != nil {
		err = fmt.Errorf("append [%d, %d) to %s-%d: %w", src.From, src.To, c.Topic, c.ID.Index, err)
		if refused(err) {
			return &halt{reason: err.Error(), offset: model.NoOffset}
		}
		return err
	}
	c.at = state.Offset
	return nil
}

// refused tells that a child will not take the same append another time either.
func refused(err error) bool {
	for _, is := range []error{
		produce.ErrScriptFailed, script.ErrScriptFailed, produce.ErrTooLarge, produce.ErrInvalidRecord, produce.ErrInvalidTimestamp,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// tellAll tells the targets that nothing came out for them since.
func (l *leg) tellAll(ctx context.Context) error {
	var due []*child
	for _, c := range l.targets {
		if c.at < l.pos {
			due = append(due, c)
		}
	}
	if len(due) == 0 {
		return nil
	}
	err := each(len(due), func(i int) error { return l.append(ctx, due[i], l.pos, nil, nil) })
	if err == nil {
		l.f.status.at(l.least())
	}
	return err
}

// behind tells whether a target was not told of what was taken.
func (l *leg) behind() bool { return l.least() < l.pos }

// least is where the last of the targets stands.
func (l *leg) least() model.Offset {
	least := model.OffsetMax
	for _, c := range l.targets {
		least = min(least, c.at)
	}
	return least
}
