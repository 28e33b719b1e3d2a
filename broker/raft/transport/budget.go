package transport

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// budget bounds the bytes of all frames that are being read and handed over. Who
// finds it spent waits, first come first served, and TCP makes the sender wait.
type budget struct {
	all  int64
	left *semaphore.Weighted
}

func newBudget(bytes int64) *budget {
	return &budget{all: bytes, left: semaphore.NewWeighted(bytes)}
}

// take waits for n bytes and gives what give must get back.
func (b *budget) take(ctx context.Context, n int64) (int64, error) {
	if n <= budgetFreeBytes {
		return 0, nil
	}
	n = min(n, b.all)
	return n, b.left.Acquire(ctx, n)
}

func (b *budget) give(taken int64) { b.left.Release(taken) }
