package transform

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

// syncOf is the manifest of a script in the path of every append.
func syncOf(topic, role, policy string) string {
	return fmt.Sprintf("mode: sync\ninputs: [%s]\nenv: { ROLE: %s }\nsync: { budget: 1s, policy: %s }\n", topic, role, policy)
}

// placed remembers where records were acknowledged.
type placed struct {
	mu    sync.Mutex
	at    map[int64]uint32 // offset -> number
	count int
	err   error
}

// number produces numbers from 0 until ctx ends, idempotently, many at one time.
func (p *placed) number(ctx context.Context, cl *kgo.Client, topic string) {
	for n := uint32(0); ctx.Err() == nil; n++ {
		rec := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%d", n)}
		cl.Produce(context.WithoutCancel(ctx), rec, func(rec *kgo.Record, err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if err != nil {
				p.err = err
				return
			}
			if other, twice := p.at[rec.Offset]; twice {
				p.err = fmt.Errorf("records %d and %d were both acknowledged at offset %d", other, n, rec.Offset)
			}
			p.at[rec.Offset] = n
			p.count++
		})
		if n%200 == 199 {
			pause(5 * time.Millisecond)
		}
	}
}

func (p *placed) acked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// TestSyncDrops binds a script that drops half of the records, while an
// idempotent client writes and broker and sidecar are killed: every record is
// acknowledged at an offset of its own, in order, and what was kept is there.
func TestSyncDrops(t *testing.T) {
	t.Parallel()
	r := newRig(t, node.Options{Sidecar: true})
	r.topic("half")
	r.put("drop", "go", syncOf("half", "half", "fail"))
	cl := r.Node.Client(kgo.RecordDeliveryTimeout(0), kgo.RetryTimeout(healTime), kgo.MaxBufferedRecords(5000),
		kgo.ProducerLinger(2*time.Millisecond))
	p := &placed{at: map[int64]uint32{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); p.number(ctx, cl, "half") }()
	for i, f := range []Fault{KillSidecar, KillBroker, KillBoth} {
		goal := p.acked() + 1000
		for deadline := time.Now().Add(healTime); p.acked() < goal; pause(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				r.must("go on", fmt.Errorf("round %d: %d of %d acknowledged: %v", i, p.acked(), goal, p.err))
			}
		}
		r.must(f.String(), r.strike(f))
	}
	cancel()
	<-done
	flush, stop := context.WithTimeout(t.Context(), healTime)
	defer stop()
	r.must("have all acknowledged", cl.Flush(flush))
	r.must("write", p.err)
	p.check(t, r)
}

func (p *placed) check(t *testing.T, r *rig) {
	t.Helper()
	kept, dropped := 0, 0
	there := map[int64]string{}
	for _, rec := range r.allBelow("half", int64(p.count)) { // the last may be a hole
		there[rec.Offset] = string(rec.Value)
	}
	for o := int64(0); o < int64(p.count); o++ {
		n, ok := p.at[o]
		switch value, is := there[o]; {
		case !ok || n != uint32(o):
			t.Fatalf("offset %d: record %d was acknowledged there, %v", o, n, ok)
		case hash(n)%2 == 0 && is:
			t.Fatalf("offset %d: record %d was to be dropped, there is %q", o, n, value)
		case hash(n)%2 != 0 && value != fmt.Sprint(n):
			t.Fatalf("offset %d: record %d was kept, there is %q", o, n, value)
		case is:
			kept++
		default:
			dropped++
		}
	}
	if len(there) != kept {
		t.Errorf("%d records are there, %d were kept", len(there), kept)
	}
	t.Logf("%d kept, %d dropped, in their places", kept, dropped)
	if kept == 0 || dropped == 0 {
		t.Error("nothing was tried")
	}
}

