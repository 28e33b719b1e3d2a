package produce_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/raft"
)

// appended is what a writer was told; unknown: it may be there, or come to be.
type appended struct {
	at      model.Offset
	unknown bool
}

// logModel is a partition as its clients know it: input is a value to append, or
// nil to read; a state is all values, in order.
var logModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{""} },
	Step: func(state, input, output any) []any {
		s := state.(string)
		if input == nil {
			if output == s {
				return []any{s}
			}
			return nil
		}
		o, next := output.(appended), s+input.(string)+";"
		switch {
		case o.unknown:
			return []any{s, next}
		case int(o.at) == strings.Count(s, ";"):
			return []any{next}
		}
		return nil
	},
}

// history is what clients did and saw. mu guards ops.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (h *history) do(client int, input any, f func() (output any, until int64, keep bool)) {
	call := time.Since(h.began).Nanoseconds()
	output, until, keep := f()
	if !keep {
		return
	}
	if until == 0 {
		until = time.Since(h.began).Nanoseconds()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: input, Call: call, Output: output, Return: until})
}

// TestLinearizable: through elections, losses and ghosts, every history that
// clients see is one of a log that takes one write after the other.
func TestLinearizable(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := play(t, seed)
			if got := porcupine.CheckOperationsTimeout(logModel.ToModel(), h.ops, 20*time.Second); got == porcupine.Illegal {
				for _, o := range h.ops {
					t.Logf("%d: %v -> %v  [%d, %d]", o.ClientId, o.Input, o.Output, o.Call, o.Return)
				}
				t.Error("the history is of no log")
			}
		})
	}
}

func play(t *testing.T, seed uint64) *history {
	r := newRig(t, topicOf())
	h := &history{began: time.Now()}
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(seed, 0))
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return dice.IntN(n)
	}
	odds := []raft.Fate{raft.Dropped, raft.Busy, raft.Lost, raft.Late, raft.Deaf}
	r.raft.Decide(func(model.ShardID, []byte) raft.Fate {
		if n := roll(20); n < len(odds) {
			return odds[n]
		}
		return raft.Taken
	})
	var clients, chaos sync.WaitGroup
	for c := range 3 {
		clients.Go(func() {
			for i := range 8 {
				r.append(h, c, fmt.Sprintf("%d.%d", c, i))
			}
		})
	}
	for c := range 2 {
		clients.Go(func() {
			for range 8 {
				r.readAll(h, 3+c)
			}
		})
	}
	done := make(chan struct{})
	chaos.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			switch roll(3) {
			case 0:
				r.elect()
			case 1:
				r.raft.Release(shard)
			case 2:
				r.raft.Elect(shard, model.NodeID(roll(2)))
			}
		}
	})
	clients.Wait()
	close(done)
	chaos.Wait()
	r.raft.Decide(nil)
	r.elect()
	r.raft.Release(shard)
	r.readAll(h, 5)
	return h
}

// append writes until it is told that the value may be there.
func (r *rig) append(h *history, client int, value string) {
	for {
		again := false
		h.do(client, value, func() (any, int64, bool) {
			got := r.write(batch(value))
			switch {
			case got.Err == nil:
				return appended{at: got.Base}, 0, true
			case errors.Is(got.Err, produce.ErrTimedOut):
				return appended{unknown: true}, math.MaxInt64, true
			case !errors.Is(got.Err, produce.ErrNotLeader):
				r.t.Error(got.Err)
			}
			again = true
			return nil, 0, false // surely not written: as if it had not been
		})
		if !again {
			return
		}
	}
}

func (r *rig) readAll(h *history, client int) {
	h.do(client, nil, func() (any, int64, bool) {
		a := r.fetch.Fetch(r.t.Context(), fetch.Ask{
			Partitions: []fetch.PartitionAsk{{Partition: id, BytesMax: 1 << 30, CurrentEpoch: model.NoEpoch}}, BytesMax: 1 << 30,
		})[0]
		if a.Err != nil {
			return nil, 0, false
		}
		var all strings.Builder
		values := decode(r.t, a.Records)
		for _, o := range slices.Sorted(maps.Keys(values)) {
			all.WriteString(values[o] + ";")
		}
		return all.String(), 0, true
	})
}
