package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/bench/load"
)

// What is done to nodes whose clients are watched.
const (
	gapNodes = 3
	// gapSettle is how long clients go on undisturbed before and after.
	gapSettle = 3 * time.Second
	// gapLimit is how long they may wait for all partitions to take records again.
	gapLimit = 2 * time.Minute
	// gapRetry is how soon a client asks again who leads.
	gapRetry = 100 * time.Millisecond
)

// gapWriter has one record in flight to each partition, and knows how long each waited
// for an acknowledgement at most.
type gapWriter struct {
	client *kgo.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	last    []time.Time
	longest []time.Duration
}

func newGapWriter(ctx context.Context, brokers, topic string) (*gapWriter, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(gapRetry), kgo.RetryBackoffFn(func(int) time.Duration { return gapRetry }))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &gapWriter{client: cl, cancel: cancel, last: make([]time.Time, partitions), longest: make([]time.Duration, partitions)}
	value := make([]byte, valueBytes)
	for p := range partitions {
		w.done.Go(func() {
			for ctx.Err() == nil {
				err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: int32(p), Value: value}).FirstErr()
				now := time.Now()
				w.mu.Lock()
				if err == nil {
					if !w.last[p].IsZero() {
						w.longest[p] = max(w.longest[p], now.Sub(w.last[p]))
					}
					w.last[p] = now
				}
				w.mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond): // it is not a load that is measured
				}
			}
		})
	}
	return w, nil
}

// wait gives the longest gap, once every partition has taken a record after since.
func (w *gapWriter) wait(ctx context.Context, since time.Time) (time.Duration, error) {
	for deadline := time.Now().Add(gapLimit); ; {
		w.mu.Lock()
		longest, all := time.Duration(0), true
		for p := range w.last {
			longest, all = max(longest, w.longest[p]), all && w.last[p].After(since)
		}
		w.mu.Unlock()
		switch {
		case all:
			return longest, nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case time.Now().After(deadline):
			return 0, fmt.Errorf("a partition has taken no record within %s", gapLimit)
		}
		time.Sleep(gapRetry)
	}
}

// reset forgets the gaps so far.
func (w *gapWriter) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.longest)
}

func (w *gapWriter) stop() {
	w.cancel()
	w.done.Wait()
	w.client.Close()
}

// measureGaps kills the leader of a partition, then restarts each node in turn, and
// tells how long a partition's clients waited for an acknowledgement at most.
func measureGaps(ctx context.Context, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-gap-%d", run)
	brokers := s.brokers
	if err := load.NewTopic(ctx, brokers, topic, partitions); err != nil {
		return err
	}
	w, err := newGapWriter(ctx, brokers, topic)
	if err != nil {
		return err
	}
	defer w.stop()
	time.Sleep(gapSettle)
	leader, err := leaderAt(ctx, w.client, topic)
	if err != nil {
		return err
	}
	w.reset()
	at := time.Now()
	if s.name != millraceSide {
		leader-- // its ids begin at 1
	}
	if err := s.signalNode(leader, syscall.SIGKILL); err != nil {
		return err
	}
	gap, err := w.wait(ctx, at.Add(gapSettle))
	if err != nil {
		return err
	}
	t.add("kill -9 of a leader, longest wait for an ack, s", s.name, gap.Seconds())
	time.Sleep(2 * gapSettle)
	w.reset()
	for n := range gapNodes {
		if err := s.signalNode(n, syscall.SIGTERM); err != nil {
			return err
		}
		if err := s.awaitNode(n); err != nil {
			return err
		}
		time.Sleep(2 * gapSettle)
	}
	rolling, err := w.wait(ctx, time.Now())
	if err != nil {
		return err
	}
	t.add("rolling restart, longest wait for an ack, s", s.name, rolling.Seconds())
	fmt.Fprintf(os.Stderr, "%s run %d: kill -9 %.2f s, rolling restart %.2f s\n", s.name, run+1, gap.Seconds(), rolling.Seconds())
	s.done = append(s.done, topic)
	return nil
}

// leaderAt gives who leads partition 0.
func leaderAt(ctx context.Context, cl *kgo.Client, topic string) (int, error) {
	m, err := kadm.NewClient(cl).Metadata(ctx, topic)
	if err != nil {
		return 0, err
	}
	return int(m.Topics[topic].Partitions[0].Leader), nil
}

// pidOf reads which process a node of nodes.sh is now.
func (s *side) pidOf(node int) (int, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, strconv.Itoa(node)+".pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func (s *side) signalNode(node int, sig syscall.Signal) error {
	pid, err := s.pidOf(node)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, sig)
}

// awaitNode waits until a node that was ended has been started again.
func (s *side) awaitNode(node int) error {
	old, err := s.pidOf(node)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(gapLimit); time.Now().Before(deadline); time.Sleep(gapRetry) {
		if now, err := s.pidOf(node); err == nil && now != old {
			return nil
		}
	}
	return fmt.Errorf("node %d was not started again", node)
}
