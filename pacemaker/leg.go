package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// leg is a stretch of the parent that is taken by some children: the main leg
// by all of them and without an end, others by laggards alone, up to where the
// next child stands.
type leg struct {
	f       *fiber
	plan    *Spec
	seen    model.Activation // the newest that this node knows
	from    model.Offset
	until   model.Offset
	main    bool
	all     []child
	outlets map[outlet]int // of all, fixed: stages look there while children move
	takers  []*child       // of all, that are given the stretch
	targets []*child       // takers without the one that decides, while the leg runs
	// decided says that another child has taken this stretch: records in failed
	// failed then, and no other may fail now.
	decided bool
	failed  []model.Offset // ascending

	buffers buffers
	pos     model.Offset // taken by all targets, but for empty ends not yet told them
}

// nextLeg says what the children have to be given next. A nil leg says that
// something was repaired: ask them again. seen is plan's activation or the one
// that is announced.
func (f *fiber) nextLeg(ctx context.Context, plan *Spec, seen model.Activation, children []child) (*leg, error) {
	low, high, dead := model.OffsetMax, model.NoOffset, (*child)(nil)
	for i := range children {
		if c := &children[i]; c.DLQ {
			dead = c
		} else {
			low, high = min(low, c.at), max(high, c.at)
		}
	}
	if high == model.NoOffset { // of the old children only dead letters are left
		return &leg{main: true}, nil
	}
	if dead != nil && dead.at < high {
		// The dead letters came later than the outputs: nothing failed before high.
		return nil, f.advance(ctx, plan, seen, dead, high)
	}
	l := &leg{f: f, plan: plan, seen: seen, from: low, pos: low, until: model.OffsetMax, all: children, outlets: outletsOf(children)}
	for i := range children {
		if c := &children[i]; c.at > low {
			l.until = min(l.until, c.at)
		}
	}
	l.main = l.until == model.OffsetMax
	l.decided = !l.main
	for i := range children {
		if c := &children[i]; c.at == low && (!c.DLQ || l.main) {
			l.takers = append(l.takers, c)
		}
	}
	if l.main {
		return l, nil
	}
	var err error
	l.failed, err = f.failedBefore(ctx, plan, children, l)
	return l, err
}

// failedBefore gives the records of l's stretch that failed when another child
// took it: as the dead letters tell, or the verdicts in the children's logs.
func (f *fiber) failedBefore(ctx context.Context, plan *Spec, children []child, l *leg) ([]model.Offset, error) {
	var failed []model.Offset
	for i := range children {
		c := &children[i]
		for _, v := range c.verdicts {
			if c.at > l.from && v >= l.from && v < l.until {
				failed = append(failed, v)
			}
		}
		if c.DLQ && c.at > l.from {
			more, err := f.deadLetters(ctx, plan, c, l.from, l.until)
			if err != nil {
				return nil, fmt.Errorf("read what failed in [%d, %d): %w", l.from, l.until, err)
			}
			failed = append(failed, more...)
		}
	}
	slices.Sort(failed)
	return slices.Compact(failed), nil
}

// advance tells one child that nothing comes for it before to.
func (f *fiber) advance(ctx context.Context, plan *Spec, seen model.Activation, c *child, to model.Offset) error {
	src := partition.Source{Key: f.key, Activation: plan.Activation, Seen: seen, From: c.at, To: to}
	if _, err := f.o.Children.AppendSource(ctx, c.ID, src, nil); err != nil {
		return fmt.Errorf("advance %s-%d from %d to %d: %w", c.Topic, c.ID.Index, c.at, to, err)
	}
	return nil
}

// outlet names a child by output and partition.
type outlet struct {
	output    int
	partition int32
}

// outletsOf maps outlets to their place among children.
func outletsOf(children []child) map[outlet]int {
	m := make(map[outlet]int, len(children))
	for i, c := range children {
		m[outlet{c.Output, c.ID.Index}] = i
	}
	return m
}

// Stages work on a leg at one time: while one range is appended the next is
// decided, the one after is transformed and one is read. Each channel holds one
// more.
const stageDepth = 1

// run works until the leg's end, until spec is no longer the newest, or until
// something fails. Whatever the targets have been told is in their logs.
func (l *leg) run(ctx context.Context, spec *Spec) error {
	if err := l.f.openGuest(ctx, l.plan); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	reading, stop := context.WithCancel(ctx)
	var stages sync.WaitGroup
	defer stages.Wait()
	defer cancel()
	defer stop()

	l.buffers = make(buffers, buffersKept)
	ranges, pieces := make(chan span, stageDepth), make(chan piece, stageDepth)
	first := l.takeFirst()
	stages.Go(func() {
		defer close(ranges)
		l.read(reading, ranges)
	})
	transformed := pieces
	stages.Go(func() {
		defer close(transformed)
		l.transformAll(ctx, ranges, transformed)
	})
	if first != nil {
		pieces = make(chan piece, stageDepth)
		decided := pieces
		stages.Go(func() {
			defer close(decided)
			l.decideAll(ctx, first, transformed, decided)
		})
	}
	return l.appendAll(ctx, spec, stop, pieces)
}

// guestError marks an error after which the guest's stream is good for nothing.
type guestError struct{ error }

// Unwrap gives the cause.
func (e guestError) Unwrap() error { return e.error }

func guestLost(err error) bool {
	var g guestError
	return errors.As(err, &g)
}
