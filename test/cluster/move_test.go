package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/test/node"
)

// mover asks for moves of the topic's partitions.
type mover struct {
	client *kgo.Client
}

// ask has each partition go where goal says; nil cancels.
func (m *mover) ask(t *testing.T, goal map[int32][]int32) {
	t.Helper()
	await(t, "moves to be taken", func() error {
		r := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		r.TimeoutMillis = 10_000
		topics := kmsg.NewAlterPartitionAssignmentsRequestTopic()
		topics.Topic = topic
		for p, replicas := range goal {
			topics.Partitions = append(topics.Partitions, kmsg.AlterPartitionAssignmentsRequestTopicPartition{Partition: p, Replicas: replicas})
		}
		r.Topics = append(r.Topics, topics)
		answer, err := r.RequestWith(t.Context(), m.client)
		if err != nil {
			return err
		}
		for _, p := range answer.Topics[0].Partitions {
			if p.ErrorCode != 0 {
				err = errors.Join(err, fmt.Errorf("partition %d: %d, %s", p.Partition, p.ErrorCode, *p.ErrorMessage))
			}
		}
		return err
	})
}

// underWay tells how many partitions are on their way.
func (m *mover) underWay(ctx context.Context) (int, error) {
	answer, err := kmsg.NewPtrListPartitionReassignmentsRequest().RequestWith(ctx, m.client)
	if err != nil || len(answer.Topics) == 0 {
		return 0, err
	}
	return len(answer.Topics[0].Partitions), nil
}

// done waits until nothing is on its way.
func (m *mover) done(t *testing.T) {
	t.Helper()
	await(t, "moves to end", func() error {
		n, err := m.underWay(t.Context())
		if err == nil && n > 0 {
			err = fmt.Errorf("%d partitions are under way", n)
		}
		return err
	})
}

// replicas waits until partitions are where they should be, as any node tells: it may be a
// moment behind.
func (m *mover) replicas(t *testing.T, want map[int32][]int32) {
	t.Helper()
	await(t, "replicas to be where they should", func() error {
		r := kmsg.NewPtrMetadataRequest()
		name := topic
		r.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		answer, err := r.RequestWith(t.Context(), m.client)
		if err != nil {
			return err
		}
		for _, p := range answer.Topics[0].Partitions {
			if fmt.Sprint(p.Replicas) != fmt.Sprint(want[p.Partition]) {
				err = errors.Join(err, fmt.Errorf("partition %d is on %v, not on %v", p.Partition, p.Replicas, want[p.Partition]))
			}
		}
		return err
	})
}

const moved = 3 // partitions

// everywhere has partition p on all nodes, node p first; elsewhere on one, which is by
// more than p.
func everywhere() map[int32][]int32 {
	return map[int32][]int32{0: {0, 1, 2}, 1: {1, 2, 0}, 2: {2, 0, 1}}
}

func elsewhere(by int32) map[int32][]int32 {
	return map[int32][]int32{0: {by % 3}, 1: {(1 + by) % 3}, 2: {(2 + by) % 3}}
}

func startMoves(t *testing.T, args ...string) (*node.Cluster, *writer, *mover) {
	t.Helper()
	c := node.NewCluster(t, 3, node.Options{Args: args})
	c.Start()
	createTopic(t, c, 0, moved, 1)
	return c, startWriter(t, c, moved), &mover{client: c.Client()}
}

// TestMove: a topic of one replica each is brought everywhere, to single other nodes,
// and everywhere again, under a writer; then all start again.
func TestMove(t *testing.T) {
	c, w, m := startMoves(t)
	w.more(t, 20)
	for round, goal := range []map[int32][]int32{everywhere(), elsewhere(1), everywhere(), elsewhere(2), elsewhere(0), everywhere()} {
		m.ask(t, goal)
		m.done(t)
		m.replicas(t, goal)
		w.more(t, 20)
		t.Logf("round %d is over", round)
	}
	for _, n := range c.Nodes {
		n.Kill()
	}
	c.Start()
	w.more(t, 20)
	for p := range moved {
		victim := leaderOf(t, c.Nodes[p%3], p)
		c.Nodes[victim].Kill() // what they hold is enough without any of them
		w.more(t, 10)
		c.Start(victim)
		w.more(t, 10)
	}
	w.stop(t)
	w.check(t, c)
}

