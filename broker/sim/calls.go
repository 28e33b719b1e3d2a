package sim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/peer"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/pull"
	"github.com/millrace-io/millrace/broker/script"
)

// calls are questions on their way to other nodes. mu guards all of it: any goroutine
// asks; the driver lets them arrive.
type calls struct {
	mu      sync.Mutex
	waiting []*call
	sorted  int               // of waiting, in order
	leases  map[uint64]uint64 // the shard of each lease, whose number its giver draws
	running sync.WaitGroup
}

// call is one question. answer runs at the node that is asked.
type call struct {
	from, to model.NodeID
	kind     string
	order    []byte // of those of one kind that came together
	answer   func(*node) ([]byte, error)
	reply    chan reply // has room for one; nil: nobody waits
}

type reply struct {
	body []byte
	err  error
}

var errLost = errors.New("connection reset by peer")

func (c *calls) add(x *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, x)
}

// draw takes one of those that are on their way, nil for none. Those of the last event
// came in the scheduler's order.
func (c *calls) draw(intn func(int) int) (x *call, of int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := c.waiting[min(c.sorted, len(c.waiting)):]
	slices.SortStableFunc(fresh, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.kind, b.kind), bytes.Compare(a.order, b.order))
	})
	if len(c.waiting) == 0 {
		return nil, 0
	}
	i := intn(min(len(c.waiting), 8)) // the oldest first, more or less
	x = c.waiting[i]
	c.waiting = slices.Delete(c.waiting, i, i+1)
	c.sorted = len(c.waiting)
	return x, c.sorted
}

func (c *calls) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) == 0
}

// end waits for the calls that nobody waits for.
func (c *calls) end() { c.running.Wait() }

// ask sends a question and waits.
func (n *node) ask(ctx context.Context, to model.NodeID, kind string, order []byte, answer func(*node) ([]byte, error)) ([]byte, error) {
	if n.ctx.Err() != nil { // a node that has stopped asks nobody
		return nil, n.ctx.Err()
	}
	x := &call{from: n.id, to: to, kind: kind, order: bytes.Clone(order), answer: answer, reply: make(chan reply, 1)}
	n.w.calls.add(x)
	select {
	case r := <-x.reply:
		return r.body, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.ctx.Done():
		return nil, n.ctx.Err()
	}
}

// stepCalls lets a call arrive, or has it lost, or its answer.
func (w *World) stepCalls() {
	x, left := w.calls.draw(w.dice.IntN)
	if x == nil {
		return
	}
	luck, to := w.dice.IntN(40), w.nodes[x.to]
	if !w.faults {
		luck = 40
	}
	lost := to == nil || !w.net.Reaches(x.from, x.to) || luck < 2
	w.log("%d %s from %d to %d, lost %v, luck %d; %d are left", w.step, x.kind, x.from, x.to, lost, luck, left)
	switch {
	case lost:
		x.tell(nil, errLost)
		w.saw("call lost")
	case luck < 4: // its caller gives up, and it is done all the same
		x.tell(nil, errLost)
		w.saw("call late")
		x.reply = nil
		w.calls.add(x)
	default:
		w.calls.running.Go(func() {
			body, err := x.answer(to)
			if luck < 6 {
				body, err = nil, errLost
			}
			x.tell(body, err)
		})
		w.saw("call")
	}
}

func (x *call) tell(body []byte, err error) {
	if x.reply != nil {
		x.reply <- reply{body, err}
	}
}

// callVerb is peer.Caller.
func (n *node) callVerb(ctx context.Context, to model.NodeID, body []byte) ([]byte, error) {
	return n.ask(ctx, to, "verb", body, func(at *node) ([]byte, error) {
		b, err := at.verbs.Answer(at.ctx, n.id, bytes.Clone(body))
		if err != nil {
			err = &peer.Refusal{Text: err.Error()}
		}
		return b, err
	})
}

// leaseBytes are the first of what a lease is asked with, a shard, and answered with, its
// number, which every piece is asked with.
const leaseBytes = 8

type pullCaller struct{ n *node }

// Call implements pull.Caller.
func (c pullCaller) Call(ctx context.Context, to model.NodeID, m pull.Method, body []byte) ([]byte, error) {
	first := binary.LittleEndian.Uint64(body)
	calls := &c.n.w.calls
	order := append([]byte{byte(m)}, body...)
	if m != pull.MethodLease {
		binary.LittleEndian.PutUint64(order[1:], calls.leaseOf(first))
	}
	answer, err := c.n.ask(ctx, to, "pull", order, func(at *node) ([]byte, error) {
		return at.giver.Answer(at.ctx, c.n.id, m, bytes.Clone(body))
	})
	if err == nil && m == pull.MethodLease && len(answer) >= leaseBytes {
		calls.leased(binary.LittleEndian.Uint64(answer), first)
	}
	return answer, err
}

func (c *calls) leaseOf(lease uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases[lease]
}

func (c *calls) leased(lease, shard uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leases == nil {
		c.leases = map[uint64]uint64{}
	}
	c.leases[lease] = shard
}

// announce tells the others what a node serves.
func (w *World) announce(n *node, whole bool) {
	a, ok := n.cluster.Announce(whole)
	if !ok {
		return
	}
	body := a.Encode()
	for _, to := range members {
		if to != n.id {
			w.calls.add(&call{from: n.id, to: to, kind: "announcement", answer: func(at *node) ([]byte, error) {
				heard, err := cluster.DecodeAnnouncement(body)
				must(err == nil, "an announcement does not read back: %v", err)
				at.cluster.Hear(heard)
				return nil, nil
			}})
		}
	}
}

// local are a node's own verbs, as server gives them to scripts.
type local struct {
	*produce.Service
	fetch *fetch.Service
}

// Append implements script.Log.
func (l local) Append(_ context.Context, id model.PartitionID, batch []byte) (model.Offset, error) {
	r := l.Start(produce.Ask{Partition: id, Records: batch, Timeout: time.Second, Internal: true}).Result()
	return r.Base, r.Err
}

// Read implements script.Log.
func (l local) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int, wait time.Duration) (script.ReadAnswer, error) {
	a := l.fetch.Fetch(ctx, fetch.Ask{
		Partitions: []fetch.PartitionAsk{{Partition: id, From: from, BytesMax: bytesMax, CurrentEpoch: model.NoEpoch}},
		BytesMin:   1, BytesMax: bytesMax, WaitMax: wait,
	})[0]
	return script.ReadAnswer{LogStart: a.LogStart, HighWatermark: a.HighWatermark, Records: a.Records}, a.Err
}

// Offset implements script.Log.
func (l local) Offset(ctx context.Context, id model.PartitionID, timestamp int64) (model.Offset, error) {
	a, err := l.fetch.ListOffset(ctx, fetch.ListAsk{Partition: id, Timestamp: timestamp, Committed: true, CurrentEpoch: model.NoEpoch})
	return a.Offset, err
}
