package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/bench/load"
)

// options are the command's flags.
type options struct {
	millrace  string
	peer      string
	peerSync  string
	dir       string
	only      string
	runs      int
	seconds   time.Duration
	bulkBytes int64
	backlog   int64
	scripts   string
}

func main() {
	var o options
	flag.StringVar(&o.millrace, "millrace", "bin/millrace", "broker under test")
	flag.StringVar(&o.peer, "peer", "", "shell command that starts the peer in its default settings; empty: none")
	flag.StringVar(&o.peerSync, "peer-synced", "", "the same with a sync before every acknowledgement")
	flag.StringVar(&o.dir, "dir", "", "where data goes (default: a temporary directory)")
	flag.StringVar(&o.only, "only", "ack,e2e,bulk,start,transform", "which measurements; drain, through and sync are parts of transform")
	flag.IntVar(&o.runs, "runs", 3, "how often each is repeated, sides in turn")
	flag.DurationVar(&o.seconds, "time", 10*time.Second, "length of one latency run")
	flag.Int64Var(&o.bulkBytes, "bulk-bytes", 4<<30, "volume of one bulk run")
	flag.Int64Var(&o.backlog, "backlog", 2_000_000, "records that a script drains")
	flag.StringVar(&o.scripts, "scripts", "", "which scripts, comma separated; empty: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const (
	partitions = 16
	valueBytes = 1024
)

func run(ctx context.Context, o options) error {
	if o.dir == "" {
		d, err := os.MkdirTemp("", "millrace-bench-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(d) }() // data of this run only
		o.dir = d
	}
	sides, err := startSides(ctx, o)
	for _, s := range sides {
		defer s.stop()
	}
	if err != nil {
		return err
	}
	names := make([]string, len(sides))
	for i, s := range sides {
		names[i] = s.name
	}
	t := newTable(names)
	for _, s := range sides {
		t.add("start to first ack, s", s.name, s.started.Seconds())
	}
	for run := range o.runs {
		for _, s := range sides {
			if err := measure(ctx, o, s, t, run); err != nil {
				return fmt.Errorf("%s, run %d: %w", s.name, run+1, err)
			}
		}
	}
	for _, s := range sides {
		t.add("RSS at the end, MB", s.name, float64(s.usage().RSSBytes)/1e6)
	}
	t.write(os.Stdout)
	return nil
}

func startSides(ctx context.Context, o options) ([]*side, error) {
	var sides []*side
	add := func(name string, start func(dir string) (*side, error)) error {
		dir := filepath.Join(o.dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		s, err := start(dir)
		if s != nil && s.cmd.Process != nil {
			sides = append(sides, s)
		}
		return err
	}
	err := add("millrace", func(d string) (*side, error) { return startMillrace(ctx, o.millrace, d) })
	if err == nil && o.peer != "" {
		err = add("kafka", func(d string) (*side, error) { return startPeer(ctx, "kafka", o.peer, d) })
	}
	if err == nil && o.peerSync != "" {
		err = add("kafka synced", func(d string) (*side, error) { return startPeer(ctx, "kafka synced", o.peerSync, d) })
	}
	return sides, err
}

func (o options) wants(what string) bool {
	for _, w := range strings.Split(o.only, ",") {
		if w == what {
			return true
		}
	}
	return false
}

func measure(ctx context.Context, o options, s *side, t *table, run int) error {
	if o.wants("ack") {
		if err := measureAcks(ctx, o, s, t, run); err != nil {
			return err
		}
	}
	if o.wants("e2e") {
		if err := measureEndToEnd(ctx, o, s, t, run); err != nil {
			return err
		}
	}
	if o.wants("bulk") {
		if err := measureBulk(ctx, o, s, t, run); err != nil {
			return err
		}
	}
	if s.admin != "" {
		return measureTransforms(ctx, o, s, t, run)
	}
	return nil
}

func measureAcks(ctx context.Context, o options, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-ack-%d", run)
	if err := load.CreateTopic(ctx, s.brokers, topic, partitions); err != nil {
		return err
	}
	load.AckLatency(ctx, s.brokers, topic, partitions, 5000, 1024, 3*time.Second, nil) // warm
	for _, rate := range []int{2000, 10000, 20000} {
		before := s.usage()
		a := load.AckLatency(ctx, s.brokers, topic, partitions, rate, 1024, o.seconds, nil)
		if a.Error != nil {
			return a.Error
		}
		cpu := s.usage().CPUSeconds - before.CPUSeconds
		row := fmt.Sprintf("ack at %d/s, ", rate)
		t.add(row+"p50 ms", s.name, a.P50)
		t.add(row+"p99 ms", s.name, a.P99)
		t.add(row+"p99.9 ms", s.name, a.P999)
		t.add(row+"CPU-s per M records", s.name, cpu/float64(a.Count)*1e6)
		fmt.Fprintf(os.Stderr, "%s run %d: %d/s p50 %.2f p99 %.2f ms\n", s.name, run+1, rate, a.P50, a.P99)
	}
	return load.DeleteTopic(ctx, s.brokers, topic)
}

// dueValue carries a record's due time in its first eight bytes.
func dueValue(_ int, due time.Time) []byte {
	v := make([]byte, valueBytes)
	binary.LittleEndian.PutUint64(v, uint64(due.UnixNano()))
	return v
}

func dueOf(r *kgo.Record) (time.Time, bool) {
	if len(r.Value) < 8 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(binary.LittleEndian.Uint64(r.Value))), true
}

func measureEndToEnd(ctx context.Context, o options, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-e2e-%d", run)
	if err := load.CreateTopic(ctx, s.brokers, topic, 4); err != nil {
		return err
	}
	q, err := load.EndToEnd(ctx, s.brokers, topic, topic, 4, 1000, o.seconds, dueValue, dueOf)
	if err != nil {
		return err
	}
	t.add("end to end at 1000/s, p50 ms", s.name, q.P50)
	t.add("end to end at 1000/s, p99 ms", s.name, q.P99)
	return load.DeleteTopic(ctx, s.brokers, topic)
}

func measureBulk(ctx context.Context, o options, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-bulk-%d", run)
	if err := load.CreateTopic(ctx, s.brokers, topic, partitions); err != nil {
		return err
	}
	before := s.usage()
	p, err := load.Produce(ctx, s.brokers, topic, partitions, o.bulkBytes/1024, load.RandomValues(1024))
	if err != nil {
		return err
	}
	between := s.usage()
	c, err := load.Consume(ctx, s.brokers, topic)
	if err != nil {
		return err
	}
	after := s.usage()
	t.add("bulk produce, MB/s", s.name, p.MBps())
	t.add("bulk produce, CPU-s per GB", s.name, (between.CPUSeconds-before.CPUSeconds)/(float64(p.Bytes)/1e9))
	t.add("consume, MB/s", s.name, c.MBps())
	t.add("consume, CPU-s per GB", s.name, (after.CPUSeconds-between.CPUSeconds)/(float64(c.Bytes)/1e9))
	fmt.Fprintf(os.Stderr, "%s run %d: produce %.0f MB/s, consume %.0f MB/s\n", s.name, run+1, p.MBps(), c.MBps())
	return load.DeleteTopic(ctx, s.brokers, topic)
}
