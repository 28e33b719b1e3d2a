package transform

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/pacemaker/check"
)

// tp names a partition.
type tp struct {
	topic     string
	partition int32
}

// fromHeader says in every record of a load where it was written, so that a
// child's record can be traced.
const fromHeader = "from"

// loadTick is how often a load writes.
const loadTick = 20 * time.Millisecond

// load writes numbered records into a scene's inputs and remembers what was
// acknowledged. Its client retries for ever, and is idempotent.
type load struct {
	scene  *Scene
	client *kgo.Client
	counts []atomic.Int32 // partitions of each input
	serial uint32         // owned by run

	mu    sync.Mutex
	acked map[tp][]check.Record // ascending
	fails []error
}

func newLoad(s *Scene, cl *kgo.Client) *load {
	l := &load{scene: s, client: cl, counts: make([]atomic.Int32, len(s.Inputs)), acked: map[tp][]check.Record{}}
	for i, in := range s.Inputs {
		l.counts[i].Store(in.Partitions)
	}
	return l
}

// run writes until ctx ends.
func (l *load) run(ctx context.Context) {
	ticker := time.NewTicker(loadTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for i := range l.scene.Inputs {
			for range max(1, l.scene.Rate*int(loadTick)/int(time.Second)) {
				l.one(ctx, i)
			}
		}
	}
}

func (l *load) one(ctx context.Context, input int) {
	n := l.serial
	l.serial++
	to := tp{l.scene.Inputs[input].Topic, int32(n/7) % l.counts[input].Load()}
	r := &kgo.Record{
		Topic: to.topic, Partition: to.partition, Timestamp: time.Now(),
		Key:     fmt.Appendf(nil, "k%d", hash(n+1)%uint32(l.scene.Keys)),
		Value:   fmt.Appendf(nil, "%d", n),
		Headers: []kgo.RecordHeader{{Key: fromHeader, Value: fmt.Appendf(nil, "%s/%d", to.topic, to.partition)}},
	}
	// What was begun is finished: context.WithoutCancel, or a record might or might not be there.
	l.client.Produce(context.WithoutCancel(ctx), r, func(r *kgo.Record, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err != nil {
			l.fails = append(l.fails, fmt.Errorf("record %s of %s-%d: %w", r.Value, r.Topic, r.Partition, err))
			return
		}
		l.acked[to] = append(l.acked[to], recordOf(r))
	})
}

func (l *load) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.fails[:min(len(l.fails), 5)]...)
}

func recordOf(r *kgo.Record) check.Record {
	c := check.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, check.Header{Key: h.Key, Value: h.Value})
	}
	return c
}
