package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

const topic = "numbers"

// patience bounds each wait of these tests for what must come.
const patience = 60 * time.Second

// writer writes numbers to every partition of the topic, each partition's in order,
// one after the other, until it is told to stop.
type writer struct {
	client *kgo.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	acked   []int           // per partition, how many numbers are acknowledged
	last    []time.Time     // per partition, the last acknowledgement
	longest time.Duration   // between two of a partition
	offsets []map[int]int64 // per partition, number -> offset
	err     error

	// stored says whether a number may be stored as value; nil: as it was written.
	stored func(partition, number int, value string) bool
}

// createTopic makes the topic with so many replicas.
func createTopic(t *testing.T, c *node.Cluster, on, partitions, replicas int) {
	t.Helper()
	if _, err := c.Nodes[on].CLI("topic", "create", topic, "-p", fmt.Sprint(partitions), "-r", fmt.Sprint(replicas)); err != nil {
		t.Fatal(err)
	}
}

// three starts three brokers, the topic with replicas on all, and a writer.
func three(t *testing.T, partitions int, args ...string) (*node.Cluster, *writer) {
	t.Helper()
	c := node.NewCluster(t, 3, node.Options{Args: args})
	c.Start()
	createTopic(t, c, 0, partitions, 3)
	w := startWriter(t, c, partitions)
	w.more(t, 20)
	return c, w
}

func startWriter(t *testing.T, c *node.Cluster, partitions int) *writer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{
		cancel: cancel, acked: make([]int, partitions), last: make([]time.Time, partitions), offsets: make([]map[int]int64, partitions),
		client: c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerLinger(0), kgo.ProduceRequestTimeout(2*time.Second), kgo.RequestTimeoutOverhead(2*time.Second), kgo.RetryTimeout(patience), kgo.MetadataMinAge(50*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond })),
	}
	for p := range partitions {
		w.offsets[p] = map[int]int64{}
		w.done.Go(func() { w.write(ctx, p) })
	}
	t.Cleanup(func() {
		w.cancel()
		w.client.Close() // what is on its way is given up: a test that failed waits for no broker
		w.done.Wait()
	})
	return w
}

func (w *writer) write(ctx context.Context, partition int) {
	for n := 0; ctx.Err() == nil; n++ {
		r := &kgo.Record{Topic: topic, Partition: int32(partition), Value: []byte(strconv.Itoa(n))}
		// Not ctx: what was sent is waited for, so that it is known what must be there.
		err := w.client.ProduceSync(context.Background(), r).FirstErr()
		if errors.Is(err, kerr.InvalidRecord) { // a sync script was too slow: nothing was stored
			n--
			continue
		}
		if err != nil {
			w.mu.Lock()
			w.err = errors.Join(w.err, fmt.Errorf("number %d of partition %d: %w", n, partition, err))
			w.mu.Unlock()
			return
		}
		now := time.Now()
		w.mu.Lock()
		if n > 0 {
			w.longest = max(w.longest, now.Sub(w.last[partition]))
		}
		w.last[partition], w.acked[partition], w.offsets[partition][n] = now, n+1, r.Offset
		w.mu.Unlock()
	}
}

// more waits until every partition has taken so many more numbers.
func (w *writer) more(t *testing.T, count int) {
	t.Helper()
	w.mu.Lock()
	goal := make([]int, len(w.acked))
	for p, n := range w.acked {
		goal[p] = n + count
	}
	w.mu.Unlock()
	await(t, fmt.Sprintf("%d more numbers in each partition", count), func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for p, n := range w.acked {
			if n < goal[p] {
				return errors.Join(fmt.Errorf("partition %d has %d of %d", p, n, goal[p]), w.err)
			}
		}
		return nil
	})
}

// unsent gives the numbers from which on none was sent yet.
func (w *writer) unsent() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := make([]int, len(w.acked))
	for p, n := range w.acked {
		next[p] = n + 1 // one may be on its way
	}
	return next
}

// stop ends the writer and tells the longest wait of a partition for its next number.
func (w *writer) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	w.done.Wait()
	if w.err != nil {
		t.Fatal(w.err)
	}
	t.Logf("numbers per partition %v, longest gap %s", w.acked, w.longest.Round(time.Millisecond))
}

// check reads the topic from its beginning: every partition has its numbers in order,
// each once, at the offset that was acknowledged.
func (w *writer) check(t *testing.T, c *node.Cluster) {
	t.Helper()
	for p, records := range readTopic(t, c, topic, w.acked) {
		for n, r := range records {
			as := string(r.Value)
			fits := as == strconv.Itoa(n)
			if w.stored != nil {
				fits = w.stored(p, n, as)
			}
			if !fits || r.Offset != w.offsets[p][n] {
				t.Fatalf("partition %d has %s at offset %d; want %d at %d", p, as, r.Offset, n, w.offsets[p][n])
			}
		}
	}
}

// readTopic reads so many records of each partition of a topic from its beginning, and
// makes sure that there are no more.
func readTopic(t *testing.T, c *node.Cluster, topic string, counts []int) [][]*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	from := map[int32]kgo.Offset{}
	for p := range counts {
		from[int32(p)] = kgo.NewOffset().AtStart()
	}
	reader := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	defer reader.Close()
	all := make([][]*kgo.Record, len(counts))
	for !complete(all, counts) {
		fetched := reader.PollFetches(ctx)
		fetched.EachRecord(func(r *kgo.Record) { all[r.Partition] = append(all[r.Partition], r) })
		if ctx.Err() != nil {
			for p, records := range all {
				t.Logf("%s-%d: read %d of %d", topic, p, len(records), counts[p])
			}
			t.Fatalf("read %s: %v", topic, ctx.Err())
		}
	}
	await(t, "the ends of "+topic, func() error {
		ends, err := kadm.NewClient(reader).ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return err
		}
		ends.Each(func(o kadm.ListedOffset) {
			if got := all[o.Partition]; o.Offset != int64(len(got)) {
				t.Fatalf("%s-%d ends at %d, behind %d records", topic, o.Partition, o.Offset, len(got))
			}
		})
		return nil
	})
	return all
}

// complete tells whether there are as many records of each partition; more are, too.
func complete(all [][]*kgo.Record, counts []int) bool {
	for p, records := range all {
		if len(records) < counts[p] {
			return false
		}
	}
	return true
}

// await asks again and again until f has no error.
func await(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err = f(); err == nil {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("waited %s for %s: %v", patience, what, err)
}

// leaderOf gives who leads a partition, as one node knows it.
func leaderOf(t *testing.T, n *node.Node, partition int) int {
	t.Helper()
	return describe(t, n, partition, 1)
}

// preferredOf gives who is to lead it: its first replica.
func preferredOf(t *testing.T, n *node.Node, partition int) int {
	t.Helper()
	return describe(t, n, partition, 3)
}

// describe gives the number, or the first of the numbers, in a column of what the CLI
// says of a partition, once there is one.
func describe(t *testing.T, n *node.Node, partition, column int) int {
	t.Helper()
	found := -1
	await(t, "a leader", func() error {
		out, err := n.CLI("topic", "describe", topic, "-p")
		if err != nil {
			return err
		}
		for _, line := range strings.Split(out, "\n") {
			f := strings.Fields(line)
			if len(f) > column && f[0] == strconv.Itoa(partition) {
				if found, err = strconv.Atoi(strings.TrimLeft(f[column], "[")); err == nil && found >= 0 {
					return nil
				}
			}
		}
		return errors.New(out)
	})
	return found
}
