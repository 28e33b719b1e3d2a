package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
	"github.com/millrace-io/millrace/sdk/manifest"
	"github.com/millrace-io/millrace/sidecar/engine"
)

const (
	trialBytesMax = 256 << 20 // of all records of a trial: they are held in memory
	lineBytesMax  = 64 << 20
	rangeRecords  = 2000 // of the first pass; the second cuts elsewhere
	rangeBytes    = 1 << 20
)

// trial is one run over all records.
type trial struct {
	session *engine.Session
	module  control.Module
	input   int // index of the input that records are read from
	topic   model.TopicID
	records []sample
}

// run runs a module on records of standard input, twice, with batches cut
// elsewhere the second time. A script whose output depends on the cuts would
// not be exactly once after a crash.
func run(ctx context.Context, args []string) (any, error) {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	path := flags.String("manifest", "", "the module's transform.yaml")
	files, err := parseMixed(flags, args)
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, errors.New("want one MODULE")
	}
	m, file, err := moduleOf(files[0], *path)
	if err != nil {
		return nil, err
	}
	samples, err := readSamples(os.Stdin)
	if err != nil {
		return nil, err
	}
	_, session, done, err := openSession()
	if err != nil {
		return nil, err
	}
	defer done()
	go copyLogs(ctx, session)
	if _, err := session.Load(ctx, m); err != nil {
		return nil, err
	}
	t := &trial{session: session, module: m, records: samples}
	first, err := t.pass(ctx, file, rangeRecords)
	if err != nil {
		return nil, err
	}
	second, err := t.pass(ctx, file, max(1, min(7, len(samples)/2)))
	if err != nil {
		return nil, err
	}
	if err := sameOutputs(first, second); err != nil {
		return nil, err
	}
	return nil, t.print(first)
}

// moduleOf reads a module and its manifest, without which defaults hold.
func moduleOf(path, manifestPath string) (control.Module, *manifest.Manifest, error) {
	wasm, err := readModule(path)
	if err != nil {
		return control.Module{}, nil, err
	}
	m := manifest.New()
	m.Name, m.Inputs = "trial", []string{"input"}
	if manifestPath != "" {
		text, err := os.ReadFile(manifestPath)
		if err != nil {
			return control.Module{}, nil, err
		}
		if strings.HasPrefix(string(text), "millrace manifest ") {
			m, err = manifest.Decode(text)
		} else {
			m, err = manifest.Parse(manifestPath, text)
		}
		if err != nil {
			return control.Module{}, nil, err
		}
	}
	if len(m.Inputs) == 0 {
		m.Inputs = []string{"input"}
	}
	return control.Module{
		Digest: model.Digest{1}, Name: m.Name, Mode: control.Mode(m.Mode), Wasm: wasm, Inputs: m.Inputs, Outputs: m.OutputNames(),
		Env: m.Env, MemoryBytesMax: m.Limits.Memory, BatchTimeMax: m.Limits.BatchTime,
	}, m, nil
}

// outcome is what a pass gave: lines in the order of the sources, and counts.
type outcome struct {
	lines  []outputLine
	failed int
}

// pass runs all records, at most that many at a time.
func (t *trial) pass(ctx context.Context, m *manifest.Manifest, cut int) (outcome, error) {
	var all outcome
	for input, topic := range t.module.Inputs {
		t.input, t.topic = input, model.TopicID{byte(input + 1)}
		var of []sample
		for _, s := range t.records {
			if s.Topic == topic || s.Topic == "" && input == 0 {
				of = append(of, s)
			}
		}
		step := t.async
		if t.module.Mode == control.Sync {
			step = t.sync
		}
		for len(of) > 0 {
			n := rangeOf(of, cut)
			if err := step(ctx, m, of[:n], &all); err != nil {
				return outcome{}, err
			}
			of = of[n:]
		}
	}
	return all, nil
}

// rangeOf is how many records go into the next batch: of one partition, with
// ascending offsets.
func rangeOf(of []sample, cut int) int {
	bytes := 0
	for n := range of {
		bytes += len(of[n].tail)
		if n > 0 && (n == cut || bytes > rangeBytes || of[n].Partition != of[0].Partition || of[n].at <= of[n-1].at) {
			return n
		}
	}
	return len(of)
}

func batchOf(of []sample) ([]byte, error) {
	var b record.Builder
	s := record.Plain(record.None)
	s.BaseOffset, s.BaseTimestamp = of[0].at, of[0].Timestamp
	b.Reset(s)
	for i := range of {
		if err := b.AddTail(int32(of[i].at-of[0].at), of[i].Timestamp, of[i].tail); err != nil {
			return nil, err
		}
	}
	_, batch, err := b.Build(nil)
	return batch, err
}

