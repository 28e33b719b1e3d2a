package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/bench/load"
)

const (
	// idlePartitions is how many partitions of three replicas the nodes hold at rest.
	idlePartitions = 1024
	// idleSettle is how long they may come to rest first, idleTime how long they are watched.
	idleSettle, idleTime = 30 * time.Second, 30 * time.Second
	// movePoll is how often it is asked what still moves, moveLimit for how long.
	movePoll, moveLimit = 100 * time.Millisecond, 30 * time.Minute
)

// measureIdle tells what nodes use that hold partitions and are asked nothing.
func measureIdle(ctx context.Context, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-idle-%d", run)
	if err := load.NewTopic(ctx, s.brokers, topic, idlePartitions); err != nil {
		return err
	}
	time.Sleep(idleSettle)
	w := s.open(ctx)
	time.Sleep(idleTime)
	u := w.close(ctx)
	cores := u.CPUSeconds / idleTime.Seconds()
	t.add(fmt.Sprintf("idle with %d partitions, cores of all nodes", idlePartitions), s.name, cores)
	t.quiet("idle", s.name, u)
	fmt.Fprintf(os.Stderr, "%s run %d: idle %.2f cores\n", s.name, run+1, cores)
	s.done = append(s.done, topic)
	return nil
}

// measureMove brings partitions of one replica to another node each, and tells how long
// it takes until nothing moves any more.
func measureMove(ctx context.Context, o options, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-move-%d", run)
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return err
	}
	wrote, err := load.Produce(ctx, s.brokers, topic, partitions, o.bulkBytes/valueBytes, load.RandomValues(valueBytes))
	if err != nil {
		return err
	}
	m, err := adm.Metadata(ctx, topic)
	if err != nil {
		return err
	}
	var want kadm.AlterPartitionAssignmentsReq
	to := map[int32]int32{}
	nodes := m.Brokers.NodeIDs()
	slices.Sort(nodes)
	for _, p := range m.Topics[topic].Partitions.Sorted() {
		at := slices.Index(nodes, p.Replicas[0])
		to[p.Partition] = nodes[(at+1)%len(nodes)]
		want.Assign(topic, p.Partition, []int32{to[p.Partition]})
	}
	w := s.open(ctx)
	began := time.Now()
	did, err := adm.AlterPartitionAssignments(ctx, want)
	if err := errors.Join(err, did.Error()); err != nil {
		return err
	}
	if err := awaitMoved(ctx, adm, topic, to); err != nil {
		return err
	}
	took := time.Since(began)
	u := w.close(ctx)
	gb := float64(wrote.Bytes) / 1e9
	t.add(fmt.Sprintf("move of %.1f GB, s", gb), s.name, took.Seconds())
	t.add("move, MB/s", s.name, gb*1e3/took.Seconds())
	t.add("move, CPU-s per GB", s.name, u.CPUSeconds/gb)
	t.quiet("move", s.name, u)
	fmt.Fprintf(os.Stderr, "%s run %d: %.1f GB moved in %.1f s\n", s.name, run+1, gb, took.Seconds())
	s.done = append(s.done, topic)
	return nil
}

// awaitMoved waits until each partition is where it was to go, and nowhere else.
func awaitMoved(ctx context.Context, adm *kadm.Client, topic string, to map[int32]int32) error {
	for deadline := time.Now().Add(moveLimit); ; time.Sleep(movePoll) {
		m, err := adm.Metadata(ctx, topic)
		if err != nil {
			return err
		}
		left := 0
		for _, p := range m.Topics[topic].Partitions {
			if !slices.Equal(p.Replicas, []int32{to[p.Partition]}) || p.Leader != to[p.Partition] {
				left++
			}
		}
		switch {
		case left == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d partitions still move after %s", left, moveLimit)
		}
	}
}
