package engine

import (
	"fmt"
	"sync"

	"github.com/millrace-io/millrace/plugins/control"
)

// account counts the memory of all guests.
type account struct {
	max int64

	mu   sync.Mutex
	used int64
}

func newAccount(max int64) *account { return &account{max: max} }

// take reserves what a new guest begins with, or fails with control.ErrMemory.
func (a *account) take(bytes int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used+bytes > a.max {
		return fmt.Errorf("%w: %d MiB of %d MiB are taken, an instance begins with %d MiB",
			control.ErrMemory, a.used>>20, a.max>>20, (bytes+1<<20-1)>>20)
	}
	a.used += bytes
	return nil
}

// change notes that a guest grew, or that it is gone. It answers whether the
// guests have more than they may.
func (a *account) change(bytes int64) (over bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used += bytes
	return a.used > a.max
}

func (a *account) over() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used > a.max
}
