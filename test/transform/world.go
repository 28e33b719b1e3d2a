package transform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
	"github.com/millrace-io/millrace/test/node"
)

const (
	// askTime is how long one question to a broker may take that may be dying.
	askTime = 20 * time.Second
	// healTime is how long anything may take once the faults have ended.
	healTime = 2 * time.Minute
)

// World is a broker, its clients, and scenes that play on it.
type World struct {
	T       testing.TB
	Node    *node.Node
	scripts []*script
	modules map[string][]byte
	loads   *kgo.Client
	reader  *kgo.Client
	rand    *rand.Rand
	writing sync.WaitGroup
	stop    context.CancelFunc

	struck [faults]atomic.Int32
}

// version is a script as it was deployed, with what began with it.
type version struct {
	number int
	after  uint64            // activations above it are this version's
	starts map[tp]int64      // moved there; nil: went on where it stood
	routes int32             // partitions of the outputs
	gaps   map[tp][][2]int64 // trimmed while it was paused
}

// script is a scene that plays. It is owned by the world's goroutine.
type script struct {
	*Scene
	load     *load
	versions []*version
}

func (s *script) now() *version { return s.versions[len(s.versions)-1] }

var modules struct {
	once  sync.Once
	built map[string][]byte
}

// Modules builds the guests of test/scripts, once a process.
func Modules(t testing.TB, n *node.Node) map[string][]byte {
	t.Helper()
	modules.once.Do(func() { modules.built = build(t, n) })
	if modules.built == nil {
		t.Fatal("the guests of test/scripts were not built: see the test that tried")
	}
	return modules.built
}

func build(t testing.TB, n *node.Node) map[string][]byte {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	built := map[string][]byte{}
	for _, guest := range []string{"go", "js", "garbage"} {
		out, main := filepath.Join(t.TempDir(), guest+".wasm"), "main.go"
		if guest == "js" {
			main = "main.js"
		}
		source := filepath.Join(filepath.Dir(file), "..", "scripts", "testdata", guest, main)
		if _, err := n.CLI("wasm", "build", source, "-o", out); err != nil {
			t.Fatal(err)
		}
		module, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		built[guest] = module
	}
	return built
}

// New makes the topics of the scenes and deploys their scripts.
func New(t testing.TB, n *node.Node, scenes []Scene, seed uint64) *World {
	t.Helper()
	w := &World{
		T: t, Node: n, modules: Modules(t, n), rand: rand.New(rand.NewPCG(seed, 1)),
		loads: n.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Millisecond),
			kgo.RecordDeliveryTimeout(0), kgo.MaxBufferedRecords(50_000), kgo.RetryTimeout(5*time.Minute)),
		reader: n.Client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RetryTimeout(time.Minute)),
	}
	for i := range scenes {
		w.begin(&scenes[i])
	}
	return w
}

func (w *World) begin(scene *Scene) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), askTime)
	defer cancel()
	for _, in := range scene.Inputs {
		configs := map[string]*string{}
		for k, v := range in.Configs {
			configs[k] = &v
		}
		if _, err := kadm.NewClient(w.reader).CreateTopic(ctx, in.Partitions, 1, configs, in.Topic); err != nil {
			w.T.Fatalf("make topic %s: %v", in.Topic, err)
		}
	}
	s := &script{Scene: scene, load: newLoad(scene, w.loads)}
	w.scripts = append(w.scripts, s)
	w.must("deploy "+s.Name, w.deploy(s, 0))
}

// Load begins to write; it goes on until Quiet.
func (w *World) Load() {
	ctx, cancel := context.WithCancel(w.T.Context())
	w.stop = cancel
	w.T.Cleanup(cancel)
	for _, s := range w.scripts {
		w.writing.Go(func() { s.load.run(ctx) })
	}
}

// Quiet ends the load; when it returns, everything is acknowledged.
func (w *World) Quiet() {
	w.T.Helper()
	w.stop()
	w.writing.Wait()
	ctx, cancel := context.WithTimeout(w.T.Context(), healTime)
	defer cancel()
	w.must("have all records acknowledged", w.loads.Flush(ctx))
	for _, s := range w.scripts {
		w.must("write", s.load.err())
	}
}

func (w *World) must(what string, err error) {
	w.T.Helper()
	if err != nil {
		log, _ := os.ReadFile(w.Node.LogPath) // for the message only
		w.T.Fatalf("%s: %v\nbroker's log ends:\n%s", what, err, log[max(0, len(log)-6000):])
	}
}

// admin gives a client of the broker as it is now.
func (w *World) admin() *client.Client {
	c, err := client.New(client.Options{Addrs: []string{w.Node.Admin}})
	w.must("make an admin client", err)
	return c
}

// ask gives one question its time.
func ask(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	return do(ctx)
}

// insist asks again until it is done, or healTime is over: brokers and sidecars
// die meanwhile. what may be asked twice.
func (w *World) insist(do func(context.Context) error) error {
	deadline := time.Now().Add(healTime)
	for {
		err := ask(do)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		pause(50 * time.Millisecond)
	}
}

func pause(d time.Duration) { <-time.After(d) }

