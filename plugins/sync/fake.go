package sync

import (
	"context"

	"github.com/millrace-io/millrace/plugins/control"
)

// Fake runs Go functions instead of guests, for tests.
type Fake struct {
	// Control, if set, decides which digests are loaded.
	Control *control.Fake
	// Do transforms a batch; nil answers Unchanged.
	Do func(context.Context, Batch) (Result, error)
}

// Transform implements Transformer.
func (f *Fake) Transform(ctx context.Context, b Batch) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	if f.Control != nil {
		if err := f.Control.Health(ctx); err != nil {
			return Result{}, err
		}
		if !f.Control.Loaded(b.Digest) {
			return Result{}, control.ErrUnknownScript
		}
	}
	if f.Do == nil {
		return Result{Unchanged: true}, nil
	}
	return f.Do(ctx, b)
}
