package selftest

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

const (
	// streams is how many calls a throughput test has under way.
	streams = 4
	// latencyCarry is what a call of the latency test carries, each way.
	latencyCarry = 64
)

// network runs the tests between this node and a peer.
func (r *Runner) network(ctx context.Context, peer model.NodeID, d time.Duration) {
	for _, t := range []struct {
		name           string
		ask, answer    int
		calls, carries int
	}{
		{"network latency", latencyCarry, latencyCarry, 1, latencyCarry},
		{"network send", CarryBytesMax, 0, streams, CarryBytesMax},
		{"network receive", 0, CarryBytesMax, streams, CarryBytesMax},
	} {
		result := api.SelfTestResult{Test: t.name, Peer: &peer, RequestBytes: int64(t.carries)}
		r.measure(ctx, result, func(ctx context.Context, result *api.SelfTestResult) error {
			return r.carry(ctx, peer, d, t.calls, carryBody(t.ask, t.answer), result)
		})
	}
}

// carryBody asks for an answer of so many bytes, with a body of ask more.
func carryBody(ask, answer int) []byte {
	b := make([]byte, 5+ask)
	b[0] = verbCarry
	binary.LittleEndian.PutUint32(b[1:], uint32(answer))
	return b
}

// carry calls peer until d is over, with so many calls under way.
func (r *Runner) carry(ctx context.Context, peer model.NodeID, d time.Duration, calls int, body []byte, result *api.SelfTestResult) error {
	// The first call may have to connect, and is not measured.
	if _, err := r.o.Call(ctx, peer, body); err != nil {
		return fmt.Errorf("call node %d: %w", peer, err)
	}
	var mu sync.Mutex
	var took spread
	var failed error
	var wg sync.WaitGroup
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	for range calls {
		wg.Go(func() {
			for calling.Err() == nil {
				before := time.Now()
				_, err := r.o.Call(calling, peer, body)
				mu.Lock()
				if err == nil {
					took.add(time.Since(before))
				} else if failed == nil {
					failed = fmt.Errorf("call node %d: %w", peer, err)
					cancel()
				}
				mu.Unlock()
				if err != nil || time.Since(began) >= d {
					return
				}
			}
		})
	}
	wg.Wait()
	fill(result, &took, took.count*result.RequestBytes, time.Since(began))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return failed
}