// TestHolesAreRead has other clients read a topic with holes and with batches of
// which everything was dropped, at its end too.
func TestHolesAreRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, node.Options{Sidecar: true})
	r.topic("holes")
	const records = 300
	r.put("drop", "js", syncOf("holes", "half", "fail"))
	for n := 0; n < records; n += 10 {
		r.write("holes", n, n+10)
	}
	r.put("drop", "js", syncOf("holes", "none", "fail"))
	r.write("holes", records, records+50)
	var want []string
	for n := range uint32(records) {
		if hash(n)%2 != 0 {
			want = append(want, strconv.Itoa(int(n)))
		}
	}
	same := func(who string, got []string) {
		t.Helper()
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s reads %d records, want %d: %q", who, len(got), len(want), got)
		}
	}
	var ours []string
	for _, rec := range r.allBelow("holes", records+50) {
		ours = append(ours, string(rec.Value))
	}
	same("franz-go", ours)
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		t.Fatal("kcat is missing: make setup installs it")
	}
	same("kcat", r.lines(kcat, "-b", r.Node.Brokers, "-C", "-t", "holes", "-e", "-q", "-m", "30"))
	if libs := kafkaLibs(); libs == "" {
		t.Log("Kafka's console consumer not tried: no KAFKA_LIBS")
	} else {
		same("kafka-console-consumer", r.lines("java", "-Xmx256m", "-cp", filepath.Join(libs, "*"), "org.apache.kafka.tools.consumer.ConsoleConsumer",
			"--bootstrap-server", r.Node.Brokers, "--topic", "holes", "--from-beginning", "--timeout-ms", "8000"))
	}
	// A topic of which everything was dropped, from its first record on.
	r.topic("void")
	r.put("drop-all", "go", syncOf("void", "none", "fail"))
	r.write("void", 0, 20)
	want = nil
	same("kcat", r.lines(kcat, "-b", r.Node.Brokers, "-C", "-t", "void", "-e", "-q", "-m", "30"))
	if got := r.allBelow("void", 20); len(got) != 0 {
		t.Errorf("%d records in an empty topic", len(got))
	}
}

// kafkaLibs is where Apache Kafka's own tools lie, if they do.
func kafkaLibs() string {
	if _, err := exec.LookPath("java"); err != nil {
		return ""
	}
	return os.Getenv("KAFKA_LIBS")
}

func (r *rig) lines(name string, args ...string) []string {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(r.T.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && name != "java" { // which ends with an error when it waited in vain for more
		r.T.Errorf("%s: %v\n%s", name, err, stderr.String())
	}
	// The console consumer says on stdout too that it gave up waiting.
	return slices.DeleteFunc(strings.Fields(string(out)), func(f string) bool { return strings.Trim(f, "0123456789") != "" })
}

// allBelow reads partition 0 to an end at which there may be no record.
func (r *rig) allBelow(topic string, end int64) []*kgo.Record {
	r.T.Helper()
	cl := r.Node.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	_, last, err := bounds(r.T.Context(), cl, topic, 0)
	r.must("list the end of "+topic, err)
	if last != end {
		r.T.Errorf("%s ends at %d, want %d", topic, last, end)
	}
	var all []*kgo.Record
	for {
		ctx, cancel := context.WithTimeout(r.T.Context(), time.Second)
		fetches := cl.PollFetches(ctx)
		cancel()
		if fetches.NumRecords() == 0 {
			return all // a client passes over empty batches without a word
		}
		all = append(all, fetches.Records()...)
	}
}

// TestSyncPolicy holds the sidecar up: under `fail` and `pass` the producer gets
// what the manifest says, and a topic without scripts does not wait.
func TestSyncPolicy(t *testing.T) {
	t.Parallel()
	r := newRig(t, node.Options{Sidecar: true})
	for _, topic := range []string{"loop", "passed", "plain"} {
		r.topic(topic)
	}
	r.put("loop-fail", "go", "mode: sync\ninputs: [loop]\nenv: { ROLE: loop }\nsync: { budget: 50ms, policy: fail }\n")
	r.put("loop-pass", "go", "mode: sync\ninputs: [passed]\nenv: { ROLE: loop }\nsync: { budget: 50ms, policy: pass }\n")
	const sent = 4
	once := r.Node.Client(kgo.RecordRetries(1), kgo.RecordDeliveryTimeout(5*time.Second), kgo.ProducerLinger(0))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop := r.plainAcks("plain")
	for n := range sent {
		v := fmt.Appendf(nil, "%d", n)
		if err := once.ProduceSync(ctx, &kgo.Record{Topic: "loop", Value: v}).FirstErr(); err == nil {
			t.Error("a record was acknowledged whose script is late, under fail")
		}
		if err := once.ProduceSync(ctx, &kgo.Record{Topic: "passed", Value: v}).FirstErr(); err != nil {
			t.Errorf("a record was refused whose script is late, under pass: %v", err)
		}
	}
	if acks, worst := stop(); worst > calm || acks == 0 {
		t.Errorf("%d plain acks, the slowest took %s", acks, worst)
	}
	if got := r.all("loop"); len(got) != 0 {
		t.Errorf("%d records were written that were refused", len(got))
	}
	if got := r.all("passed"); len(got) != sent {
		t.Errorf("%d records of %d were passed on", len(got), sent)
	}
	if _, err := r.Node.SignalSidecar(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	r.write("passed", sent, 2*sent) // retried until the script runs again
	if got := r.all("passed"); len(got) != 2*sent {
		t.Errorf("%d records of 2 x %d were passed on", len(got), sent)
	}
}