// TestMoveThenKilled: partitions move to one other node each, nothing more is written to
// them, and all nodes are killed: whoever is left in a group knows that he is alone, though
// no later record says so and the others' replicas are gone.
func TestMoveThenKilled(t *testing.T) {
	c, w, m := startMoves(t)
	w.more(t, 20)
	w.stop(t)
	m.ask(t, elsewhere(1))
	m.done(t)
	m.replicas(t, elsewhere(1))
	for _, n := range c.Nodes {
		n.Kill()
	}
	c.Start()
	w.check(t, c)
}

// TestMoveCancelled: what cannot be done is taken back, and then done.
func TestMoveCancelled(t *testing.T) {
	c, w, m := startMoves(t)
	goal := map[int32][]int32{0: {0, 1}, 1: {1, 0}, 2: {0}}
	m.ask(t, goal)
	m.done(t)
	w.more(t, 10)
	c.Nodes[2].Kill()
	m.ask(t, map[int32][]int32{0: {2}, 1: {2, 0}, 2: {2, 1}})
	w.more(t, 20)
	if n, err := m.underWay(t.Context()); n != moved || err != nil {
		t.Fatalf("%d partitions are on their way to a node that is down, %v", n, err)
	}
	m.ask(t, map[int32][]int32{0: nil, 1: nil, 2: nil})
	m.done(t)
	m.replicas(t, goal)
	w.more(t, 20)
	c.Start(2)
	m.ask(t, everywhere())
	m.done(t)
	m.replicas(t, everywhere())
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
}

// TestMoveLeaderKilled: whoever leads next goes on where the one before was.
func TestMoveLeaderKilled(t *testing.T) {
	c, w, m := startMoves(t)
	goals := []map[int32][]int32{everywhere(), elsewhere(1), everywhere(), elsewhere(0), everywhere()}
	for round, goal := range goals {
		w.more(t, 20)
		victim := leaderOf(t, c.Nodes[round%3], round%moved)
		m.ask(t, goal)
		c.Nodes[victim].Kill()
		c.Start(victim)
		m.done(t)
		m.replicas(t, goal)
	}
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
}

// TestMoveChanged: goals change before they are reached, so that a node may be to hold
// another replica of what it has yet to let go.
func TestMoveChanged(t *testing.T) {
	c, w, m := startMoves(t)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		goal := map[int32][]int32{}
		for p := range int32(moved) {
			nodes := random.Perm(3)
			for _, n := range nodes[:1+random.IntN(3)] {
				goal[p] = append(goal[p], int32(n))
			}
		}
		m.ask(t, goal)
		w.more(t, random.IntN(30))
		if round%10 == 9 {
			n := c.Nodes[random.IntN(3)]
			n.Kill()
			n.Restart()
		}
	}
	m.ask(t, everywhere())
	m.done(t)
	m.replicas(t, everywhere())
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
}

// TestMoveForgotten: what the log has forgotten comes to a new replica as files.
func TestMoveForgotten(t *testing.T) {
	c, w, m := startMoves(t, "--set", "snapshot_entries=100")
	w.more(t, 1000)
	for _, goal := range []map[int32][]int32{everywhere(), elsewhere(1), elsewhere(2), everywhere()} {
		m.ask(t, goal)
		m.done(t)
		m.replicas(t, goal)
		w.more(t, 300)
	}
	for i, n := range c.Nodes {
		n.Kill()
		w.more(t, 20)
		c.Start(i)
		w.more(t, 20)
	}
	w.stop(t)
	w.check(t, c)
}
