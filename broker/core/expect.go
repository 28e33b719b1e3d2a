package core

import (
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// awaited is where the outcome of a proposal goes; it takes one without waiting.
type awaited struct {
	shard model.ShardID
	to    chan partition.Outcome
}

// Expect registers a proposal's token before it is proposed; the channel gets
// its outcome when the command is applied here, or one of ErrDeposed. Forget must follow.
func (h *Handle) Expect(token uint64) <-chan partition.Outcome {
	ch := make(chan partition.Outcome, 1)
	h.core.expectedMu.Lock()
	h.core.expected[token] = awaited{h.Shard, ch}
	h.core.expectedMu.Unlock()
	return ch
}

// Forget ends what Expect began.
func (h *Handle) Forget(token uint64) {
	h.core.expectedMu.Lock()
	delete(h.core.expected, token)
	h.core.expectedMu.Unlock()
}

// tell hands an outcome to who expects it, if anybody does.
func (c *Core) tell(o *partition.Outcome) {
	c.expectedMu.Lock()
	who, ok := c.expected[o.Token]
	delete(c.expected, o.Token)
	c.expectedMu.Unlock()
	if ok {
		who.to <- *o
	}
}

// deposedWait is how long what a deposed leader had proposed may still be applied here:
// where leadership was handed over it is, within a moment. Who was cut off would wait
// for as long as its clients do.
const deposedWait = 500 * time.Millisecond

// giveUp tells those who expect outcomes of a shard now that there are none, unless they
// come within deposedWait.
func (c *Core) giveUp(shard model.ShardID) {
	var tokens []uint64
	c.expectedMu.Lock()
	for token, who := range c.expected {
		if who.shard == shard {
			tokens = append(tokens, token)
		}
	}
	c.expectedMu.Unlock()
	if len(tokens) == 0 {
		return
	}
	time.AfterFunc(deposedWait, func() {
		for _, token := range tokens {
			c.tell(&partition.Outcome{Token: token, Err: ErrDeposed})
		}
	})
}
