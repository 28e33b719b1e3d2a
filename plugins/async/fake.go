package async

import (
	"context"
	"sync"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
)

// Fake runs Go functions instead of guests, for tests.
type Fake struct {
	// Control, if set, decides which digests are loaded, and Die there ends
	// all fibers.
	Control *control.Fake
	// Do transforms a batch; nil drops all records.
	Do func(context.Context, FiberSpec, Batch) (Result, error)
}

// Open implements Opener.
func (f *Fake) Open(ctx context.Context, spec FiberSpec) (Fiber, error) {
	if err := f.able(ctx, spec.Digest); err != nil {
		return nil, err
	}
	return &fakeFiber{fake: f, spec: spec}, nil
}

func (f *Fake) able(ctx context.Context, digest model.Digest) error {
	if err := ctx.Err(); err != nil || f.Control == nil {
		return err
	}
	if err := f.Control.Health(ctx); err != nil {
		return err
	}
	if !f.Control.Loaded(digest) {
		return control.ErrUnknownScript
	}
	return nil
}

// fakeFiber is good until Close or its first error.
type fakeFiber struct {
	fake *Fake
	spec FiberSpec

	mu   sync.Mutex // held over a whole Transform: batches are taken in order
	gone error
}

// Transform implements Fiber.
func (f *fakeFiber) Transform(ctx context.Context, b Batch) (Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	if f.gone == nil {
		f.gone = f.fake.able(ctx, f.spec.Digest)
	}
	if f.gone != nil {
		return Result{}, f.gone
	}
	if f.fake.Do == nil {
		return Result{}, nil
	}
	return f.fake.Do(ctx, f.spec, b)
}

// Close implements Fiber.
func (f *fakeFiber) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = control.ErrDown
	return nil
}
