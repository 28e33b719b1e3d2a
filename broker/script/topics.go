package script

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// topicWait is how long a new internal topic may take until it is served here.
const topicWait = 10 * time.Second

// KV is a record of an internal topic; a nil Value is a tombstone.
type KV struct{ Key, Value []byte }

// Topic writes one internal, compacted topic of one partition, which it creates
// when it first writes.
type Topic struct {
	Name    string
	Log     Log
	Cluster *cluster.Cluster

	mu sync.Mutex // one writer at a time keeps batches of one Put together
}

// id gives the topic's only partition; false while there is none.
func (t *Topic) id() (model.PartitionID, bool) {
	topic, ok := t.Cluster.Metadata().Topic(t.Name)
	if !ok {
		return model.PartitionID{}, false
	}
	return topic.PartitionID(0), true
}

// ensure gives the partition, making the topic if there is none.
func (t *Topic) ensure(ctx context.Context) (model.PartitionID, error) {
	if id, ok := t.id(); ok {
		return id, nil
	}
	compact, uncompressed := "compact", "producer"
	results, err := t.Cluster.CreateTopics(ctx, []cluster.CreateTopic{{
		Name: t.Name, Internal: true, Partitions: 1, Replication: -1,
		Configs: map[string]*string{"cleanup.policy": &compact, "compression.type": &uncompressed},
	}}, false)
	if err == nil && len(results) == 1 {
		err = results[0].Err
	}
	if err != nil && !errors.Is(err, cluster.ErrTopicExists) {
		return model.PartitionID{}, fmt.Errorf("create topic %s: %w", t.Name, err)
	}
	id, ok := t.id()
	if !ok {
		return id, fmt.Errorf("create topic %s: it is not in the metadata", t.Name)
	}
	return id, nil
}

// Put writes records in order, in batches of at most chunkBytesMax and one
// record. It gives the offset of the last. What it wrote before an error stays.
func (t *Topic) Put(ctx context.Context, records []KV) (model.Offset, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, err := t.ensure(ctx)
	if err != nil {
		return model.NoOffset, err
	}
	var b record.Builder
	last := model.NoOffset
	flush := func() error {
		n := b.Count()
		if n == 0 {
			return nil
		}
		_, batch, err := b.Build(nil)
		if err != nil {
			return err
		}
		base, err := t.append(ctx, id, batch)
		if err != nil {
			return fmt.Errorf("write %d records to %s: %w", n, t.Name, err)
		}
		last = base + model.Offset(n-1)
		b.Reset(record.Plain(record.Zstd))
		return nil
	}
	b.Reset(record.Plain(record.Zstd))
	for _, r := range records {
		if b.Count() > 0 && b.Bytes()+len(r.Value) > chunkBytesMax {
			if err := flush(); err != nil {
				return last, err
			}
		}
		if err := b.Add(time.Now().UnixMilli(), r.Key, r.Value, nil); err != nil {
			return last, err
		}
	}
	return last, flush()
}

// append waits out a partition that is not served yet: it was just made. A
// write of unknown outcome may be repeated, the newest record of a key counts.
func (t *Topic) append(ctx context.Context, id model.PartitionID, batch []byte) (model.Offset, error) {
	ctx, cancel := context.WithTimeout(ctx, topicWait)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		base, err := t.Log.Append(ctx, id, append([]byte(nil), batch...))
		if err == nil {
			return base, nil
		}
		if wait(ctx, pause) != nil {
			return base, err
		}
	}
}

// wait pauses, or gives ctx's error.
func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