func (w *World) status(s *script) (api.ScriptStatus, error) {
	var st api.ScriptStatus
	err := w.insist(func(ctx context.Context) (err error) {
		st, err = w.admin().Script(ctx, s.Name)
		return err
	})
	return st, err
}

// deploy gives a script its next version; plus > 0 moves it to that many records
// after the oldest. It is never done twice: after an error the broker is asked
// which version it has.
func (w *World) deploy(s *script, plus int64) error {
	next := &version{number: len(s.versions) + 1, gaps: map[tp][][2]int64{}}
	if len(s.versions) > 0 {
		st, err := w.status(s)
		if err != nil {
			return err
		}
		next.after = uint64(st.Activation)
	}
	next.routes = s.load.counts[0].Load()
	for i := range s.load.counts {
		next.routes = max(next.routes, s.load.counts[i].Load())
	}
	ask := api.DeployAsk{Name: s.Name, Manifest: s.manifest(next.number), Module: w.modules[s.Guest]}
	if plus > 0 {
		ask.Start = "+" + strconv.FormatInt(plus, 10)
		var err error
		if next.starts, err = w.after(s, plus); err != nil {
			return err
		}
	}
	err := w.insist(func(ctx context.Context) error {
		answer, err := w.admin().Deploy(ctx, ask)
		if err != nil {
			st, _ := w.admin().Script(ctx, s.Name) // the next turn asks again
			if st.Env["VERSION"] == strconv.Itoa(next.number) {
				return nil // it was taken before the broker, or the sidecar, died
			}
			if errors.Is(err, api.ErrInvalid) {
				w.T.Errorf("deploy %s: %v", s.Name, err)
			}
			return err
		}
		for _, at := range answer.Starts {
			if want, ok := next.starts[tp{at.Topic, at.Partition}]; ok && want != int64(at.Offset) {
				w.T.Errorf("deploy %s with start %s: begins %s-%d at %d, want %d", s.Name, ask.Start, at.Topic, at.Partition, at.Offset, want)
			}
		}
		return nil
	})
	s.versions = append(s.versions, next)
	return err
}

// after gives the offsets that many records after the oldest of each partition.
func (w *World) after(s *script, plus int64) (map[tp]int64, error) {
	at := map[tp]int64{}
	err := w.insist(func(ctx context.Context) error {
		for _, in := range s.Inputs {
			first, err := kadm.NewClient(w.reader).ListStartOffsets(ctx, in.Topic)
			if err != nil {
				return err
			}
			if err := first.Error(); err != nil {
				return err
			}
			first.Each(func(o kadm.ListedOffset) { at[tp{o.Topic, o.Partition}] = o.Offset + plus })
		}
		return nil
	})
	return at, err
}

// least is how many records the shortest partition of the inputs has.
func (w *World) least(s *script) int64 {
	least := int64(1) << 40
	for i, in := range s.Inputs {
		for p := range s.load.counts[i].Load() {
			first, last := int64(0), int64(0)
			w.must("list offsets", w.insist(func(ctx context.Context) (err error) {
				first, last, err = bounds(ctx, w.reader, in.Topic, p)
				return err
			}))
			least = min(least, last-first)
		}
	}
	return least
}

func bounds(ctx context.Context, cl *kgo.Client, topic string, partition int32) (first, last int64, err error) {
	a := kadm.NewClient(cl)
	starts, err := a.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	ends, err := a.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	start, ok := starts.Lookup(topic, partition)
	end, there := ends.Lookup(topic, partition)
	if !ok || !there {
		return 0, 0, fmt.Errorf("bounds of %s-%d: not listed", topic, partition)
	}
	return start.Offset, end.Offset, errors.Join(start.Err, end.Err)
}

// Settle ends all pauses and waits until every child has taken everything.
func (w *World) Settle() {
	w.T.Helper()
	for _, s := range w.scripts {
		w.must("resume "+s.Name, w.insist(func(ctx context.Context) error { return w.admin().Resume(ctx, s.Name) }))
	}
	deadline := time.Now().Add(healTime)
	for _, s := range w.scripts {
		for {
			behind := w.behind(s)
			if behind == "" {
				break
			}
			if time.Now().After(deadline) {
				text, _ := w.Node.CLI("wasm", "describe", s.Name) // for the message only
				w.must("settle "+s.Name, fmt.Errorf("%s\n%s", behind, text))
			}
			pause(50 * time.Millisecond)
		}
	}
}

// behind says what a script has not taken yet.
func (w *World) behind(s *script) string {
	st, err := w.status(s)
	if err != nil {
		return err.Error()
	}
	var b bytes.Buffer
	rows := map[tp]api.ScriptPartition{}
	for _, p := range st.Partitions {
		rows[tp{p.Topic, p.Partition}] = p
	}
	for i, in := range s.Inputs {
		for p := range s.load.counts[i].Load() {
			_, end, err := bounds(w.T.Context(), w.reader, in.Topic, p)
			row, ok := rows[tp{in.Topic, p}]
			if err != nil || !ok || int64(row.SourceOffset) != end || row.State != api.StateRunning {
				fmt.Fprintf(&b, "%s-%d of %d: %+v %v; ", in.Topic, p, end, row, err)
			}
		}
	}
	return b.String()
}
