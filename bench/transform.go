package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/bench/load"
)

//go:embed scripts
var scripts embed.FS

// job is a script under measurement.
type job struct {
	name     string // of the script; its row in the table
	file     string // in scripts
	language string
}

var (
	asyncJobs = []job{
		{"js-filter-first", "filter-first.js", "javascript"},
		{"js-parse-all", "parse-all.js", "javascript"},
		{"go", "filter.go.txt", "go"},
	}
	syncJobs = []job{
		{"js", "scrub.js", "javascript"},
		{"go", "scrub.go.txt", "go"},
	}
)

// main is the project file that the script's text goes to.
func (j job) main() string {
	if j.language == "go" {
		return "main.go"
	}
	return "main.js"
}

// chosen gives those that the flag -scripts names; empty: all.
func chosen(jobs []job, names string) []job {
	if names == "" {
		return jobs
	}
	var some []job
	for _, j := range jobs {
		if strings.Contains(","+names+",", ","+j.name+",") {
			some = append(some, j)
		}
	}
	return some
}

// measureTransforms drains a backlog through each async script, then measures
// latency through it, then what a sync script costs in the path of a write.
func measureTransforms(ctx context.Context, o options, s *side, t *table, run int) error {
	if o.wants("drain") || o.wants("transform") {
		if err := measureDrains(ctx, o, s, t, run); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	if o.wants("through") || o.wants("transform") {
		if err := measureThrough(ctx, o, s, t, run); err != nil {
			return fmt.Errorf("latency through a script: %w", err)
		}
	}
	if o.wants("sync") || o.wants("transform") {
		if err := measureSync(ctx, o, s, t, run); err != nil {
			return fmt.Errorf("sync script: %w", err)
		}
	}
	return nil
}

// measureDrains measures from resume to the last child record consumed, of a
// backlog that was written while the script was paused.
func measureDrains(ctx context.Context, o options, s *side, t *table, run int) error {
	parent := fmt.Sprintf("bench-drain-%d", run)
	if err := load.CreateTopic(ctx, s.brokers, parent, jobPartitions); err != nil {
		return err
	}
	jobs := chosen(asyncJobs, o.scripts)
	topics := []string{parent}
	for _, j := range jobs {
		if err := s.deploy(ctx, o, j, fmt.Sprintf("%s-%d", j.name, run), parent, "async"); err != nil {
			return err
		}
		if _, err := s.cli(ctx, o, "", "wasm", "pause", fmt.Sprintf("%s-%d", j.name, run)); err != nil {
			return err
		}
	}
	if _, err := load.Produce(ctx, s.brokers, parent, jobPartitions, o.backlog, order); err != nil {
		return err
	}
	for _, j := range jobs {
		name := fmt.Sprintf("%s-%d", j.name, run)
		child := parent + "." + name
		topics = append(topics, child, child+".dlq")
		s.settle(ctx)
		w := s.open(ctx)
		took, err := s.drain(ctx, o, name, child)
		if err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		u := w.close(ctx)
		cpu := u.CPUSeconds
		t.quiet("drain", s.name, u)
		row := "drain, " + j.name + ", "
		t.add(row+"records/s", s.name, float64(o.backlog)/took.Seconds())
		t.add(row+"CPU-s per M records", s.name, cpu/float64(o.backlog)*1e6)
		fmt.Fprintf(os.Stderr, "%s run %d: %s drains %.0f records/s, %.2f CPU-s per million\n",
			s.name, run+1, j.name, float64(o.backlog)/took.Seconds(), cpu/float64(o.backlog)*1e6)
		if _, err := s.cli(ctx, o, "", "wasm", "remove", "-y", name); err != nil {
			return err
		}
	}
	s.done = append(s.done, topics...)
	return nil
}

// settle waits until the broker has done what the loader left it to do, such as
// compacting its log: at most settleLimit.
func (s *side) settle(ctx context.Context) {
	const look, idle, settleLimit = 500 * time.Millisecond, 0.1, 30 * time.Second
	quiet := 0
	for deadline := time.Now().Add(settleLimit); quiet < 2 && time.Now().Before(deadline) && ctx.Err() == nil; {
		before := s.usage()
		time.Sleep(look)
		if s.usage().CPUSeconds-before.CPUSeconds < idle*look.Seconds() {
			quiet++
		} else {
			quiet = 0
		}
	}
}

// drainLimit bounds one drain: 10,000 records/s of the default backlog.
const drainLimit = 200 * time.Second

// drain resumes a script and reads its child to the end; it checks every record.
func (s *side) drain(ctx context.Context, o options, name, child string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers), kgo.ConsumeTopics(child),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(8<<20), kgo.FetchMaxPartitionBytes(1<<20))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	resumed := make(chan error, 1)
	begin := time.Now()
	go func() {
		_, err := s.cli(ctx, o, "", "wasm", "resume", name)
		resumed <- err
	}()
	l := newLedger(o.backlog)
	for l.left > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return 0, fmt.Errorf("consume %s, %d records left: %w", child, l.left, err)
		}
		var wrong error
		fs.EachRecord(func(r *kgo.Record) {
			if wrong == nil {
				wrong = l.take(r)
			}
		})
		if wrong != nil {
			return 0, wrong
		}
	}
	took := time.Since(begin)
	if err := <-resumed; err != nil {
		return 0, err
	}
	return took, s.holds(ctx, cl, child, o.backlog)
}

