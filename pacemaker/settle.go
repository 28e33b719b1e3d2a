package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/script"
)

// errAhead says that a child knows a newer activation than this node's metadata.
var errAhead = errors.New("a child has taken a newer activation; waiting for the cluster's metadata")

// settle asks every child where it stands and, where some do not know plan's
// activation yet, brings them to one offset and activates it.
func (f *fiber) settle(ctx context.Context, spec, plan *Spec) ([]child, error) {
	children := childrenOf(plan, f.key.Parent.Index)
	states, err := f.ask(ctx, children)
	if err != nil {
		return nil, err
	}
	taken, err := takenBy(plan, states)
	if err != nil {
		return nil, err
	}
	if taken == len(children) {
		return place(children, states), nil
	}
	if len(children) > 1 {
		if states, err = f.announce(ctx, plan, children, states); err != nil {
			return nil, err
		}
		if taken, err = takenBy(plan, states); err != nil {
			return nil, err
		}
	}
	if taken == 0 && slices.ContainsFunc(states, func(s partition.SourceState) bool { return s.Known }) {
		f.status.starts(plan)
		if err := f.barrier(ctx, plan, states); err != nil {
			return nil, err
		}
		if states, err = f.ask(ctx, children); err != nil {
			return nil, err
		}
	}
	if states, err = f.activate(ctx, spec, plan, children, states); err != nil {
		return nil, err
	}
	return place(children, states), nil
}

// takenBy counts the children that know plan's activation.
func takenBy(plan *Spec, states []partition.SourceState) (taken int, err error) {
	for _, s := range states {
		switch {
		case max(s.Activation, s.Announced) > plan.Activation:
			return 0, errAhead
		case s.Known && s.Activation == plan.Activation:
			taken++
		}
	}
	return taken, nil
}

// announce tells the children that plan's activation comes. From then on only
// fibers that know it can move them: one on another node, of older metadata, would
// carry on those that were not activated yet.
func (f *fiber) announce(ctx context.Context, plan *Spec, children []child, states []partition.SourceState) ([]partition.SourceState, error) {
	told := slices.Clone(states)
	err := each(len(children), func(i int) error {
		if states[i].Announced == plan.Activation {
			return nil
		}
		var err error
		told[i], err = f.o.Children.Activate(ctx, children[i].ID, partition.Activate{Key: f.key, Activation: plan.Activation, Announce: true})
		if err != nil {
			return fmt.Errorf("announce %d to %s-%d: %w", plan.Activation, children[i].Topic, children[i].ID.Index, err)
		}
		return nil
	})
	return told, err
}

// place notes where the children stand.
func place(children []child, states []partition.SourceState) []child {
	for i := range children {
		children[i].at, children[i].verdicts = states[i].Offset, states[i].Verdicts
	}
	return children
}

// askParallel bounds the questions that a fiber has under way at one time.
const askParallel = 16

// ask gives the state of every child, in their order.
func (f *fiber) ask(ctx context.Context, children []child) ([]partition.SourceState, error) {
	states := make([]partition.SourceState, len(children))
	err := each(len(children), func(i int) error {
		var err error
		states[i], err = f.o.Children.Source(ctx, children[i].ID, f.key)
		if err != nil {
			return fmt.Errorf("ask %s-%d for its source offset: %w", children[i].Topic, children[i].ID.Index, err)
		}
		return nil
	})
	return states, err
}

// each calls do for 0..n-1, at most askParallel at a time, and gives one error.
func each(n int, do func(int) error) error {
	if n == 1 {
		return do(0)
	}
	seats, errs := make(chan struct{}, askParallel), make(chan error, n)
	for i := range n {
		seats <- struct{}{}
		go func() {
			errs <- do(i)
			<-seats
		}()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// barrier brings the children of the activation before plan to one offset, the
// way that activation would have. Children that are gone since are left out.
func (f *fiber) barrier(ctx context.Context, plan *Spec, states []partition.SourceState) error {
	old := newest(states)
	if len(states) == 1 || slices.ContainsFunc(states, func(s partition.SourceState) bool { return s.Known && s.Activation != old }) {
		return nil // alone, or past the barrier of an activation that was overtaken
	}
	before, err := f.o.Plans.Recall(ctx, f.key.Script, old)
	if err == nil {
		before = before.ForTopic(f.topic)
		err = f.levelOut(ctx, before, plan)
	}
	var h *halt
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoPlan) && level(states):
		return nil
	case errors.Is(err, ErrNoPlan):
		h = &halt{reason: fmt.Sprintf("children stand at different offsets under activation %d, of which nothing is known: seek the script", old), offset: model.NoOffset}
	case !errors.As(err, &h):
		return fmt.Errorf("finish activation %d: %w", old, err)
	}
	if plan.ByKey || before == nil || before.ByKey || before.OnError == script.Dead {
		// Another routing of the same records would lose or repeat some, and dead
		// letters are told apart by their activation.
		return h
	}
	f.log.Warn("children change activation at different offsets", "from", old, "to", plan.Activation, "reason", h.reason)
	return nil
}

