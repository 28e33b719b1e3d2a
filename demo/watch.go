package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	feedRate  = 4000             // records a second: the demo is to be watched, not waited for
	quietFor  = 2 * time.Second  // without a record, once everything is fed
	watchMost = 60 * time.Second // for the whole
)

// sentHeader carries the time of sending through the script, for the latency.
const sentHeader = "sent-ns"

// outcome is what the consumer group saw of a child topic.
type outcome struct {
	records   int
	latencies []time.Duration
	sample    string
}

// feedAndWatch produces both data sets while a consumer group reads what the
// scripts make of them.
func (b *broker) feedAndWatch(ctx context.Context, quakes, strikes []record) error {
	ctx, cancel := context.WithTimeout(ctx, watchMost)
	defer cancel()
	joined := make(chan struct{})
	var once sync.Once
	group, err := kgo.NewClient(kgo.SeedBrokers(b.brokers), kgo.ConsumerGroup("demo"),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { once.Do(func() { close(joined) }) }),
		kgo.ConsumeTopics("quakes.strong", "strikes.damage"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer group.Close()
	seen := map[string]*outcome{"quakes.strong": {}, "strikes.damage": {}}
	fed := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	var watchErr error
	go func() {
		defer wg.Done()
		watchErr = watch(ctx, group, seen, fed)
	}()
	select {
	case <-joined: // a new group waits 3 s for members, as in Kafka
	case <-ctx.Done():
		return fmt.Errorf("join the group: %w", ctx.Err())
	}
	began := time.Now()
	if err := b.feed(ctx, map[string][]record{"quakes": quakes, "strikes": strikes}); err != nil {
		return err
	}
	took := time.Since(began)
	close(fed)
	wg.Wait()
	if watchErr != nil {
		return watchErr
	}
	if err := group.CommitUncommittedOffsets(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	fmt.Printf("fed      %d earthquakes (USGS) and %d wildlife strikes (FAA) in %.1f s\n", len(quakes), len(strikes), took.Seconds())
	return b.print(ctx, group, seen, map[string]int{"quakes.strong": len(quakes), "strikes.damage": len(strikes)})
}

// feed produces every data set at feedRate in all.
func (b *broker) feed(ctx context.Context, sets map[string][]record) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.brokers), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed error
	var mu sync.Mutex
	n, began := 0, time.Now()
	for topic, records := range sets {
		for _, r := range records {
			time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / feedRate)))
			n++
			rec := &kgo.Record{Topic: topic, Key: r.key, Value: r.value}
			rec.Headers = []kgo.RecordHeader{{Key: sentHeader, Value: strconv.AppendInt(nil, time.Now().UnixNano(), 10)}}
			cl.Produce(ctx, rec, func(_ *kgo.Record, err error) {
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			})
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	return failed
}

// allSeen says that the group has joined and every child topic gave something:
// before that, silence says nothing.
func allSeen(seen map[string]*outcome) bool {
	for _, o := range seen {
		if o.records == 0 {
			return false
		}
	}
	return true
}

// watch reads until nothing has come for quietFor after everything was fed.
func watch(ctx context.Context, cl *kgo.Client, seen map[string]*outcome, fed <-chan struct{}) error {
	last := time.Now()
	for {
		poll, cancel := context.WithTimeout(ctx, quietFor/4)
		fs := cl.PollFetches(poll)
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("watch the child topics: %w", ctx.Err())
		}
		now := time.Now()
		fs.EachRecord(func(r *kgo.Record) {
			last = now
			o := seen[r.Topic]
			o.records++
			o.sample = string(r.Value)
			for _, h := range r.Headers {
				if ns, err := strconv.ParseInt(string(h.Value), 10, 64); h.Key == sentHeader && err == nil {
					o.latencies = append(o.latencies, now.Sub(time.Unix(0, ns)))
				}
			}
		})
		select {
		case <-fed:
			if now.Sub(last) > quietFor && allSeen(seen) {
				return nil
			}
		default:
		}
	}
}

func (b *broker) print(ctx context.Context, cl *kgo.Client, seen map[string]*outcome, in map[string]int) error {
	lags, err := kadm.NewClient(cl).Lag(ctx, "demo")
	if err != nil {
		return err
	}
	for _, topic := range []string{"quakes.strong", "strikes.damage"} {
		o := seen[topic]
		if o.records == 0 {
			return fmt.Errorf("nothing came out of %s", topic)
		}
		lag := int64(0)
		for _, l := range lags["demo"].Lag[topic] {
			lag += max(l.Lag, 0)
		}
		fmt.Printf("out      %-15s %5d of %5d records, group lag %d%s\n         e.g. %s\n", topic, o.records, in[topic], lag, latency(o.latencies), o.sample)
	}
	return nil
}

// latency is from sending a record to having consumed what the script made of it.
func latency(ds []time.Duration) string {
	if len(ds) == 0 {
		return ""
	}
	slices.Sort(ds)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf(", sent to consumed p50 %.1f ms, p99 %.1f ms", ms(ds[len(ds)/2]), ms(ds[len(ds)*99/100]))
}
