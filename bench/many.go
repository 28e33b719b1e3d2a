package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace-io/millrace/bench/load"
)

// manyTopic is the one topic of many partitions.
const manyTopic = "bench-many"

const (
	manyRate  = 2000 // records a second over all partitions
	manyIdle  = 10 * time.Second
	manyAfter = 2 * time.Second // of load before the kill
)

// many is a broker with many partitions, alone on the machine.
type many struct {
	name       string
	partitions int32
	start      func(ctx context.Context, dir string) (*side, error)
}

// measureManies measures each side that has many partitions, one after the
// other: every run has a new data directory, and no other broker is up.
func measureManies(ctx context.Context, o options, t *table) error {
	sides := []many{{millraceSide, int32(o.many), func(ctx context.Context, dir string) (*side, error) {
		return startMillrace(ctx, o.millrace, dir)
	}}}
	if o.peerSync != "" && o.manyPeer > 0 {
		sides = append(sides, many{peerSyncSide, int32(o.manyPeer), func(ctx context.Context, dir string) (*side, error) {
			return startPeer(ctx, peerSyncSide, o.peerSync, dir)
		}})
	}
	for run := range o.runs {
		for _, m := range sides {
			dir := filepath.Join(o.dir, fmt.Sprintf("many-%s-%d", strings.ReplaceAll(m.name, " ", "-"), run))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := awaitDevice(ctx, o.dir, t, m.name); err != nil {
				return err
			}
			if err := m.measure(ctx, o, t, dir); err != nil {
				return fmt.Errorf("%s, many partitions, run %d: %w", m.name, run+1, err)
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure goes through a broker's life: created, idle, under load, stopped,
// started, killed, started.
func (m many) measure(ctx context.Context, o options, t *table, dir string) (err error) {
	s, err := m.start(ctx, dir)
	defer func() {
		if s != nil {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	t.add("many, partitions", m.name, float64(m.partitions))
	if err := m.create(ctx, s, t); err != nil {
		return err
	}
	if err := m.load(ctx, o, s, t); err != nil {
		return err
	}
	began := time.Now()
	if !s.stop() {
		return errors.New("it did not stop by itself")
	}
	t.add("many, clean stop, s", m.name, time.Since(began).Seconds())
	if s, err = m.restart(ctx, t, dir, "after a clean stop"); err != nil {
		return err
	}
	if a := load.AckLatency(ctx, s.brokers, manyTopic, m.partitions, manyRate, valueBytes, manyAfter, nil); a.Error != nil {
		return a.Error
	}
	s.kill()
	s, err = m.restart(ctx, t, dir, "after kill -9")
	return err
}

// create makes the topic, then looks at what its idle partitions cost.
func (m many) create(ctx context.Context, s *side, t *table) error {
	s.settle(ctx)
	before := s.usage()
	began := time.Now()
	if err := load.NewTopic(ctx, s.brokers, manyTopic, m.partitions); err != nil {
		return err
	}
	t.add("many, create, s", m.name, time.Since(began).Seconds())
	if err := load.Prime(ctx, s.brokers, manyTopic, m.partitions, 3); err != nil {
		return err
	}
	t.add("many, create to an ack of each, s", m.name, time.Since(began).Seconds())
	s.settle(ctx)
	w := s.open(ctx)
	select {
	case <-time.After(manyIdle):
	case <-ctx.Done():
		return ctx.Err()
	}
	u := w.close(ctx)
	t.add("many, idle CPU, % of a core", m.name, u.CPUSeconds/manyIdle.Seconds()*100)
	t.add("many, RSS per idle partition, KiB", m.name, float64(s.usage().RSSBytes-before.RSSBytes)/1024/float64(m.partitions))
	t.quiet("many", m.name, u)
	return nil
}

// load measures acknowledgements round-robin over all of them.
func (m many) load(ctx context.Context, o options, s *side, t *table) error {
	if a := load.AckLatency(ctx, s.brokers, manyTopic, m.partitions, manyRate, valueBytes, 3*time.Second, nil); a.Error != nil { // warm
		return a.Error
	}
	w := s.open(ctx)
	a := load.AckLatency(ctx, s.brokers, manyTopic, m.partitions, manyRate, valueBytes, o.seconds, nil)
	if a.Error != nil {
		return a.Error
	}
	u := w.close(ctx)
	row := fmt.Sprintf("many, ack at %d/s, ", manyRate)
	t.latency(row, m.name, a.Quantiles)
	t.add(row+"CPU-s per M records", m.name, u.CPUSeconds/float64(a.Count)*1e6)
	t.add(row+"sent late, p99 ms", m.name, a.Late.P99)
	t.syncs(row, m.name, u, a.Count)
	t.quiet("many", m.name, u)
	fmt.Fprintf(os.Stderr, "%s: %d partitions: %d/s p50 %.2f p99 %.2f ms\n", m.name, m.partitions, manyRate, a.P50, a.P99)
	return nil
}

// restart starts the broker over what it left. That it is ready is its own
// word; that every partition takes a record is the proof.
func (m many) restart(ctx context.Context, t *table, dir, when string) (*side, error) {
	began := time.Now()
	s, err := m.start(ctx, dir)
	if err != nil {
		return s, err
	}
	if err := load.Prime(ctx, s.brokers, manyTopic, m.partitions, 1); err != nil {
		return s, err
	}
	all := time.Since(began)
	t.add("many, ready "+when+", s", m.name, s.ready.Seconds())
	t.add("many, ack of each "+when+", s", m.name, all.Seconds())
	fmt.Fprintf(os.Stderr, "%s: %d partitions: ready %s in %.1f s, all acknowledge in %.1f s\n", m.name, m.partitions, when, s.ready.Seconds(), all.Seconds())
	return s, nil
}
