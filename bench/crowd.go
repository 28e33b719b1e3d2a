package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace-io/millrace/bench/load"
)

const (
	crowdMemory    = "512M"
	crowdRate      = 2000 // records a second of those who behave
	crowdBacklog   = 1 << 30
	crowdValue     = 64 << 10
	crowdTopic     = "bench-crowd"
	crowdBig       = "bench-crowd-backlog"
	crowdReadBytes = 50 << 20
)

// crowdFrames are what is announced: one that is refused at once with so little
// memory, and one that is not.
var crowdFrames = []int{100 << 20, 30 << 20}

// measureCrowd has one broker with little memory acknowledge without and with a
// crowd of strangers, in turn: what they cost those who behave.
func measureCrowd(ctx context.Context, o options, t *table) error {
	dir := filepath.Join(o.dir, "crowd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s, err := startMillrace(ctx, o.millrace, dir, "--memory", crowdMemory)
	if s != nil && s.cmd.Process != nil {
		defer s.stop()
	}
	if err != nil {
		return err
	}
	if err := load.CreateTopic(ctx, s.brokers, crowdTopic, partitions); err != nil {
		return err
	}
	if err := load.CreateTopic(ctx, s.brokers, crowdBig, 1); err != nil {
		return err
	}
	records := int64(crowdBacklog / crowdValue)
	if _, err := load.Produce(ctx, s.brokers, crowdBig, 1, records, load.RandomValues(crowdValue)); err != nil {
		return err
	}
	s.settle(ctx)
	load.AckLatency(ctx, s.brokers, crowdTopic, partitions, crowdRate, valueBytes, 5*time.Second, nil) // warm
	crowd := load.Crowd{Readers: 200, ReadBytes: crowdReadBytes, Topic: crowdBig, End: records, Announcers: 100, FrameBytes: crowdFrames}
	for run := range o.runs {
		if err := awaitDevice(ctx, o.dir, t, s.name); err != nil {
			return err
		}
		alone, err := crowdAcks(ctx, o, s, t, "alone")
		if err != nil {
			return err
		}
		seen, leave := crowd.Start(ctx, s.brokers)
		among, err := crowdAcks(ctx, o, s, t, "in a crowd")
		leave()
		if err != nil {
			return err
		}
		t.add("p99 in a crowd / alone", s.name, among.P99/alone.P99)
		fmt.Fprintf(os.Stderr, "%s run %d: alone p50 %.2f p99 %.2f, in a crowd %.2f %.2f ms; it came %d times, took %d MB in %d answers\n",
			s.name, run+1, alone.P50, alone.P99, among.P50, among.P99, seen.Connections.Load(), seen.Taken.Load()/1e6, seen.Answers.Load())
	}
	return nil
}

func crowdAcks(ctx context.Context, o options, s *side, t *table, how string) (load.Acks, error) {
	w := s.open(ctx)
	a := load.AckLatency(ctx, s.brokers, crowdTopic, partitions, crowdRate, valueBytes, o.seconds, nil)
	if a.Error != nil {
		return a, a.Error
	}
	u := w.close(ctx)
	row := fmt.Sprintf("ack at %d/s %s, ", crowdRate, how)
	t.latency(row, s.name, a.Quantiles)
	t.add(row+"CPU-s per M records", s.name, u.CPUSeconds/float64(a.Count)*1e6)
	t.add(row+"sent late, p99 ms", s.name, a.Late.P99)
	t.add(row+"RSS, MB", s.name, float64(s.usage().RSSBytes)/1e6)
	t.quiet("crowd", s.name, u)
	return a, nil
}
