package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
)

var (
	broker1 = control.Session{Cluster: "c", Node: 1, Boot: "b1"}
	parent  = model.PartitionID{Topic: model.TopicID{1}, Index: 2}
)

// guest compiles the Go guest in testdata once a test run.
var guest = sync.OnceValues(func() ([]byte, error) {
	out := filepath.Join(os.TempDir(), fmt.Sprintf("millrace-engine-guest-%d.wasm", os.Getpid()))
	defer os.Remove(out)
	command := exec.Command("go", "build", "-buildmode=c-shared", "-o", out, ".")
	command.Dir = "testdata/guest"
	command.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-mod=mod", "GOWORK=off")
	if text, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build guest: %w\n%s", err, text)
	}
	return os.ReadFile(out)
})

// newEngine starts an engine with a compile cache that tests share.
func newEngine(t testing.TB, o Options) *Engine {
	t.Helper()
	o.CacheDir = filepath.Join(os.TempDir(), fmt.Sprintf("millrace-engine-cache-%d", os.Getpid()))
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(filepath.Join(os.TempDir(), fmt.Sprintf("millrace-engine-cache-%d", os.Getpid())))
	os.Exit(code)
}

func open(t testing.TB, e *Engine) *Session {
	t.Helper()
	_, token, err := e.Open(broker1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Session(token)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// module is the guest, told by its environment what to do.
func module(t testing.TB, do string, mode control.Mode) control.Module {
	t.Helper()
	wasm, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	m := control.Module{
		Name: do, Mode: mode, Wasm: wasm, Inputs: []string{"in"}, Outputs: []string{"one", "two"}, Env: map[string]string{"DO": do},
		MemoryBytesMax: 32 << 20, BatchTimeMax: 200 * time.Millisecond,
	}
	copy(m.Digest[:], do)
	return m
}

func load(t testing.TB, s *Session, m control.Module) {
	t.Helper()
	if _, err := s.Load(context.Background(), m); err != nil {
		t.Fatal(err)
	}
}

func spec(m control.Module) async.FiberSpec {
	return async.FiberSpec{Digest: m.Digest, Topic: "in", Parent: parent, Outputs: []async.Output{{Partitions: 4}, {Partitions: 3, Routing: async.RouteKey}}}
}

func fiberOf(t testing.TB, s *Session, m control.Module, change func(*async.FiberSpec)) async.Fiber {
	t.Helper()
	load(t, s, m)
	sp := spec(m)
	if change != nil {
		change(&sp)
	}
	f, err := s.Open(context.Background(), sp)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// batchOf builds a batch of key=value records at base; "-" is a hole.
func batchOf(t testing.TB, base model.Offset, codec record.Codec, values ...string) []byte {
	t.Helper()
	var b record.Builder
	s := record.Plain(codec)
	s.BaseOffset = base
	b.Reset(s)
	for i, v := range values {
		if v == "-" {
			continue
		}
		key, value, _ := strings.Cut(v, "=")
		if err := b.AddAt(int32(i), 1000+int64(i), []byte(key), []byte(value), nil); err != nil {
			t.Fatal(err)
		}
	}
	b.SetLastOffsetDelta(int32(len(values) - 1))
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// show writes a result as lines: "output/partition timestamp key=value".
func show(t testing.TB, r async.Result) string {
	t.Helper()
	var lines []string
	for _, o := range r.Outputs {
		for _, raw := range o.Batches {
			for _, line := range records(t, raw) {
				lines = append(lines, fmt.Sprintf("%d/%d %s", o.Output, o.Partition, line))
			}
		}
	}
	for _, f := range r.Failed {
		lines = append(lines, fmt.Sprintf("failed %d %s: %s", f.Offset, f.Kind, f.Text))
	}
	return strings.Join(lines, "\n")
}

func records(t testing.TB, raw []byte) []string {
	t.Helper()
	batch, rest, err := record.Next(raw)
	if err != nil || len(rest) > 0 {
		t.Fatalf("batch: %v, %d bytes behind it", err, len(rest))
	}
	var r record.Reader
	if err := r.Validate(batch, inflatedMax); err != nil {
		t.Fatal(err)
	}
	if err := r.Reset(batch, inflatedMax); err != nil {
		t.Fatal(err)
	}
	var lines []string
	var rec record.Record
	for r.Next(&rec) {
		lines = append(lines, fmt.Sprintf("%d %s=%s", rec.Timestamp, rec.Key, rec.Value))
	}
	return lines
}

func transform(t testing.TB, f async.Fiber, b async.Batch) async.Result {
	t.Helper()
	r, err := f.Transform(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func want(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAsyncFanOut(t *testing.T) {
	f := fiberOf(t, open(t, newEngine(t, Options{})), module(t, "mixed", control.Async), nil)
	b := slices.Concat(batchOf(t, 10, record.Zstd, "drop=1", "pass=2", "-", "both=3"), batchOf(t, 14, record.None, "change=4", "hint=5", "pass=6"))
	r := transform(t, f, async.Batch{From: 11, To: 16, Records: b})
	want(t, show(t, r), strings.Join([]string{
		"0/2 1001 pass=2", "0/2 1003 both=3", "0/2 1000 change=4!", "0/3 1001 hint=5", "1/0 1003 both=3",
	}, "\n"))
	if r.RecordsIn != 4 || r.RecordsOut != 5 || r.RecordsDropped != 0 || r.CPU <= 0 {
		t.Fatalf("counts %+v", r)
	}
}

func TestAsyncAvoidAndEmpty(t *testing.T) {
	f := fiberOf(t, open(t, newEngine(t, Options{})), module(t, "mixed", control.Async), nil)
	b := batchOf(t, 0, record.LZ4, "pass=0", "pass=1", "drop=2")
	r := transform(t, f, async.Batch{From: 0, To: 3, Records: b, Avoid: []model.Offset{1}})
	want(t, show(t, r), "0/2 1000 pass=0")
	if r.RecordsDropped != 1 || r.RecordsIn != 2 {
		t.Fatalf("counts %+v", r)
	}
	want(t, show(t, transform(t, f, async.Batch{From: 5, To: 9})), "")
}

// One record of 100,000 fails: only it is missing, whatever way it fails.
func TestAsyncIsolatesTheBadRecord(t *testing.T) {
	for _, c := range []struct {
		do   string
		n    int
		want string
	}{
		{"error", 100_000, "failed 4321 error: told to fail"},
		{"panic", 20_000, "failed 4321 error: panic: told to panic"},
		{"exit", 20_000, "failed 4321 trap: exited with status 3"},
		{"loop", 20_000, "failed 4321 deadline: ran for more than 200ms"},
		{"grow", 20_000, "failed 4321 trap:"},
		{"badhint", 20_000, "failed 4321 error: it chose partition 99 of output 0, which has 4"},
	} {
		t.Run(c.do, func(t *testing.T) {
			s := open(t, newEngine(t, Options{}))
			f := fiberOf(t, s, module(t, c.do, control.Async), func(sp *async.FiberSpec) { sp.Retries = 1 })
			values := make([]string, c.n)
			for i := range values {
				values[i] = fmt.Sprintf("pass=%d", i)
			}
			values[4321] = "bad=4321"
			r := transform(t, f, async.Batch{From: 0, To: model.Offset(c.n), Records: batchOf(t, 0, record.None, values...)})
			lines := strings.Split(show(t, r), "\n")
			if last := lines[len(lines)-1]; len(r.Failed) != 1 || !strings.HasPrefix(last, c.want) {
				t.Fatalf("got %d failures, the last line is %s", len(r.Failed), last)
			}
			values = slices.Delete(values, 4321, 4322)
			for i, line := range lines[:len(lines)-1] {
				if !strings.HasSuffix(line, " "+values[i]) {
					t.Fatalf("line %d is %q, want %q", i, line, values[i])
				}
			}
			if len(lines)-1 != len(values) || r.RecordsOut != int64(len(values)) {
				t.Fatalf("got %d records, counted %d", len(lines)-1, r.RecordsOut)
			}
			states, _ := s.Inspect(context.Background())
			if states[0].RecordsFailed != 1 || states[0].LastError == "" || states[0].MemoryBytes > 40<<20 {
				t.Fatalf("state %+v", states[0])
			}
		})
	}
}

func TestAsyncManyBadRecords(t *testing.T) {
	f := fiberOf(t, open(t, newEngine(t, Options{})), module(t, "error", control.Async), nil)
	values := make([]string, 3000)
	for i := range values {
		values[i] = "bad="
		if i%3 == 0 {
			values[i] = fmt.Sprintf("pass=%d", i)
		}
	}
	r := transform(t, f, async.Batch{From: 0, To: 3000, Records: batchOf(t, 0, record.None, values...)})
	if len(r.Failed) != 2000 || r.RecordsOut != 1000 {
		t.Fatalf("%d failed, %d out", len(r.Failed), r.RecordsOut)
	}
	for i, bad := range r.Failed {
		if want := model.Offset(i/2*3 + i%2 + 1); bad.Offset != want {
			t.Fatalf("failure %d is offset %d, want %d", i, bad.Offset, want)
		}
	}
}

// Results do not depend on how batches are cut, random numbers included.
func TestAsyncCutsDoNotMatter(t *testing.T) {
	f := fiberOf(t, open(t, newEngine(t, Options{})), module(t, "random", control.Async), nil)
	values := make([]string, 40)
	for i := range values {
		values[i] = fmt.Sprintf("k%d=", i)
	}
	b := batchOf(t, 0, record.None, values...)
	whole := show(t, transform(t, f, async.Batch{From: 0, To: 40, Records: b}))
	var parts []string
	for from := model.Offset(0); from < 40; from += 7 {
		parts = append(parts, show(t, transform(t, f, async.Batch{From: from, To: min(from+7, 40), Records: b})))
	}
	want(t, strings.Join(parts, "\n"), whole)
}

func TestAsyncLargeOutputIsCut(t *testing.T) {
	f := fiberOf(t, open(t, newEngine(t, Options{})), module(t, "mixed", control.Async), nil)
	values := make([]string, 3000)
	for i := range values {
		values[i] = "pass=" + strings.Repeat("x", 1000)
	}
	r := transform(t, f, async.Batch{From: 0, To: 3000, Records: batchOf(t, 0, record.None, values...)})
	if len(r.Outputs) != 1 || len(r.Outputs[0].Batches) != 4 {
		t.Fatalf("got %d outputs, %d batches", len(r.Outputs), len(r.Outputs[0].Batches))
	}
	n := 0
	for _, b := range r.Outputs[0].Batches {
		if len(b) > async.BatchBytesMax {
			t.Fatalf("a batch has %d bytes", len(b))
		}
		n += len(records(t, b))
	}
	if n != 3000 {
		t.Fatalf("got %d records", n)
	}
}

func TestAsyncRefusals(t *testing.T) {
	s := open(t, newEngine(t, Options{}))
	m := module(t, "mixed", control.Async)
	ctx := context.Background()
	if _, err := s.Open(ctx, spec(m)); !errors.Is(err, control.ErrUnknownScript) {
		t.Fatalf("unknown script: %v", err)
	}
	load(t, s, m)
	for name, change := range map[string]func(*async.FiberSpec){
		"outputs":    func(sp *async.FiberSpec) { sp.Outputs = sp.Outputs[:1] },
		"partitions": func(sp *async.FiberSpec) { sp.Outputs = []async.Output{{}, {}} },
		"input":      func(sp *async.FiberSpec) { sp.Input = 1 },
		"retries":    func(sp *async.FiberSpec) { sp.Retries = -1 },
	} {
		sp := spec(m)
		change(&sp)
		if _, err := s.Open(ctx, sp); !errors.Is(err, control.ErrRequest) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	f := fiberOf(t, s, m, nil)
	b := batchOf(t, 0, record.None, "pass=1")
	for name, ask := range map[string]async.Batch{
		"range":   {From: 3, To: 1},
		"garbage": {From: 0, To: 1, Records: []byte("garbage")},
		"cut":     {From: 0, To: 1, Records: b[:len(b)-1]},
		"twice":   {From: 0, To: 1, Records: slices.Concat(b, b)},
	} {
		if _, err := f.Transform(ctx, ask); !errors.Is(err, control.ErrRequest) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := s.Unload(ctx, m.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Transform(ctx, async.Batch{From: 0, To: 1, Records: b}); !errors.Is(err, control.ErrUnknownScript) {
		t.Fatalf("after unload: %v", err)
	}
}

// A guest of Redpanda's ABI stays with its fiber, is replaced when it dies and
// dropped when it is idle.
func TestRedpandaFiber(t *testing.T) {
	out := filepath.Join(t.TempDir(), "guest.wasm")
	command := exec.Command("go", "build", "-o", out, ".")
	command.Dir = "../host/testdata/redpanda"
	command.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-mod=mod", "GOWORK=off")
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	m := module(t, "redpanda", control.Async)
	m.Outputs, m.Env = []string{"first", "second"}, nil
	var err error
	if m.Wasm, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, Options{})
	s := open(t, e)
	f := fiberOf(t, s, m, nil)
	r := transform(t, f, async.Batch{From: 0, To: 6, Records: batchOf(t, 0, record.Snappy, "a=1", "fail=2", "other=3", "loop=4", "twice=5", "drop=6")})
	want(t, show(t, r), strings.Join([]string{
		"0/2 1000 a=1", "0/2 1004 twice=5", "0/2 1004 twice=5", "1/1 1002 other=3",
		"failed 1 trap: exited with status 2: panic: transforming record failed: told to fail",
		"failed 3 deadline: ran for more than 200ms",
	}, "\n"))
	instances := func() int {
		states, err := s.Inspect(context.Background())
		if err != nil || states[0].ABI != "redpanda 1" && states[0].ABI != "redpanda 2" {
			t.Fatalf("%+v, %v", states, err)
		}
		return states[0].Instances
	}
	if n := instances(); n == 0 {
		t.Fatal("no instance is kept")
	}
	e.dropIdle(time.Now())
	if n := instances(); n != 0 {
		t.Fatalf("%d idle instances are kept", n)
	}
	want(t, show(t, transform(t, f, async.Batch{From: 0, To: 1, Records: batchOf(t, 0, record.None, "a=1")})), "0/2 1000 a=1")
	f.Close()
	e.dropIdle(time.Now())
	if n := instances(); n != 0 {
		t.Fatalf("%d instances outlive their fiber", n)
	}
}

func FuzzRange(f *testing.F) {
	f.Add(batchOf(f, 5, record.LZ4, "a=1", "-", "b=2"), int64(0), int64(9))
	f.Add([]byte("garbage"), int64(0), int64(1))
	f.Fuzz(func(t *testing.T, batches []byte, from, to int64) {
		var in input
		if in.addRange(batches, model.Offset(from), model.Offset(to), nil) != nil {
			return
		}
		for i := range in.records {
			if o := in.records[i].Offset; o < from || o >= to || i > 0 && o <= in.records[i-1].Offset {
				t.Fatalf("offset %d in [%d, %d)", o, from, to)
			}
		}
	})
}

func TestMurmur2(t *testing.T) {
	// From the tests of Apache Kafka's own clients (Utils.murmur2).
	for text, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(text))); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestSync(t *testing.T) {
	s := open(t, newEngine(t, Options{}))
	m := module(t, "mixed", control.Sync)
	load(t, s, m)
	ask := func(values ...string) plugsync.Result {
		t.Helper()
		r, err := s.Transform(context.Background(), plugsync.Batch{Digest: m.Digest, Topic: "in", Records: batchOf(t, 0, record.Gzip, values...)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := ask("pass=1", "pass=2"); !r.Unchanged || r.Records != nil || r.Failure != nil {
		t.Fatalf("identity: %+v", r)
	}
	r := ask("drop=0", "change=1", "drop=2", "pass=3", "drop=4")
	want(t, strings.Join(records(t, r.Records), ","), "1001 change=1!,1003 pass=3")
	b, _, _ := record.Next(r.Records)
	if b.LastOffsetDelta() != 4 || b.Count() != 2 || b.Codec() != record.Gzip {
		t.Fatalf("last delta %d, count %d, codec %v", b.LastOffsetDelta(), b.Count(), b.Codec())
	}
	r = ask("drop=0", "drop=1")
	if b, _, _ := record.Next(r.Records); b.Count() != 0 || b.LastOffsetDelta() != 1 {
		t.Fatalf("all dropped: %+v", r)
	}
	for values, kind := range map[string]control.FailureKind{
		"rekey=1": control.FailureKey, "twice=1": control.FailureGarbage, "hint=1": control.FailureGarbage,
	} {
		if r := ask("pass=0", values); r.Failure == nil || r.Failure.Kind != kind || r.Failure.Source != 1 {
			t.Fatalf("%s: %+v", values, r)
		}
	}
}

func TestSyncDeadline(t *testing.T) {
	s := open(t, newEngine(t, Options{}))
	m := module(t, "loop", control.Sync)
	load(t, s, m)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	r, err := s.Transform(ctx, plugsync.Batch{Digest: m.Digest, Topic: "in", Records: batchOf(t, 0, record.None, "bad=1")})
	if err != nil || r.Failure == nil || r.Failure.Kind != control.FailureDeadline {
		t.Fatalf("got %+v, %v", r, err)
	}
	r, err = s.Transform(context.Background(), plugsync.Batch{Digest: m.Digest, Topic: "in", Records: batchOf(t, 0, record.None, "pass=1")})
	if err != nil || !r.Unchanged {
		t.Fatalf("the instance was not replaced: %+v, %v", r, err)
	}
}

func TestSyncKeepsProducer(t *testing.T) {
	s := open(t, newEngine(t, Options{}))
	m := module(t, "mixed", control.Sync)
	load(t, s, m)
	var b record.Builder
	sp := record.Plain(record.None)
	sp.ProducerID, sp.ProducerEpoch, sp.BaseSequence = 77, 3, 500
	b.Reset(sp)
	for _, key := range []string{"pass", "drop"} {
		if err := b.Add(9, []byte(key), nil, []record.HeaderField{{Key: "h", Value: []byte{}}}); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Transform(context.Background(), plugsync.Batch{Digest: m.Digest, Topic: "in", Records: batch})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := record.Next(r.Records)
	if err != nil || got.Check() != nil {
		t.Fatal(err, got.Check())
	}
	if got.ProducerID() != 77 || got.ProducerEpoch() != 3 || got.BaseSequence() != 500 || got.LastSequence() != batch.LastSequence() {
		t.Fatalf("producer %d epoch %d sequence %d to %d", got.ProducerID(), got.ProducerEpoch(), got.BaseSequence(), got.LastSequence())
	}
}

func TestSessions(t *testing.T) {
	e := newEngine(t, Options{})
	first := open(t, e)
	m := module(t, "mixed", control.Async)
	f := fiberOf(t, first, m, nil)
	if _, _, err := e.Open(control.Session{Cluster: "c", Node: 2, Boot: "x"}); !errors.Is(err, control.ErrOtherNode) || !strings.Contains(err.Error(), "node 1") {
		t.Fatalf("another node: %v", err)
	}
	hello, token, err := e.Open(control.Session{Cluster: "c", Node: 1, Boot: "b2"})
	if err != nil || hello.Protocol != control.Protocol || hello.Boot == "" {
		t.Fatalf("second boot: %+v, %v", hello, err)
	}
	ctx := context.Background()
	if _, err := f.Transform(ctx, async.Batch{From: 0, To: 1}); !errors.Is(err, control.ErrSession) {
		t.Fatalf("a fiber of the old session: %v", err)
	}
	if _, err := first.Inspect(ctx); !errors.Is(err, control.ErrSession) {
		t.Fatalf("the old session: %v", err)
	}
	second, err := e.Session(token)
	if err != nil {
		t.Fatal(err)
	}
	if states, err := second.Inspect(ctx); err != nil || len(states) != 0 {
		t.Fatalf("the new session has %v, %v", states, err)
	}
	report, err := second.Load(ctx, m)
	if err != nil || !report.Cached || report.ABI != "millrace 1" {
		t.Fatalf("loaded again: %+v, %v", report, err)
	}
}

func TestLoadRefusals(t *testing.T) {
	s := open(t, newEngine(t, Options{}))
	for name, change := range map[string]func(*control.Module){
		"not wasm":    func(m *control.Module) { m.Wasm = []byte("text") },
		"mode":        func(m *control.Module) { m.Mode = "both" },
		"memory":      func(m *control.Module) { m.MemoryBytesMax = 1 << 40 },
		"time":        func(m *control.Module) { m.BatchTimeMax = time.Hour },
		"environment": func(m *control.Module) { m.Env = map[string]string{"MILLRACE_SCRIPT": "x"} },
		"no start":    func(m *control.Module) { m.Env = map[string]string{"DO": "dontstart"} },
		"tiny":        func(m *control.Module) { m.MemoryBytesMax = InstanceBytesMin },
	} {
		m := module(t, "mixed", control.Async)
		change(&m)
		if _, err := s.Load(context.Background(), m); !errors.Is(err, control.ErrModule) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestMemoryLimitParksTheNewestFiber(t *testing.T) {
	e := newEngine(t, Options{MemoryBytesMax: 24 << 20, Workers: 4})
	s := open(t, e)
	m := module(t, "keep", control.Async)
	m.MemoryBytesMax = 20 << 20
	old := fiberOf(t, s, m, nil)
	newest := fiberOf(t, s, m, nil)
	b := batchOf(t, 0, record.None, "pass=1")
	ask := async.Batch{From: 0, To: 1, Records: b}
	transform(t, old, ask)
	e.memory.change(25 << 20) // as if other guests had grown
	e.relieve()
	if _, err := newest.Transform(context.Background(), ask); !errors.Is(err, control.ErrMemory) || !strings.Contains(err.Error(), "newest") {
		t.Fatalf("the newest fiber: %v", err)
	}
	states, _ := s.Inspect(context.Background())
	if len(states[0].Parked) != 1 || !strings.HasPrefix(states[0].Parked[0], "in/2: ") {
		t.Fatalf("parked %q", states[0].Parked)
	}
	if _, err := s.Open(context.Background(), spec(m)); !errors.Is(err, control.ErrMemory) {
		t.Fatalf("one more fiber: %v", err)
	}
	e.memory.change(-25 << 20)
	transform(t, old, ask)
}

func TestLogs(t *testing.T) {
	s := open(t, newEngine(t, Options{}))
	f := fiberOf(t, s, module(t, "log", control.Async), nil)
	ctx, cancel := context.WithCancel(context.Background())
	logs, err := s.Logs(ctx, control.LogAsk{Script: "log"})
	if err != nil {
		t.Fatal(err)
	}
	values := make([]string, linesBurst+50)
	for i := range values {
		values[i] = fmt.Sprintf("k=%d", i)
	}
	transform(t, f, async.Batch{From: 0, To: model.Offset(len(values)), Records: batchOf(t, 0, record.None, values...)})
	for i := range linesBurst {
		line, err := logs.Next()
		if err != nil || line.Text != fmt.Sprint("saw ", i) || line.Level != "warn" || line.Script != "log" {
			t.Fatalf("line %d: %+v, %v", i, line, err)
		}
	}
	cancel()
	for err == nil {
		_, err = logs.Next()
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// While one script is split again and again, another of one worker gets its turn.
func TestALoopingScriptLeavesOthersTheirTurn(t *testing.T) {
	s := open(t, newEngine(t, Options{Workers: 1}))
	looping := fiberOf(t, s, module(t, "loop", control.Async), nil)
	other := fiberOf(t, s, module(t, "mixed", control.Async), nil)
	values := slices.Repeat([]string{"pass="}, 200)
	values[150] = "bad="
	done := make(chan async.Result, 1)
	go func() {
		r, _ := looping.Transform(context.Background(), async.Batch{From: 0, To: 200, Records: batchOf(t, 0, record.None, values...)})
		done <- r
	}()
	ask := async.Batch{From: 0, To: 1, Records: batchOf(t, 0, record.None, "pass=1")}
	for turns := 0; ; turns++ {
		select {
		case r := <-done:
			if len(r.Failed) != 1 || r.Failed[0].Offset != 150 || turns < 2 {
				t.Fatalf("failed %v, %d turns", r.Failed, turns)
			}
			return
		default:
			transform(t, other, ask)
		}
	}
}

// One instance and one worker for four fibers: neither may wait for who holds
// the other.
func TestFibersShareWorkersOverManyChunks(t *testing.T) {
	s := open(t, newEngine(t, Options{Workers: 1}))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	const ranges, count = 8, 6
	values := slices.Repeat([]string{"k=" + strings.Repeat("v", chunkBytesMax/3)}, count)
	ask := async.Batch{From: 0, To: count, Records: batchOf(t, 0, record.None, values...)}
	var done sync.WaitGroup
	for range 4 {
		f := fiberOf(t, s, module(t, "pass", control.Async), nil)
		done.Go(func() {
			for range ranges {
				if r, err := f.Transform(ctx, ask); err != nil || r.RecordsOut != count {
					t.Errorf("got %d records, %v", r.RecordsOut, err)
					return
				}
			}
		})
	}
	done.Wait()
}
