package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/bench/load"
)

// options are the command's flags.
type options struct {
	millrace  string
	nodes     string
	peer      string
	peerSync  string
	dir       string
	only      string
	runs      int
	seconds   time.Duration
	bulkBytes int64
	backlog   int64
	scripts   string
	many      int
	manyPeer  int
}

func main() {
	var o options
	flag.StringVar(&o.millrace, "millrace", "bin/millrace", "broker under test")
	flag.StringVar(&o.nodes, "nodes", "", "shell command that starts several of the broker under test, as -peer does; empty: one is started")
	flag.StringVar(&o.peer, "peer", "", "shell command that starts the peer in its default settings; empty: none")
	flag.StringVar(&o.peerSync, "peer-synced", "", "the same with a sync before every acknowledgement")
	flag.StringVar(&o.dir, "dir", "", "where data goes (default: a temporary directory)")
	flag.StringVar(&o.only, "only", "start,serial,ack,e2e,bulk,transform,many", "which measurements, comma separated; gap, idle, move and dies need -nodes; drain, through and sync are parts of transform")
	flag.IntVar(&o.many, "many", 4096, "partitions that many creates on Millrace, and dies on each side")
	flag.IntVar(&o.manyPeer, "many-peer", 0, "partitions that many creates on the synced peer, 1024 for example; 0: leave it out")
	flag.IntVar(&o.runs, "runs", 3, "how often each is repeated, sides in turn")
	flag.DurationVar(&o.seconds, "time", 10*time.Second, "length of one latency run")
	flag.Int64Var(&o.bulkBytes, "bulk-bytes", 4<<30, "volume of one bulk run, and of what moves")
	flag.Int64Var(&o.backlog, "backlog", 2_000_000, "records that a script drains")
	flag.StringVar(&o.scripts, "scripts", "", "which scripts, comma separated; empty: all")
	flag.Parse()
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
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

// The names of the sides.
const (
	millraceSide = "millrace"
	peerSide     = "kafka"
	peerSyncSide = "kafka synced"
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
	t := newTable(o.sides())
	if o.wantsSides() {
		if err := measureSides(ctx, o, t); err != nil {
			return err
		}
	}
	if o.wants("many") {
		if err := measureManies(ctx, o, t); err != nil {
			return err
		}
	}
	if o.wants("crowd") {
		if err := measureCrowd(ctx, o, t); err != nil {
			return err
		}
	}
	t.write(os.Stdout)
	return nil
}

// sides names the columns.
func (o options) sides() []string {
	names := []string{millraceSide}
	if o.peer != "" {
		names = append(names, peerSide)
	}
	if o.peerSync != "" {
		names = append(names, peerSyncSide)
	}
	return names
}

// measureSides has all sides up and lets them take turns.
func measureSides(ctx context.Context, o options, t *table) error {
	sides, err := startSides(ctx, o)
	for _, s := range sides {
		defer s.stop()
	}
	if err != nil {
		return err
	}
	for _, s := range sides {
		t.add("start to first ack, s", s.name, s.started.Seconds())
	}
	for run := range o.runs {
		for _, s := range sides {
			if err := awaitDevice(ctx, o.dir, t, s.name); err != nil {
				return err
			}
			if err := measure(ctx, o, s, t, run); err != nil {
				return fmt.Errorf("%s, run %d: %w", s.name, run+1, err)
			}
			if err := load.DeleteTopic(ctx, s.brokers, s.done...); err != nil {
				return err
			}
			s.done = nil
		}
	}
	for _, s := range sides {
		t.add("RSS at the end, MB", s.name, float64(s.usage().RSSBytes)/1e6)
	}
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
	err := add(millraceSide, func(d string) (*side, error) {
		if o.nodes != "" {
			return startPeer(ctx, millraceSide, o.nodes, d)
		}
		return startMillrace(ctx, o.millrace, d)
	})
	if err == nil && o.peer != "" {
		err = add(peerSide, func(d string) (*side, error) { return startPeer(ctx, peerSide, o.peer, d) })
	}
	if err == nil && o.peerSync != "" {
		err = add(peerSyncSide, func(d string) (*side, error) { return startPeer(ctx, peerSyncSide, o.peerSync, d) })
	}
	return sides, err
}

var measurements = []string{"start", "serial", "ack", "e2e", "bulk", "transform", "drain", "through", "sync", "gap", "idle", "move", "dies", "many", "crowd"}

// check refuses a measurement that there is not: a table without it would come
// after minutes.
func (o options) check() error {
	for _, w := range strings.Split(o.only, ",") {
		if !slices.Contains(measurements, w) {
			return fmt.Errorf("-only %q: want some of %s", w, strings.Join(measurements, ","))
		}
	}
	return nil
}

func (o options) wants(what string) bool { return slices.Contains(strings.Split(o.only, ","), what) }

// wantsSides tells whether anything is wanted that has all sides up at once.
func (o options) wantsSides() bool {
	return slices.ContainsFunc(strings.Split(o.only, ","), func(w string) bool { return w != "many" && w != "crowd" })
}

func measure(ctx context.Context, o options, s *side, t *table, run int) error {
	if o.wants("serial") {
		if err := measureSerial(ctx, o, s, t, run); err != nil {
			return err
		}
	}
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
	if o.wants("gap") && o.nodes != "" {
		if err := measureGaps(ctx, s, t, run); err != nil {
			return err
		}
	}
	if o.wants("idle") && o.nodes != "" {
		if err := measureIdle(ctx, s, t, run); err != nil {
			return err
		}
	}
	if o.wants("move") && o.nodes != "" {
		if err := measureMove(ctx, o, s, t, run); err != nil {
			return err
		}
	}
	if o.wants("dies") && o.nodes != "" {
		if err := measureDeath(ctx, o, s, t, run); err != nil {
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
		w := s.open(ctx)
		a := load.AckLatency(ctx, s.brokers, topic, partitions, rate, 1024, o.seconds, nil)
		if a.Error != nil {
			return a.Error
		}
		u := w.close(ctx)
		row := fmt.Sprintf("ack at %d/s, ", rate)
		t.latency(row, s.name, a.Quantiles)
		t.add(row+"CPU-s per M records", s.name, u.CPUSeconds/float64(a.Count)*1e6)
		t.add(row+"sent late, p99 ms", s.name, a.Late.P99)
		t.syncs(row, s.name, u, a.Count)
		t.quiet("ack", s.name, u)
		fmt.Fprintf(os.Stderr, "%s run %d: %d/s p50 %.2f p99 %.2f ms\n", s.name, run+1, rate, a.P50, a.P99)
	}
	s.done = append(s.done, topic)
	return nil
}

// measureSerial has one producer with one record in flight, on one partition: what
// a sync and the way to it take, with nothing to share them with.
func measureSerial(ctx context.Context, o options, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-serial-%d", run)
	if err := load.CreateTopic(ctx, s.brokers, topic, 1); err != nil {
		return err
	}
	if _, err := load.Serial(ctx, s.brokers, topic, valueBytes, 3*time.Second); err != nil { // warm
		return err
	}
	w := s.open(ctx)
	q, err := load.Serial(ctx, s.brokers, topic, valueBytes, o.seconds)
	if err != nil {
		return err
	}
	u := w.close(ctx)
	t.latency("serial, ack ", s.name, q)
	t.add("serial, CPU-s per M records", s.name, u.CPUSeconds/float64(q.Count)*1e6)
	t.syncs("serial, ", s.name, u, q.Count)
	t.quiet("serial", s.name, u)
	fmt.Fprintf(os.Stderr, "%s run %d: serial p50 %.3f p99 %.3f ms\n", s.name, run+1, q.P50, q.P99)
	s.done = append(s.done, topic)
	return nil
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
	w := s.open(ctx)
	q, err := load.EndToEnd(ctx, s.brokers, topic, topic, 4, 1000, o.seconds, dueValue, dueOf)
	if err != nil {
		return err
	}
	t.latency("end to end at 1000/s, ", s.name, q)
	t.quiet("end to end", s.name, w.close(ctx))
	s.done = append(s.done, topic)
	return nil
}

func measureBulk(ctx context.Context, o options, s *side, t *table, run int) error {
	topic := fmt.Sprintf("bench-bulk-%d", run)
	if err := load.CreateTopic(ctx, s.brokers, topic, partitions); err != nil {
		return err
	}
	w := s.open(ctx)
	p, err := load.Produce(ctx, s.brokers, topic, partitions, o.bulkBytes/1024, load.RandomValues(1024))
	if err != nil {
		return err
	}
	produced := w.close(ctx)
	w = s.open(ctx)
	c, err := load.Consume(ctx, s.brokers, topic)
	if err != nil {
		return err
	}
	consumed := w.close(ctx)
	t.add("bulk produce, MB/s", s.name, p.MBps())
	t.add("bulk produce, CPU-s per GB", s.name, produced.CPUSeconds/(float64(p.Bytes)/1e9))
	t.add("bulk produce, cores that the loader used", s.name, produced.LoaderCores)
	t.add("consume, MB/s", s.name, c.MBps())
	t.add("consume, CPU-s per GB", s.name, consumed.CPUSeconds/(float64(c.Bytes)/1e9))
	t.add("consume, cores that the loader used", s.name, consumed.LoaderCores)
	t.quiet("bulk", s.name, produced)
	t.quiet("bulk", s.name, consumed)
	fmt.Fprintf(os.Stderr, "%s run %d: produce %.0f MB/s, consume %.0f MB/s\n", s.name, run+1, p.MBps(), c.MBps())
	s.done = append(s.done, topic)
	return nil
}
