package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Rate is a volume over time.
type Rate struct {
	Records int64
	Bytes   int64
	Took    time.Duration
}

// MBps is megabytes (10^6) a second.
func (r Rate) MBps() float64 { return float64(r.Bytes) / 1e6 / r.Took.Seconds() }

// PerSecond is records a second.
func (r Rate) PerSecond() float64 { return float64(r.Records) / r.Took.Seconds() }

// Produce writes records of value(i) as fast as the broker takes them, in batches
// of up to 256 KiB with 5 ms linger, round-robin over partitions.
func Produce(ctx context.Context, brokers, topic string, partitions int32, records int64, value func(i int64) []byte) (Rate, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchMaxBytes(256<<10), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(200_000))
	if err != nil {
		return Rate{}, err
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	bytes := int64(0)
	begin := time.Now()
	for i := range records {
		v := value(i)
		bytes += int64(len(v))
		cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(i % int64(partitions)), Value: v}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
		if failed.Load() != nil {
			break
		}
	}
	err = cl.Flush(ctx)
	if f := failed.Load(); f != nil {
		err = errors.Join(err, *f)
	}
	return Rate{Records: records, Bytes: bytes, Took: time.Since(begin)}, err
}

// RandomValues gives incompressible values of size bytes.
func RandomValues(size int) func(int64) []byte {
	vs := values(size)
	return func(i int64) []byte { return vs[i%int64(len(vs))] }
}

// Consume reads a topic from its start to the end it has now.
func Consume(ctx context.Context, brokers, topic string) (Rate, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(50<<20), kgo.FetchMaxPartitionBytes(1<<20))
	if err != nil {
		return Rate{}, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return Rate{}, err
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var r Rate
	begin := time.Now()
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return r, fmt.Errorf("consume %s: %w", topic, err)
		}
		fs.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, rec := range p.Records {
				r.Records++
				r.Bytes += int64(len(rec.Value))
			}
			if n := len(p.Records); n > 0 && p.Records[n-1].Offset+1 >= left[p.Partition] {
				delete(left, p.Partition)
			}
		})
	}
	r.Took = time.Since(begin)
	return r, nil
}
