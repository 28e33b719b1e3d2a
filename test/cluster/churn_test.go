package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/test/node"
)

// restless is the topic whose partitions move.
const restless = "restless"

// churn moves a topic's partitions all the time, and empties nodes and takes them back,
// whatever else strikes: what is refused or unheard is asked for again, or given up.
type churn struct {
	c          *node.Cluster
	client     *kgo.Client
	partitions int
	random     *rand.Rand
	cancel     context.CancelFunc
	done       sync.WaitGroup

	moves, drains, refused int // owned by run until it is done
	last                   error
}

const (
	// churnPause lies between two changes.
	churnPause = 2 * time.Second
	// churnWait bounds one.
	churnWait = 5 * time.Second
)

func startChurn(c *node.Cluster, seed uint64, partitions int) *churn {
	m := &churn{c: c, client: c.Client(prompt()...), partitions: partitions, random: rand.New(rand.NewPCG(seed, 1))}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.done.Go(func() { m.run(ctx) })
	return m
}

func (m *churn) run(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		if m.random.IntN(5) == 0 {
			m.drains++
			err = m.drain(ctx, m.random.IntN(len(m.c.Nodes)))
		} else {
			m.moves++
			err = m.move(ctx, m.drawn())
		}
		if err != nil && ctx.Err() == nil {
			m.refused++
			m.last = err
		}
		select {
		case <-time.After(time.Duration(m.random.Int64N(int64(2 * churnPause)))):
		case <-ctx.Done():
		}
	}
}

// drawn gives each partition one to three nodes.
func (m *churn) drawn() map[int32][]int32 {
	goal := map[int32][]int32{}
	for p := range int32(m.partitions) {
		nodes := m.random.Perm(len(m.c.Nodes))
		for _, n := range nodes[:1+m.random.IntN(len(nodes))] {
			goal[p] = append(goal[p], int32(n))
		}
	}
	return goal
}

func (m *churn) move(ctx context.Context, goal map[int32][]int32) error {
	ctx, cancel := context.WithTimeout(ctx, churnWait)
	defer cancel()
	r := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	r.TimeoutMillis = int32(churnWait.Milliseconds())
	t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	t.Topic = restless
	for p, replicas := range goal {
		t.Partitions = append(t.Partitions, kmsg.AlterPartitionAssignmentsRequestTopicPartition{Partition: p, Replicas: replicas})
	}
	r.Topics = append(r.Topics, t)
	answer, err := r.RequestWith(ctx, m.client)
	if err != nil {
		return err
	}
	for _, p := range answer.Topics[0].Partitions {
		if p.ErrorCode != 0 {
			err = errors.Join(err, fmt.Errorf("partition %d: %d", p.Partition, p.ErrorCode))
		}
	}
	return err
}

// drain begins to empty a node, for a while.
func (m *churn) drain(ctx context.Context, n int) error {
	_, err := m.c.Nodes[(n+1)%len(m.c.Nodes)].CLI("cluster", "decommission", fmt.Sprint(n))
	select {
	case <-time.After(time.Duration(m.random.Int64N(int64(3 * churnPause)))):
	case <-ctx.Done():
	}
	_, back := m.c.Nodes[(n+2)%len(m.c.Nodes)].CLI("cluster", "recommission", fmt.Sprint(n))
	return errors.Join(err, back)
}

// stop ends it; it may be called again.
func (m *churn) stop() {
	m.cancel()
	m.done.Wait()
}

// settle takes all nodes back, and waits until the topic is on all of them.
func (m *churn) settle(t *testing.T) {
	t.Helper()
	for n := range m.c.Nodes {
		await(t, fmt.Sprintf("node %d to be taken back", n), func() error {
			_, err := m.c.Nodes[n].CLI("cluster", "recommission", fmt.Sprint(n))
			return err
		})
	}
	goal := map[int32][]int32{}
	for p := range int32(m.partitions) {
		goal[p] = []int32{p % 3, (p + 1) % 3, (p + 2) % 3}
	}
	await(t, "the last moves to be taken", func() error { return m.move(t.Context(), goal) })
	await(t, "moves to end", func() error {
		answer, err := kmsg.NewPtrListPartitionReassignmentsRequest().RequestWith(t.Context(), m.client)
		if err == nil && len(answer.Topics) > 0 {
			err = fmt.Errorf("under way: %v", answer.Topics[0].Partitions)
		}
		return err
	})
}

func (m *churn) String() string {
	return fmt.Sprintf("%d moves and %d drains, %d refused (%v)", m.moves, m.drains, m.refused, m.last)
}