// holds checks that nothing was written behind what was read.
func (s *side) holds(ctx context.Context, cl *kgo.Client, child string, orders int64) error {
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, child)
	if err != nil {
		return err
	}
	var wrong error
	ends.Each(func(e kadm.ListedOffset) {
		if want := keptOf(orders, e.Partition); e.Offset != want {
			wrong = errors.Join(wrong, fmt.Errorf("partition %d ends at %d, want %d: records came twice", e.Partition, e.Offset, want))
		}
	})
	return wrong
}

// measureThrough measures from a record's due time to its child record being
// consumed, and the same records without a script between.
func measureThrough(ctx context.Context, o options, s *side, t *table, run int) error {
	const rate = 1000
	parent := fmt.Sprintf("bench-through-%d", run)
	if err := load.CreateTopic(ctx, s.brokers, parent, jobPartitions); err != nil {
		return err
	}
	topics := []string{parent}
	one := func(row, out string) error {
		w := s.open(ctx)
		q, err := load.EndToEnd(ctx, s.brokers, parent, out, jobPartitions, rate, o.seconds, dueOrder, dueOfOrder)
		if err != nil {
			return err
		}
		u := w.close(ctx)
		cpu := u.CPUSeconds / (rate * o.seconds.Seconds()) * 1e6
		t.quiet("through", s.name, u)
		t.latency("through "+row+" at 1000/s, ", s.name, q)
		t.add("through "+row+" at 1000/s, CPU-s per M records", s.name, cpu)
		fmt.Fprintf(os.Stderr, "%s run %d: through %s p50 %.2f p99 %.2f max %.1f ms, %.0f CPU-s per million\n",
			s.name, run+1, row, q.P50, q.P99, q.Max, cpu)
		return nil
	}
	if err := one("no script", parent); err != nil {
		return err
	}
	for _, j := range chosen(asyncJobs, o.scripts) {
		name := fmt.Sprintf("%s-t%d", j.name, run)
		if err := s.deploy(ctx, o, j, name, parent, "async"); err != nil {
			return err
		}
		child := parent + "." + name
		topics = append(topics, child, child+".dlq")
		if err := one(j.name, child); err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		if _, err := s.cli(ctx, o, "", "wasm", "remove", "-y", name); err != nil {
			return err
		}
	}
	s.done = append(s.done, topics...)
	return nil
}

