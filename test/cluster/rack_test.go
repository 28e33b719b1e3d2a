package cluster

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/test/node"
)

// fetches remembers which brokers a client has read answers to fetches from, and where
// they were, since it was last asked. mu guards both.
type fetches struct {
	mu   sync.Mutex
	from map[int32]int
	at   map[string]bool
}

// OnBrokerRead implements kgo.HookBrokerRead.
func (f *fetches) OnBrokerRead(b kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key != int16(kmsg.Fetch) || err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from[b.NodeID]++
	f.at[net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))] = true
}

func (f *fetches) since() map[int32]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.from
	f.from = map[int32]int{}
	return last
}

// TestRacksAndListeners: a consumer outside, in one node's rack, is told the addresses for
// those outside and reads everything from that node, whoever leads.
func TestRacksAndListeners(t *testing.T) {
	const partitions, near = 6, 1
	c := node.NewCluster(t, 3, node.Options{Args: []string{
		"--kafka-addr", "internal://127.0.0.1:0,external://127.0.0.1:0",
		"--set", "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector",
	}})
	for i, n := range c.Nodes {
		n.O.Args = append(n.O.Args, "--rack", string(rune('a'+i)))
	}
	c.Start()
	createTopic(t, c, 0, partitions, 3)
	inside, outside := c.Brokers(), externals(t, c)
	inner := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	seen := &fetches{from: map[int32]int{}, at: map[string]bool{}}
	outer, err := kgo.NewClient(kgo.SeedBrokers(outside...), kgo.Rack("b"), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.MetadataMinAge(50*time.Millisecond), kgo.WithHooks(seen))
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	checkTold(t, inner, inside, 0)
	leaders := checkTold(t, outer, outside, partitions)
	if slices.Max(leaders) == partitions {
		t.Fatalf("one node leads all: %v", leaders)
	}
	rounds := 0
	await(t, "the consumer to read from its own rack alone", func() error {
		rounds++
		seen.since()
		produceAndConsume(t, inner, outer, partitions, rounds)
		if from := seen.since(); from[near] == 0 || len(from) > 1 {
			return fmt.Errorf("round %d: fetches answered by node: %v, led by %v", rounds, from, leaders)
		}
		return nil
	})
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for at := range seen.at {
		if !slices.Contains(outside, at) {
			t.Errorf("fetched from %s, which is none of %v", at, outside)
		}
	}
}

// externals lists where the nodes take clients from outside, as their ready lines say.
func externals(t *testing.T, c *node.Cluster) (all []string) {
	t.Helper()
	for _, n := range c.Nodes {
		_, rest, ok := strings.Cut(n.Line, " kafka.external=")
		if !ok || !strings.Contains(n.Line, " kafka.internal="+n.Brokers+" ") {
			t.Fatalf("ready line: %s", n.Line)
		}
		all = append(all, strings.Fields(rest)[0])
	}
	return all
}

// checkTold waits until a client is told these addresses, and no other, and that all
// partitions are led. It gives who leads how many of them, by node.
func checkTold(t *testing.T, cl *kgo.Client, want []string, partitions int) []int {
	t.Helper()
	leads := make([]int, len(want))
	await(t, "brokers and leaders to be told", func() error {
		m, err := kadm.NewClient(cl).Metadata(t.Context(), topic)
		if err != nil {
			return err
		}
		told := make([]string, len(want))
		for _, b := range m.Brokers {
			told[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		}
		if !slices.Equal(told, want) {
			return fmt.Errorf("brokers are %v, want %v", told, want)
		}
		clear(leads)
		led := 0
		for _, p := range m.Topics[topic].Partitions {
			if p.Err == nil {
				leads[p.Leader]++
				led++
			}
		}
		if led < partitions {
			return fmt.Errorf("%d of %d partitions are led", led, partitions)
		}
		return nil
	})
	return leads
}

// produceAndConsume writes one record to each partition, and reads them all.
func produceAndConsume(t *testing.T, inner, outer *kgo.Client, partitions, round int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := fmt.Sprint(round)
	for p := range partitions {
		r := &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte(want)}
		if err := inner.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
	}
	for got := map[int32]bool{}; len(got) < partitions; {
		f := outer.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatalf("round %d, has read of %v: %v", round, got, err)
		}
		f.EachRecord(func(r *kgo.Record) {
			if string(r.Value) != want || r.Offset != int64(round-1) || got[r.Partition] {
				t.Errorf("round %d: partition %d offset %d is %q", round, r.Partition, r.Offset, r.Value)
			}
			got[r.Partition] = true
		})
	}
}
