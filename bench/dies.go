package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/bench/load"
)

const (
	// diesPoll is how often each node that lives is asked who leads.
	diesPoll = 50 * time.Millisecond
	// diesSettle is how long the nodes may come to rest before one dies.
	diesSettle = 20 * time.Second
)

// measureDeath kills a node that leads a third of many partitions, and tells how long it
// takes until the two others say that each of them is led by a node that lives, and how
// long the second says so after the first.
func measureDeath(ctx context.Context, o options, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-dies-%d", run)
	if err := load.NewTopic(ctx, s.brokers, topic, int32(o.many)); err != nil {
		return err
	}
	if err := load.Prime(ctx, s.brokers, topic, int32(o.many), 1); err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers))
	if err != nil {
		return err
	}
	defer cl.Close()
	m, err := kadm.NewClient(cl).Metadata(ctx, topic)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(diesSettle):
	}
	const dead = gapNodes - 1
	id := m.Brokers.NodeIDs()[dead]
	down := filepath.Join(s.dir, strconv.Itoa(dead)+".down")
	if err := os.WriteFile(down, nil, 0o600); err != nil {
		return err
	}
	at := time.Now()
	if err := s.signalNode(dead, syscall.SIGKILL); err != nil {
		return err
	}
	right := make(chan error, dead)
	took := make([]time.Duration, dead)
	for i, b := range m.Brokers[:dead] {
		go func() {
			err := awaitLed(ctx, fmt.Sprintf("%s:%d", b.Host, b.Port), topic, id)
			took[i] = time.Since(at)
			right <- err
		}()
	}
	for range dead {
		if err := <-right; err != nil {
			return err
		}
	}
	first, last := min(took[0], took[1]), max(took[0], took[1])
	t.add(fmt.Sprintf("a node of %d partitions dies, until all are led, s", o.many), s.name, last.Seconds())
	t.add("the same, until the second node says so after the first, s", s.name, (last - first).Seconds())
	fmt.Fprintf(os.Stderr, "%s run %d: a node dies: %.2f s, the other node %.2f s later\n", s.name, run+1, first.Seconds(), (last - first).Seconds())
	if err := os.Remove(down); err != nil {
		return err
	}
	if err := s.awaitNode(dead); err != nil {
		return err
	}
	s.done = append(s.done, topic)
	return nil
}

// awaitLed waits until a broker says that each partition of a topic is led by a node that
// is not dead.
func awaitLed(ctx context.Context, broker, topic string, dead int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		return err
	}
	defer cl.Close()
	asked, last := kmsg.NewPtrMetadataRequest(), ""
	asked.Topics = append(asked.Topics, kmsg.MetadataRequestTopic{Topic: &topic})
	for deadline := time.Now().Add(gapLimit); time.Now().Before(deadline); {
		answer, err := cl.SeedBrokers()[0].Request(ctx, asked) // of this broker, whoever else there is
		if err != nil {
			last = err.Error()
		} else {
			without, all := 0, answer.(*kmsg.MetadataResponse).Topics[0].Partitions
			for _, p := range all {
				if p.Leader < 0 || p.Leader == dead {
					without++
				}
			}
			if without == 0 && len(all) > 0 {
				return nil
			}
			last = fmt.Sprintf("%d of %d partitions are led by nobody, or the dead", without, len(all))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(diesPoll):
		}
	}
	return fmt.Errorf("%s after %s: %s", broker, gapLimit, last)
}