func (t *trial) async(ctx context.Context, m *manifest.Manifest, of []sample, all *outcome) error {
	routing := async.RouteSame
	if m.Partitioning == manifest.ByKey {
		routing = async.RouteKey
	}
	spec := async.FiberSpec{
		Digest: t.module.Digest, Topic: t.module.Inputs[t.input], Input: t.input,
		Parent: model.PartitionID{Topic: t.topic, Index: of[0].Partition}, Retries: m.OnError.Retry,
	}
	for range t.module.Outputs {
		spec.Outputs = append(spec.Outputs, async.Output{Partitions: trialPartitions, Routing: routing})
	}
	fiber, err := t.session.Open(ctx, spec)
	if err != nil {
		return err
	}
	defer fiber.Close()
	batch, err := batchOf(of)
	if err != nil {
		return err
	}
	r, err := fiber.Transform(ctx, async.Batch{From: of[0].at, To: of[len(of)-1].at + 1, Records: batch})
	if err != nil {
		return err
	}
	for _, out := range r.Outputs {
		for _, b := range out.Batches {
			if err := all.add(t.module.Outputs[out.Output], out.Partition, b); err != nil {
				return err
			}
		}
	}
	for _, bad := range r.Failed {
		all.fail(t.module.Inputs[t.input], of[0].Partition, int64(bad.Offset), bad.Kind, bad.Text)
	}
	return nil
}

// trialPartitions is how many partitions outputs have in a trial: enough for
// any hint that makes sense.
const trialPartitions = 1 << 16

func (t *trial) sync(ctx context.Context, _ *manifest.Manifest, of []sample, all *outcome) error {
	batch, err := batchOf(of)
	if err != nil {
		return err
	}
	topic := t.module.Inputs[t.input]
	r, err := t.session.Transform(ctx, plugsync.Batch{
		Digest: t.module.Digest, Topic: topic, TopicID: t.topic, Partition: of[0].Partition, Records: batch,
	})
	switch {
	case err != nil:
		return err
	case r.Failure != nil && r.Failure.Source >= 0:
		all.fail(topic, of[0].Partition, int64(of[r.Failure.Source].at), r.Failure.Kind, r.Failure.Text)
		return nil
	case r.Failure != nil:
		all.fail(topic, of[0].Partition, int64(of[0].at), r.Failure.Kind, r.Failure.Text)
		return nil
	case r.Unchanged:
		return all.add(topic, of[0].Partition, batch)
	}
	return all.add(topic, of[0].Partition, r.Records)
}

func (o *outcome) add(topic string, partition int32, batch []byte) error {
	b, _, err := record.Next(batch)
	if err != nil {
		return err
	}
	var r record.Reader
	if err := r.Reset(b, trialBytesMax); err != nil {
		return err
	}
	var rec record.Record
	for r.Next(&rec) {
		o.lines = append(o.lines, lineOf(topic, partition, &rec))
	}
	return r.Err()
}

func (o *outcome) fail(topic string, partition int32, offset int64, kind control.FailureKind, text string) {
	o.failed++
	o.lines = append(o.lines, outputLine{Failed: kind.String(), Error: text, Topic: topic, Partition: partition, Offset: &offset})
}

// sameOutputs compares passes by output topic and partition, whose order counts.
func sameOutputs(first, second outcome) error {
	a, b := first.perChild(), second.perChild()
	for _, child := range slices.Sorted(mapKeys(a, b)) {
		for i := range max(len(a[child]), len(b[child])) {
			one, two := lineAt(a[child], i), lineAt(b[child], i)
			if one != two {
				return fmt.Errorf("the script's output depends on how batches are cut, so it would not be exactly once after a restart:\n"+
					"record %d of %s is %s with one cut and %s with another\n"+
					"keep no state between records, and take time and random numbers from the SDK", i, child, one, two)
			}
		}
	}
	return nil
}

func mapKeys(maps ...map[string][]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		for _, m := range maps {
			for k := range m {
				if !seen[k] && !yield(k) {
					return
				}
				seen[k] = true
			}
		}
	}
}

func lineAt(lines []string, i int) string {
	if i >= len(lines) {
		return "missing"
	}
	return lines[i]
}

func (o *outcome) perChild() map[string][]string {
	children := map[string][]string{}
	for i := range o.lines {
		l := o.lines[i]
		if l.Failed != "" {
			l.Error = "" // texts may tell times
		}
		text, _ := json.Marshal(l)
		name := fmt.Sprintf("%s/%d", l.Topic, l.Partition)
		if l.Failed != "" {
			name = "the failures of " + name
		}
		children[name] = append(children[name], string(text))
	}
	return children
}

// print writes the outputs, and a summary to standard error.
func (t *trial) print(o outcome) error {
	w := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for i := range o.lines {
		if err := encoder.Encode(&o.lines[i]); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d records in, %d out, %d failed; a second run with other batch cuts gave the same\n",
		len(t.records), len(o.lines)-o.failed, o.failed)
	if o.failed > 0 {
		return fmt.Errorf("the script failed on %d of %d records", o.failed, len(t.records))
	}
	return nil
}

// copyLogs shows what the script logs.
func copyLogs(ctx context.Context, s *engine.Session) {
	logs, err := s.Logs(ctx, control.LogAsk{})
	for err == nil {
		var line control.LogLine
		if line, err = logs.Next(); err == nil {
			fmt.Fprintf(os.Stderr, "%s: %s\n", line.Level, line.Text)
		}
	}
}
