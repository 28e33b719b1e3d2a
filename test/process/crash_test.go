// Package process tests whole brokers as processes, with real clients.
package process

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

const crashPartitions = 4

// writer produces numbered records to each partition and remembers which were
// acknowledged at which offset.
type writer struct {
	mu    sync.Mutex
	acked [crashPartitions]map[uint64]int64 // number -> offset
	sent  [crashPartitions]uint64
}

func newWriter() *writer {
	w := &writer{}
	for p := range w.acked {
		w.acked[p] = map[uint64]int64{}
	}
	return w
}

// run produces until ctx ends. The client retries over restarts; it is
// idempotent, so a retried record must not appear twice.
func (w *writer) run(ctx context.Context, cl *kgo.Client, topic string) {
	var pad [8 << 10]byte // so that files are filled, too
	for i := range pad {
		pad[i] = byte(rand.Uint32()) // not to be compressed away
	}
	for ctx.Err() == nil {
		p := rand.IntN(crashPartitions)
		w.mu.Lock()
		n := w.sent[p]
		w.sent[p]++
		w.mu.Unlock()
		v := append(binary.BigEndian.AppendUint64(nil, n), pad[:rand.IntN(len(pad))]...)
		cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(p), Value: v}, func(r *kgo.Record, err error) {
			if err != nil {
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.acked[r.Partition][n] = r.Offset
		})
		if n%64 == 0 {
			_ = cl.Flush(ctx) // a pause; errors reach the records' own callbacks
		}
	}
}

// check reads everything back: every acknowledged record at its offset, none
// twice, numbers of a partition ascending.
func (w *writer) check(t *testing.T, cl *kgo.Client, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	read := readAll(ctx, t, cl, topic, ends)
	for p := range int32(crashPartitions) {
		at := map[uint64]int64{}
		last := int64(-1)
		for _, r := range read[p] {
			n := binary.BigEndian.Uint64(r.Value)
			if prev, twice := at[n]; twice {
				t.Errorf("partition %d: record %d stands at offsets %d and %d", p, n, prev, r.Offset)
			}
			if int64(n) < last {
				t.Errorf("partition %d: record %d at offset %d comes after %d", p, n, r.Offset, last)
			}
			last = int64(n)
			at[n] = r.Offset
		}
		for n, offset := range w.acked[p] {
			if got, ok := at[n]; !ok || got != offset {
				t.Errorf("partition %d: record %d was acknowledged at offset %d, found at %d (%v)", p, n, offset, got, ok)
			}
		}
		t.Logf("partition %d: %d acknowledged, %d read", p, len(w.acked[p]), len(read[p]))
	}
}

func readAll(ctx context.Context, t *testing.T, cl *kgo.Client, topic string, ends kadm.ListedOffsets) map[int32][]*kgo.Record {
	t.Helper()
	left, from := map[int32]int64{}, map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			t.Fatalf("end of %s-%d: %v", o.Topic, o.Partition, o.Err)
		}
		if o.Offset > 0 {
			left[o.Partition], from[o.Partition] = o.Offset, kgo.NewOffset().AtStart()
		}
	})
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	defer cl.RemoveConsumePartitions(map[string][]int32{topic: {0, 1, 2, 3}})
	read := map[int32][]*kgo.Record{}
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("read %s back, missing %v: %v", topic, left, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			read[r.Partition] = append(read[r.Partition], r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return read
}

// TestKillLoop kills the broker with SIGKILL under load, again and again.
func TestKillLoop(t *testing.T) {
	n := node.Start(t, node.Options{})
	producer := n.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(0), kgo.MaxBufferedRecords(2000), kgo.RetryTimeout(time.Minute))
	reader := n.Client(kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	ctx := t.Context()
	if _, err := kadm.NewClient(reader).CreateTopic(ctx, crashPartitions, 1, nil, "crash"); err != nil {
		t.Fatal(err)
	}
	w := newWriter()
	writing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); w.run(writing, producer, "crash") }()
	rounds := killRounds
	if more, err := strconv.Atoi(os.Getenv("MILLRACE_ROUNDS")); err == nil {
		rounds += more
	}
	for i := range rounds {
		w.awaitProgress(t, fmt.Sprintf("round %d", i))
		n.Kill()
		n.Restart()
	}
	w.awaitProgress(t, "after the last restart")
	stop()
	<-done
	w.check(t, reader, "crash")
}

// killRounds keeps the fast suite fast; MILLRACE_ROUNDS adds hundreds.
const killRounds = 4

// awaitProgress waits until a good number of further records was acknowledged.
func (w *writer) awaitProgress(t *testing.T, when string) {
	t.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		sum := 0
		for _, a := range w.acked {
			sum += len(a)
		}
		return sum
	}
	goal := count() + 500
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for count() < goal {
		select {
		case <-late:
			t.Fatalf("%s: %d of %d records acknowledged in a minute", when, count(), goal)
		case <-tick.C:
		}
	}
}