// newest gives the highest activation that any child knows.
func newest(states []partition.SourceState) model.Activation {
	a := model.Activation(0)
	for _, s := range states {
		if s.Known {
			a = max(a, s.Activation)
		}
	}
	return a
}

// level tells whether all children that know the script stand at one offset.
func level(states []partition.SourceState) bool {
	at := model.NoOffset
	for _, s := range states {
		if s.Known && at != model.NoOffset && s.Offset != at {
			return false
		}
		if s.Known {
			at = s.Offset
		}
	}
	return true
}

// levelOut runs before's laggards until its children stand level.
func (f *fiber) levelOut(ctx context.Context, before, plan *Spec) error {
	for {
		children, err := f.askOld(ctx, before, plan)
		if err != nil {
			return err
		}
		if len(children) == 0 {
			return nil
		}
		l, err := f.nextLeg(ctx, before, plan.Activation, children)
		switch {
		case err != nil:
			return err
		case l == nil:
			continue
		case l.main:
			return nil
		}
		f.status.starts(before)
		if err := l.run(ctx, f.spec.Load()); err != nil {
			return err
		}
	}
}

// askOld gives before's children that still exist and stand under it.
func (f *fiber) askOld(ctx context.Context, before, plan *Spec) ([]child, error) {
	var there []child
	for _, c := range childrenOf(before, f.key.Parent.Index) {
		s, err := f.o.Children.Source(ctx, c.ID, f.key)
		still := slices.ContainsFunc(plan.Outputs, func(o script.Output) bool { return o.ID == c.ID.Topic })
		switch {
		case errors.Is(err, produce.ErrUnknownPartition) && !still:
			continue
		case err != nil:
			return nil, fmt.Errorf("ask %s-%d for its source offset: %w", c.Topic, c.ID.Index, err)
		case !s.Known || s.Activation != before.Activation:
			continue
		}
		c.at, c.verdicts = s.Offset, s.Verdicts
		there = append(there, c)
	}
	return there, nil
}

// activate gives plan's activation to the children that do not know it. Those
// that took the last one that set offsets go on where they stand; those that
// did not, and new ones, begin where the others stand, or where the script does.
func (f *fiber) activate(ctx context.Context, spec, plan *Spec, children []child, states []partition.SourceState) ([]partition.SourceState, error) {
	kept := func(s partition.SourceState) bool { return s.Known && s.Activation >= spec.KeepFrom }
	base := model.OffsetMax
	for _, s := range states {
		if kept(s) {
			base = min(base, s.Offset)
		}
	}
	if base == model.OffsetMax {
		base = spec.StartOf(f.key.Parent)
	}
	last := newest(states)
	err := each(len(children), func(i int) error {
		s, c := states[i], children[i]
		if s.Known && s.Activation == plan.Activation {
			return nil
		}
		a := partition.Activate{Key: f.key, Activation: plan.Activation, Offset: base, Keep: kept(s)}
		got, err := f.o.Children.Activate(ctx, c.ID, a)
		switch {
		case err != nil:
			return fmt.Errorf("activate %d in %s-%d: %w", a.Activation, c.Topic, c.ID.Index, err)
		case !got.Known || got.Activation != plan.Activation:
			return errAhead
		}
		states[i] = got
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.status.began(plan.Activation, base)
	f.log.Info("activation taken", "activation", plan.Activation, "before", last, "offset", base)
	return states, nil
}
