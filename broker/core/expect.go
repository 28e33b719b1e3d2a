package core

import (
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/partition"
)

// expected are the proposals whose outcomes somebody waits for, by token; a channel takes
// one without waiting. The loop and proposers share it.
type expected struct {
	mu sync.Mutex
	to map[uint64]chan partition.Outcome
}

// Expect registers a proposal's token before it is proposed; the channel gets
// its outcome when the command is applied here, or one of ErrDeposed. Forget must follow.
func (h *Handle) Expect(token uint64) <-chan partition.Outcome {
	ch := make(chan partition.Outcome, 1)
	h.expected.mu.Lock()
	defer h.expected.mu.Unlock()
	if h.expected.to == nil {
		h.expected.to = map[uint64]chan partition.Outcome{}
	}
	h.expected.to[token] = ch
	return ch
}

// Forget ends what Expect began.
func (h *Handle) Forget(token uint64) { h.expected.take(token) }

// take gives where an outcome goes, once; nil if nobody expects it.
func (e *expected) take(token uint64) chan<- partition.Outcome {
	e.mu.Lock()
	defer e.mu.Unlock()
	ch := e.to[token]
	delete(e.to, token)
	return ch
}

// tell hands an outcome to who expects it, if anybody does.
func (e *expected) tell(o *partition.Outcome) {
	if to := e.take(o.Token); to != nil {
		to <- *o
	}
}

// deposedWait is how long what a deposed leader had proposed may still be applied here:
// where leadership was handed over it is, within a moment. Who was cut off would wait
// for as long as its clients do.
const deposedWait = 500 * time.Millisecond

// giveUp tells those who expect outcomes now that there are none, unless they come within
// deposedWait.
func (e *expected) giveUp() {
	e.mu.Lock()
	tokens := make([]uint64, 0, len(e.to))
	for token := range e.to {
		tokens = append(tokens, token)
	}
	e.mu.Unlock()
	if len(tokens) == 0 {
		return
	}
	slices.Sort(tokens) // who proposed first hears first
	time.AfterFunc(deposedWait, func() {
		for _, token := range tokens {
			e.tell(&partition.Outcome{Token: token, Err: ErrDeposed})
		}
	})
}
