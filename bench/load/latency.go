package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Quantiles are latencies in milliseconds.
type Quantiles struct {
	P50, P99, P999, Max float64
	Count               int
}

func quantiles(d []time.Duration) Quantiles {
	if len(d) == 0 {
		return Quantiles{}
	}
	slices.Sort(d)
	at := func(q float64) float64 {
		i := min(len(d)-1, int(math.Ceil(q*float64(len(d))))-1)
		return float64(d[max(i, 0)]) / float64(time.Millisecond)
	}
	return Quantiles{P50: at(.5), P99: at(.99), P999: at(.999), Max: at(1), Count: len(d)}
}

// createLimit is how long a broker may take for a topic of many partitions.
const createLimit = 3 * time.Minute

// CreateTopic makes a topic and waits until every partition takes a record.
func CreateTopic(ctx context.Context, brokers, topic string, partitions int32) error {
	if err := NewTopic(ctx, brokers, topic, partitions); err != nil {
		return err
	}
	return Prime(ctx, brokers, topic, partitions, 3)
}

// NewTopic makes a topic of as many replicas as the broker likes, and waits for its
// answer.
func NewTopic(ctx context.Context, brokers, topic string, partitions int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RequestTimeoutOverhead(createLimit), kgo.RetryTimeout(createLimit))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(int32(createLimit.Milliseconds()))
	if _, err := adm.CreateTopic(ctx, partitions, -1, nil, topic); err != nil {
		return fmt.Errorf("create %s: %w", topic, err)
	}
	return nil
}

// Prime writes a few records into every partition: what a broker does at the
// first is not to be measured as what it does at each.
func Prime(ctx context.Context, brokers, topic string, partitions int32, each int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequestTimeoutOverhead(createLimit), kgo.RecordDeliveryTimeout(createLimit))
	if err != nil {
		return err
	}
	defer cl.Close()
	var records []*kgo.Record
	for p := range partitions {
		for range each {
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: []byte("prime")})
		}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("prime %s: %w", topic, err)
	}
	return nil
}

// DeleteTopic removes a topic; errors matter only to the disk.
func DeleteTopic(ctx context.Context, brokers string, topics ...string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = kadm.NewClient(cl).DeleteTopics(ctx, topics...)
	return err
}

// values gives random, incompressible values; a few are enough, since nothing
// here compresses.
func values(size int) [][]byte {
	vs := make([][]byte, 64)
	for i := range vs {
		vs[i] = make([]byte, size)
		_, _ = rand.Read(vs[i]) // never fails: see crypto/rand
	}
	return vs
}

// Acks says how an open-loop run of produces went.
type Acks struct {
	Quantiles           // from due to acknowledged
	Late      Quantiles // from due to sent: the loader's own part of it
	Error     error
}

// AckLatency produces rate records/s of size bytes for the given time, one record
// per batch, round-robin over partitions, and measures from due to acknowledged.
// value may be nil: random bytes.
func AckLatency(ctx context.Context, brokers, topic string, partitions int32, rate, size int, took time.Duration, value func(i int, due time.Time) []byte) Acks {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(int32(size+1024)), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(1_000_000))
	if err != nil {
		return Acks{Error: err}
	}
	defer cl.Close()
	if value == nil {
		vs := values(size)
		value = func(i int, _ time.Time) []byte { return vs[i%len(vs)] }
	}
	n := int(float64(rate) * took.Seconds())
	lat, sent := make([]time.Duration, n), make([]time.Duration, n)
	var firstErr atomic.Pointer[error]
	var wg sync.WaitGroup
	wg.Add(n)
	pace := newPacer()
	defer pace.close()
	begin := time.Now().Add(50 * time.Millisecond)
	for i := range n {
		due := begin.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
		pace.until(due)
		r := &kgo.Record{Topic: topic, Partition: int32(i) % partitions, Value: value(i, due)}
		sent[i] = time.Since(due)
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			lat[i] = time.Since(due)
			if err != nil {
				firstErr.CompareAndSwap(nil, &err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	a := Acks{Quantiles: quantiles(lat), Late: quantiles(sent)}
	if e := firstErr.Load(); e != nil {
		a.Error = *e
	}
	return a
}

// Serial produces records of size bytes to partition 0, each after the one before
// is acknowledged, and measures from sending to that: closed loop.
func Serial(ctx context.Context, brokers, topic string, size int, took time.Duration) (Quantiles, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return Quantiles{}, err
	}
	defer cl.Close()
	vs := values(size)
	var lat []time.Duration
	for end := time.Now().Add(took); time.Now().Before(end); {
		sent := time.Now()
		r := &kgo.Record{Topic: topic, Value: vs[len(lat)%len(vs)]}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			return Quantiles{}, fmt.Errorf("serial produce: %w", err)
		}
		lat = append(lat, time.Since(sent))
	}
	return quantiles(lat), nil
}

// EndToEnd produces at rate into in and measures until the record is consumed
// from out (in itself, or a child topic of a script). Records carry their due
// time; match tells which produced values come out.
func EndToEnd(ctx context.Context, brokers, in, out string, partitions int32, rate int, took time.Duration, value func(i int, due time.Time) []byte, due func(r *kgo.Record) (time.Time, bool)) (Quantiles, error) {
	consumer, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics(out),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchMinBytes(1))
	if err != nil {
		return Quantiles{}, err
	}
	defer consumer.Close()
	warm, cancelWarm := context.WithTimeout(ctx, 2*time.Second)
	consumer.PollFetches(warm)
	cancelWarm()

	var lat []time.Duration
	done := make(chan struct{})
	reading, stop := context.WithCancel(ctx)
	go func() {
		defer close(done)
		for reading.Err() == nil {
			fs := consumer.PollFetches(reading)
			now := time.Now()
			fs.EachRecord(func(r *kgo.Record) {
				if t, ok := due(r); ok {
					lat = append(lat, now.Sub(t))
				}
			})
		}
	}()
	a := AckLatency(ctx, brokers, in, partitions, rate, 1024, took, value)
	time.Sleep(time.Second) // what is still on its way
	stop()
	<-done
	if len(lat) == 0 {
		return Quantiles{}, errors.Join(fmt.Errorf("nothing came out of %s", out), a.Error)
	}
	return quantiles(lat), a.Error
}
