package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
	"github.com/millrace-io/millrace/sidecar/host"
)

// fibersMax bounds what one session opens; each has buffers of some MiB when
// it works.
const fibersMax = 1 << 16

// partitionsMax bounds an output; more than any cluster has.
const partitionsMax = 1 << 20

// retriesMax bounds how often one record runs, so that a fiber cannot be stuck.
const retriesMax = 100

// fiber implements async.Fiber.
type fiber struct {
	session *Session
	script  *script
	spec    async.FiberSpec
	parked  atomic.Pointer[string]

	mu     sync.Mutex // held over a whole Transform: batches are taken in order
	closed bool
	input  input
	out    *emitter
	walk   walk
	own    *instance // of guests that stay with their fiber; nil = none now
}

// Open implements async.Opener.
func (s *Session) Open(ctx context.Context, spec async.FiberSpec) (async.Fiber, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found, err := s.script(spec.Digest)
	if err != nil {
		return nil, err
	}
	if err := checkSpec(found, spec); err != nil {
		return nil, err
	}
	if err := found.reserve(0); err != nil {
		return nil, err
	}
	f := &fiber{session: s, script: found, spec: spec, out: newEmitter(spec.Outputs, spec.Parent.Index)}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, control.ErrSession
	case len(s.fibers) >= fibersMax:
		return nil, fmt.Errorf("%w: %d fibers are open, the limit is %d", control.ErrMemory, len(s.fibers), fibersMax)
	}
	s.fibers = append(s.fibers, f)
	found.fibers.Add(1)
	return f, nil
}

func checkSpec(s *script, spec async.FiberSpec) error {
	refuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: fiber of %s on %s/%d: %s", control.ErrRequest, s.Name, spec.Topic, spec.Parent.Index, fmt.Sprintf(format, a...))
	}
	switch {
	case s.Mode != control.Async:
		return refuse("the script is %s", s.Mode)
	case spec.Input < 0 || spec.Input >= max(1, len(s.Inputs)):
		return refuse("input %d of %d", spec.Input, len(s.Inputs))
	case len(spec.Outputs) != len(s.Outputs):
		return refuse("%d outputs, the script has %d", len(spec.Outputs), len(s.Outputs))
	case spec.Parent.Index < 0:
		return refuse("a negative partition")
	case spec.Retries < 0 || spec.Retries > retriesMax:
		return refuse("%d retries, the limit is %d", spec.Retries, retriesMax)
	}
	for i, o := range spec.Outputs {
		if o.Partitions <= 0 || o.Partitions > partitionsMax || o.Codec < async.CodecNone || o.Codec > async.CodecZstd ||
			o.Routing != async.RouteSame && o.Routing != async.RouteKey {
			return refuse("output %d makes no sense: %+v", i, o)
		}
	}
	return nil
}

// Transform implements async.Fiber.
func (f *fiber) Transform(ctx context.Context, b async.Batch) (async.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.able(ctx); err != nil {
		return async.Result{}, err
	}
	if b.From < 0 || b.To < b.From || !slices.IsSorted(b.Avoid) {
		return async.Result{}, fmt.Errorf("%w: range %d to %d, or what to avoid in it", control.ErrRequest, b.From, b.To)
	}
	f.input.reset()
	f.out.reset()
	if err := f.input.addRange(b.Records, b.From, b.To, b.Avoid); err != nil {
		return async.Result{}, err
	}
	if err := f.work(ctx); err != nil {
		return async.Result{}, err
	}
	return f.result()
}

func (f *fiber) able(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if reason := f.parkedFor(); reason != "" {
		f.dropOwn()
		return fmt.Errorf("%w: %s", control.ErrMemory, reason)
	}
	select {
	case <-f.session.ended:
		return control.ErrSession
	default:
	}
	if f.closed {
		return control.ErrSession
	}
	return nil
}

// work runs the input through a guest.
func (f *fiber) work(ctx context.Context) error {
	s := f.script
	w := &f.walk
	*w = walk{
		batch: host.Batch{
			Input: uint16(f.spec.Input), Partition: f.spec.Parent.Index, CPUMax: s.BatchTimeMax,
			Seed: seed(s.Digest, f.spec.Parent.Topic, f.spec.Parent.Index),
		},
		workers: s.engine.workers, records: f.input.records, tails: f.input.tails,
		limits:  abi.Limits{Outputs: len(f.spec.Outputs)},
		retries: f.spec.Retries, entries: w.entries, failed: w.failed[:0],
		check: f.out.check,
	}
	dropped := 0
	w.take = func(entries []abi.Entry, lo, hi int) error {
		dropped += hi - lo - sources(entries)
		return f.out.add(entries, w.records[lo:hi], w.tails[lo:hi])
	}
	if s.perFiber() {
		w.guests = f
	} else {
		l := &lease{script: s}
		defer l.done()
		w.guests = l
	}
	err := w.run(ctx)
	s.in.Add(int64(len(w.records)))
	s.out.Add(f.out.written)
	s.bad.Add(int64(len(w.failed)))
	f.input.dropped = int64(dropped)
	return err
}

// sources counts the different sources of entries, which are in their order.
func sources(entries []abi.Entry) int {
	n := 0
	for i := range entries {
		if i == 0 || entries[i].Source != entries[i-1].Source {
			n++
		}
	}
	return n
}

func (f *fiber) result() (async.Result, error) {
	outputs, err := f.out.result()
	if err != nil {
		return async.Result{}, err
	}
	r := async.Result{
		Outputs: outputs, RecordsIn: int64(len(f.input.records)), RecordsOut: f.out.written,
		RecordsDropped: f.input.dropped, CPU: f.walk.cpu,
	}
	for _, bad := range f.walk.failed {
		offset := model.Offset(f.input.records[bad.at].Offset)
		r.Failed = append(r.Failed, async.FailedRecord{Offset: offset, Kind: bad.fault.Kind, Text: bad.fault.Text})
		f.script.fail(fmt.Sprintf("%s/%d offset %d: %s: %s", f.spec.Topic, f.spec.Parent.Index, offset, bad.fault.Kind, bad.fault.Text))
	}
	return r, nil
}

// get implements guests for a fiber with an instance of its own.
func (f *fiber) get(context.Context) (*instance, error) {
	if f.own == nil {
		i, err := f.script.make()
		if err != nil {
			return nil, err
		}
		f.own = i
	}
	f.own.used = time.Now()
	return f.own, nil
}

// drop implements guests.
func (f *fiber) drop(fault *host.Fault) {
	f.own.drop(fault)
	f.own = nil
}

// dropIdle closes the fiber's own instance if it has had no work since; it does
// not wait for one that works.
func (f *fiber) dropIdle(before time.Time) {
	if !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	if f.own != nil && f.own.used.Before(before) {
		f.dropOwn()
	}
}

func (f *fiber) dropOwn() {
	if f.own != nil {
		f.own.close()
		f.own = nil
	}
}

// park makes all later batches fail with the reason; false if it was parked.
func (f *fiber) park(reason string) bool { return f.parked.CompareAndSwap(nil, &reason) }

func (f *fiber) parkedFor() string {
	if reason := f.parked.Load(); reason != nil {
		return *reason
	}
	return ""
}

// Close implements async.Fiber. It waits for a batch under way.
func (f *fiber) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.dropOwn()
	f.script.fibers.Add(-1)
	f.session.forget(f)
	return nil
}

// forget removes a closed fiber.
func (s *Session) forget(f *fiber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.fibers, f); i >= 0 {
		s.fibers = slices.Delete(s.fibers, i, i+1)
	}
}
