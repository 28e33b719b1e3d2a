package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/judge"
	"github.com/millrace-io/millrace/test/node"
)

// load writes to a topic by several producers, each idempotent and with several batches
// on their way, and reads it as it grows; the judge is told of everything.
type load struct {
	topic      string
	partitions int
	history    *judge.History
	factor     float64 // of how long acknowledgements may take; 0: they are not judged
	ctx        context.Context
	cancel     context.CancelFunc
	writing    sync.WaitGroup
	reading    sync.WaitGroup
	readers    []string
	endReading context.CancelFunc

	mu     sync.Mutex
	failed int   // records whose producer was told of an error
	err    error // the first

	told map[judge.Finding]bool
}

const (
	// loadProducers write to each partition; the first has one record at a time on its
	// way, the last waits as long for an answer as clients do if nobody says otherwise.
	loadProducers = 3
	// loadWindow is how many records another has on their way to a partition.
	loadWindow = 32
	// loadPause lies between a producer's records to a partition, most times.
	loadPause = 8 * time.Millisecond
)

// gapFactor is what a fault's promise is multiplied by before acknowledgements are held
// against it: MILLRACE_GAPS, else what the test says. A machine that does other things
// at the same time elects later.
func gapFactor(t *testing.T, otherwise float64) float64 {
	text := os.Getenv("MILLRACE_GAPS")
	if text == "" {
		return otherwise
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 {
		t.Fatalf("MILLRACE_GAPS: %q is no factor", text)
	}
	return f
}

// startLoad begins to write to a topic that is there, and to read it twice.
func startLoad(t *testing.T, c *node.Cluster, topic string, partitions int, factor float64) *load {
	t.Helper()
	l := &load{topic: topic, partitions: partitions, history: judge.New(), factor: factor, told: map[judge.Finding]bool{}}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	for p := range loadProducers {
		window := loadWindow
		if p == 0 {
			window = 1
		}
		asking := prompt()
		if p < loadProducers-1 {
			asking = append(asking, kgo.ProduceRequestTimeout(2*time.Second), kgo.RequestTimeoutOverhead(2*time.Second))
		}
		cl := c.Client(append(asking, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
		for partition := range partitions {
			l.writing.Go(func() { l.write(cl, partition, p, window) })
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.endReading = cancel
	for i := range 2 {
		name := fmt.Sprint("reader ", i)
		l.readers = append(l.readers, name)
		cl := l.reader(c)
		l.reading.Go(func() { l.read(ctx, cl, name) })
	}
	t.Cleanup(func() {
		l.cancel()
		cancel()
	})
	return l
}

// prompt has a client ask again soon: the broker's time is measured, not the client's.
func prompt() []kgo.Opt {
	return []kgo.Opt{
		kgo.RetryTimeout(patience), kgo.DialTimeout(2 * time.Second),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}
}

// reader gives a client that reads the topic from its beginning and takes no other
// offset than the next.
func (l *load) reader(c *node.Cluster) *kgo.Client {
	from := map[int32]kgo.Offset{}
	for p := range l.partitions {
		from[int32(p)] = kgo.NewOffset().At(0)
	}
	return c.Client(append(prompt(), kgo.FetchMaxWait(200*time.Millisecond), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: from}))...)
}

// write sends a producer's records of a partition, one after the other, until the load
// stops.
func (l *load) write(cl *kgo.Client, partition, producer, many int) {
	window := make(chan struct{}, many)
	for l.ctx.Err() == nil {
		window <- struct{}{}
		r := l.history.Send(partition, producer, time.Now())
		cl.Produce(context.Background(), &kgo.Record{Topic: l.topic, Partition: int32(partition), Value: r.Value()}, func(k *kgo.Record, err error) {
			if err == nil {
				l.history.Ack(r, k.Offset, time.Now())
			} else if !errors.Is(err, kgo.ErrClientClosed) {
				l.mu.Lock()
				l.failed++
				if l.err == nil {
					l.err = fmt.Errorf("%s: %w", r, err)
				}
				l.mu.Unlock()
			}
			<-window
		})
		if rand.IntN(4) > 0 {
			select {
			case <-time.After(loadPause):
			case <-l.ctx.Done():
			}
		}
	}
	for range many { // what was sent is waited for, so that it is known what must be there
		window <- struct{}{}
	}
}

func (l *load) read(ctx context.Context, cl *kgo.Client, name string) {
	for ctx.Err() == nil {
		fetched := cl.PollFetches(ctx)
		fetched.EachRecord(func(r *kgo.Record) { l.history.Read(name, int(r.Partition), r.Offset, r.Value) })
		fetched.EachError(func(_ string, p int32, err error) {
			if answered(err) {
				l.history.Refused(name, int(p), err)
			}
		})
	}
}

// answered tells whether a reader's error is a broker's answer, or follows from one. That
// a connection breaks is to be expected.
func answered(err error) bool {
	var said *kerr.Error
	var lost *kgo.ErrDataLoss
	return errors.As(err, &said) || errors.As(err, &lost)
}

// period begins a time in which each producer has an acknowledgement within limit; 0:
// it need not.
func (l *load) period(name string, limit time.Duration) {
	l.history.Period(name, time.Duration(float64(limit)*l.factor), time.Now())
}

// more waits until so many more records of each partition are acknowledged.
func (l *load) more(t *testing.T, count int) {
	t.Helper()
	before := l.history.Acked(l.partitions)
	await(t, fmt.Sprintf("%d more records in each partition", count), func() error {
		for p, n := range l.history.Acked(l.partitions) {
			if n < before[p]+count {
				l.mu.Lock()
				defer l.mu.Unlock()
				return errors.Join(fmt.Errorf("partition %d has %d of %d", p, n-before[p], count), l.err)
			}
		}
		return nil
	})
}

// stop ends writing, and reading once the readers have all there is.
func (l *load) stop(t *testing.T, c *node.Cluster) {
	t.Helper()
	l.period("the end", 0)
	l.cancel()
	l.writing.Wait()
	ends := l.ends(t, c)
	await(t, "readers to be at the end", func() error {
		for _, name := range l.readers {
			for p, end := range ends {
				if at := l.history.Stands(name, p); at < end {
					return fmt.Errorf("%s stands at %d of %d in partition %d; found %v", name, at, end, p, l.history.Found())
				}
			}
		}
		return nil
	})
	l.endReading()
	l.reading.Wait()
	t.Logf("%s: records %v, %d with an error (%v)", l.topic, l.history.Acked(l.partitions), l.failed, l.err)
}

// ends gives where each partition ends.
func (l *load) ends(t *testing.T, c *node.Cluster) []int64 {
	t.Helper()
	ends := make([]int64, l.partitions)
	cl := c.Client(prompt()...)
	defer cl.Close()
	await(t, "the ends of "+l.topic, func() error {
		listed, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), l.topic)
		if err == nil {
			err = listed.Error()
		}
		listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
		return err
	})
	return ends
}

// check reads the topic from its beginning to its end, and has it judged.
func (l *load) check(t *testing.T, c *node.Cluster, by string) {
	t.Helper()
	for p, log := range l.logs(t, c) {
		l.history.Log(by, p, log)
	}
	l.verdict(t)
}

// logs reads what each partition has.
func (l *load) logs(t *testing.T, c *node.Cluster) [][]judge.Stored {
	t.Helper()
	ends, logs := l.ends(t, c), make([][]judge.Stored, l.partitions)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl := l.reader(c)
	defer cl.Close()
	for !whole(logs, ends) {
		fetched := cl.PollFetches(ctx)
		fetched.EachRecord(func(r *kgo.Record) {
			logs[r.Partition] = append(logs[r.Partition], judge.Stored{Offset: r.Offset, Value: r.Value})
		})
		if err := fetched.Err(); answered(err) || ctx.Err() != nil {
			t.Fatalf("read %s to %v: %v", l.topic, ends, err)
		}
	}
	return logs
}

// whole tells whether the logs are as long as they are to be.
func whole(logs [][]judge.Stored, ends []int64) bool {
	for p, log := range logs {
		if ends[p] > 0 && (len(log) == 0 || log[len(log)-1].Offset < ends[p]-1) {
			return false
		}
	}
	return true
}

// findingsTold is how many findings of a kind are told.
const findingsTold = 5

// verdict fails the test by what the judge has found since the last one.
func (l *load) verdict(t *testing.T) {
	t.Helper()
	count := map[judge.Kind]int{}
	for _, f := range l.history.Found() {
		if l.told[f] {
			continue
		}
		l.told[f] = true
		if count[f.Kind]++; count[f.Kind] <= findingsTold {
			t.Error(f)
		}
	}
	for kind, n := range count {
		t.Logf("%s: %d in all", kind, n)
	}
}
