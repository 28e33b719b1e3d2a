package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
)

const (
	// retryMin and retryMax bound the pause after what may mend itself: a leader
	// that moves, a sidecar that starts.
	retryMin = 5 * time.Millisecond
	retryMax = time.Second
	// memoryRetry is the pause after the sidecar had no memory for the fiber.
	memoryRetry = 5 * time.Second
)

// halt stops a fiber until somebody does something about it.
type halt struct {
	reason string
	offset model.Offset // of the record that failed, or NoOffset
}

// Error gives the reason.
func (h *halt) Error() string { return h.reason }

// errPaused says that the script is paused and the children stand level.
var errPaused = errors.New("paused")

// fiber runs one script on one parent partition. Its fields are owned by run's
// goroutine but for spec, changed and status.
type fiber struct {
	o       *Options
	log     *slog.Logger
	key     model.SourceKey
	topic   string // the parent's name
	seats   chan struct{}
	spec    atomic.Pointer[Spec]
	changed chan struct{} // a tick after spec was replaced, or when waiting may be over
	status  status
	cancel  context.CancelFunc
	done    chan struct{} // closed when run has ended

	guest     async.Fiber // nil while none is open
	guestSpec *Spec
	plan      *Spec // of the newest activation, as remembered
}

func newFiber(o *Options, seats chan struct{}, s *Spec, topic string, parent model.PartitionID) *fiber {
	f := &fiber{
		o: o, key: model.SourceKey{Script: s.Script, Parent: parent}, topic: topic, seats: seats,
		changed: make(chan struct{}, 1), done: make(chan struct{}),
	}
	f.log = o.Log.With("script", s.Name, "parent", f.topic, "partition", parent.Index)
	f.spec.Store(s.ForTopic(topic))
	f.status.begin(o.Now)
	return f
}

// update hands over a newer spec.
func (f *fiber) update(s *Spec) {
	f.spec.Store(s.ForTopic(f.topic))
	f.nudge()
}

// nudge makes a waiting fiber look again.
func (f *fiber) nudge() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (f *fiber) run(ctx context.Context) {
	defer close(f.done)
	defer f.closeGuest()
	pause := retryMin
	for ctx.Err() == nil {
		spec, before := f.spec.Load(), f.status.progress()
		err := f.pass(ctx, spec)
		if f.status.progress() != before {
			pause = retryMin
		}
		var h *halt
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, errPaused):
			f.status.settled(statePaused, "")
			f.waitChange(ctx, spec)
		case errors.As(err, &h):
			f.log.Warn("fiber stopped", "offset", h.offset, "reason", h.reason)
			f.status.failed(h.reason, h.offset)
			f.status.settled(stateStopped, h.reason)
			f.waitRelease(ctx, spec)
		default:
			if guestLost(err) {
				f.closeGuest()
			}
			f.status.waits(err.Error())
			f.waitRetry(ctx, err, &pause)
		}
	}
}

// pass settles where the children stand and does the next leg. nil: go on.
func (f *fiber) pass(ctx context.Context, spec *Spec) error {
	if spec.Fault != "" {
		return &halt{reason: spec.Fault, offset: model.NoOffset}
	}
	plan, err := f.remember(ctx, spec)
	if err != nil {
		return err
	}
	children, err := f.settle(ctx, spec, plan)
	if err != nil {
		return err
	}
	f.status.applied(plan, children)
	l, err := f.nextLeg(ctx, plan, plan.Activation, children)
	if err != nil || l == nil {
		return err
	}
	if l.main && spec.Paused {
		return errPaused
	}
	f.status.runs()
	return l.run(ctx, spec)
}

// remember gives the plan of spec's activation, and checks that the children
// are still the topics that it was made for.
func (f *fiber) remember(ctx context.Context, spec *Spec) (*Spec, error) {
	if f.plan == nil || f.plan.Activation != spec.Activation {
		plan, err := f.recall(ctx, spec)
		if err != nil {
			return nil, err
		}
		f.plan = plan
	}
	for i, o := range f.plan.Outputs {
		if i >= len(spec.Outputs) || spec.Outputs[i].ID != o.ID {
			return nil, &halt{reason: fmt.Sprintf("child topic %q was deleted: deploy the script again or remove it", o.Topic), offset: model.NoOffset}
		}
	}
	return f.plan, nil
}

func (f *fiber) recall(ctx context.Context, spec *Spec) (*Spec, error) {
	plan, err := f.o.Plans.Recall(ctx, spec.Script, spec.Activation)
	if err == nil {
		return plan.ForTopic(f.topic), nil
	}
	if !errors.Is(err, ErrNoPlan) {
		return nil, fmt.Errorf("recall activation %d: %w", spec.Activation, err)
	}
	for _, o := range spec.Outputs {
		if o.ID.IsZero() {
			return nil, &halt{reason: fmt.Sprintf("child topic %q does not exist: deploy the script again or remove it", o.Topic), offset: model.NoOffset}
		}
	}
	plan, err = f.o.Plans.Remember(ctx, spec.Whole())
	if err != nil {
		return nil, fmt.Errorf("remember activation %d: %w", spec.Activation, err)
	}
	return plan.ForTopic(f.topic), nil
}

// waitChange waits until spec is no longer the newest.
func (f *fiber) waitChange(ctx context.Context, spec *Spec) {
	for ctx.Err() == nil && f.spec.Load() == spec {
		select {
		case <-f.changed:
		case <-ctx.Done():
		}
	}
}

// waitRelease waits until somebody deployed, sought, paused or resumed, or
// until the children are other topics.
func (f *fiber) waitRelease(ctx context.Context, spec *Spec) {
	for ctx.Err() == nil {
		now := f.spec.Load()
		if now.Activation != spec.Activation || now.Updated != spec.Updated || now.Fault != spec.Fault || !sameOutputs(now, spec) {
			return
		}
		select {
		case <-f.changed:
		case <-ctx.Done():
		}
	}
}

func sameOutputs(a, b *Spec) bool {
	if len(a.Outputs) != len(b.Outputs) {
		return false
	}
	for i := range a.Outputs {
		if a.Outputs[i].ID != b.Outputs[i].ID {
			return false
		}
	}
	return true
}

// waitRetry pauses after err, longer each time, or until something changed.
func (f *fiber) waitRetry(ctx context.Context, err error, pause *time.Duration) {
	wait := *pause
	*pause = min(*pause*2, retryMax)
	if errors.Is(err, control.ErrMemory) {
		wait = memoryRetry
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.changed:
	case <-ctx.Done():
	}
}

// openGuest makes the sidecar ready for plan. It keeps a guest that is.
func (f *fiber) openGuest(ctx context.Context, plan *Spec) error {
	if f.guest != nil && f.guestSpec == plan {
		return nil
	}
	f.closeGuest()
	input := plan.InputOf(f.topic)
	if input < 0 {
		return &halt{reason: fmt.Sprintf("activation %d does not read topic %q", plan.Activation, f.topic), offset: model.NoOffset}
	}
	g, err := f.o.Sidecar.Open(ctx, plan.FiberSpec(f.key.Parent, input))
	if err != nil {
		return fmt.Errorf("open script %q in the sidecar: %w", plan.Name, err)
	}
	f.guest, f.guestSpec = g, plan
	return nil
}

func (f *fiber) closeGuest() {
	if f.guest != nil {
		_ = f.guest.Close() // its stream may be gone already
		f.guest, f.guestSpec = nil, nil
	}
}