// measureSync compares topics that differ only in the script bound to them. The
// plain one is measured first, and again while the others have their scripts.
func measureSync(ctx context.Context, o options, s *side, t *table, run int) error {
	plain := fmt.Sprintf("bench-sync-%d", run)
	if err := load.CreateTopic(ctx, s.brokers, plain, partitions); err != nil {
		return err
	}
	topics := []string{plain}
	if err := syncRows(ctx, o, s, t, "no script, none deployed", plain); err != nil {
		return err
	}
	jobs := chosen(syncJobs, o.scripts)
	for _, j := range jobs {
		topic, name := plain+"-"+j.name, fmt.Sprintf("scrub-%s-%d", j.name, run)
		topics = append(topics, topic)
		if err := load.CreateTopic(ctx, s.brokers, topic, partitions); err != nil {
			return err
		}
		if err := s.deploy(ctx, o, j, name, topic, "sync"); err != nil {
			return err
		}
		if err := syncRows(ctx, o, s, t, j.name+" scrub", topic); err != nil {
			return err
		}
	}
	if err := syncRows(ctx, o, s, t, "no script, others have", plain); err != nil {
		return err
	}
	for _, j := range jobs {
		if _, err := s.cli(ctx, o, "", "wasm", "remove", "-y", fmt.Sprintf("scrub-%s-%d", j.name, run)); err != nil {
			return err
		}
	}
	s.done = append(s.done, topics...)
	return nil
}

// syncBulkShare is the part of a bulk run's volume that is written here.
const syncBulkShare = 8

func syncRows(ctx context.Context, o options, s *side, t *table, what, topic string) error {
	orders := repeatedOrders()
	value := func(i int, _ time.Time) []byte { return orders(int64(i)) }
	load.AckLatency(ctx, s.brokers, topic, partitions, 2000, orderBytes, time.Second, value) // warm
	w := s.open(ctx)
	a := load.AckLatency(ctx, s.brokers, topic, partitions, 2000, orderBytes, o.seconds, value)
	if a.Error != nil {
		return a.Error
	}
	acked := w.close(ctx)
	cpu := acked.CPUSeconds / float64(a.Count) * 1e6
	row := "sync, " + what + ", "
	t.latency(row+"ack at 2000/s, ", s.name, a.Quantiles)
	t.add(row+"ack at 2000/s, CPU-s per M records", s.name, cpu)
	w = s.open(ctx)
	p, err := load.Produce(ctx, s.brokers, topic, partitions, o.bulkBytes/orderBytes/syncBulkShare, orders)
	if err != nil {
		return err
	}
	written := w.close(ctx)
	bulk := written.CPUSeconds / float64(p.Records) * 1e6
	t.add(row+"bulk MB/s", s.name, p.MBps())
	t.add(row+"bulk CPU-s per M records", s.name, bulk)
	t.quiet("sync", s.name, acked)
	t.quiet("sync", s.name, written)
	fmt.Fprintf(os.Stderr, "%s: %s: ack p50 %.2f p99 %.2f ms, %.0f CPU-s per million; bulk %.0f MB/s, %.1f CPU-s per million; loader %.2f, others %.2f cores\n",
		s.name, what, a.P50, a.P99, cpu, p.MBps(), bulk, written.LoaderCores, written.OtherCores)
	return nil
}

// syncSettings lift a sync script's budget to its limit: what is measured is how
// long a write takes, and one that is late on a busy machine must not end the run.
const syncSettings = "\nsync: { budget: 1s }\n"

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// deploy generates a project for the script, as a user would, and deploys it.
func (s *side) deploy(ctx context.Context, o options, j job, name, input, mode string) error {
	text, err := scripts.ReadFile("scripts/" + j.file)
	if err != nil {
		return err
	}
	project := filepath.Join(s.dir, "scripts", name)
	if err := os.MkdirAll(filepath.Dir(project), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(project); err != nil { // of an earlier run in the same directory
		return err
	}
	if _, err := s.cli(ctx, o, filepath.Dir(project), "wasm", "generate", name, "--language", j.language); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(project, j.main()), text, 0o644); err != nil {
		return err
	}
	if mode == "sync" {
		if err := appendTo(filepath.Join(project, "transform.yaml"), syncSettings); err != nil {
			return err
		}
	}
	_, err = s.cli(ctx, o, project, "wasm", "deploy", "--name="+name, j.main(), "--input", input, "--mode", mode, "--start", "end", "--wait", "-y")
	return err
}

// cli runs a command of the broker under test.
func (s *side) cli(ctx context.Context, o options, dir string, args ...string) (string, error) {
	binary, err := filepath.Abs(o.millrace)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MILLRACE_BROKERS="+s.brokers, "MILLRACE_ADMIN="+s.admin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("millrace %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out), nil
}
