package script

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
)

// other is node 1 of a room whose own is node 0: it tells what do gives, with the
// number of the question, from 1.
type other struct {
	c     *cluster.Cluster
	mu    sync.Mutex
	asked int
	do    func(asked int, r *Report) error
	lines Lines
	fail  error // of Lines
}

// Report tells that everything runs there, but for what do changes.
func (o *other) Report(ctx context.Context, node model.NodeID, ask ReportAsk) (Report, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	m := o.c.Metadata()
	r := Report{Version: m.Version, Sidecar: SidecarUp}
	for _, sc := range m.Scripts() {
		r.Scripts = append(r.Scripts, ScriptReport{
			Script: sc.ID, Activation: sc.Activation, State: api.StateRunning, Digest: sc.Digest, InPath: true, Counts: api.ScriptCounts{RecordsIn: 7},
		})
	}
	if node != 1 || len(ask.Scripts) > 1 {
		return r, errors.New("asked in a strange way")
	}
	if o.do == nil {
		return r, nil
	}
	return r, o.do(o.asked, &r)
}

func (o *other) Lines(context.Context, model.NodeID, LinesAsk) (Lines, error) { return o.lines, o.fail }

func (o *other) will(do func(asked int, r *Report) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked, o.do = 0, do
}

// beside adds node 1 to a room.
func (r *room) beside() *other {
	r.t.Helper()
	if _, err := r.c.RegisterNode(r.t.Context(), cluster.Node{ID: 1, Host: "localhost", Port: 9093}, "cluster"); err != nil {
		r.t.Fatal(err)
	}
	r.stop()
	o := &other{c: r.c}
	r.nodes = o
	r.boot()
	return o
}

// hear makes node 1 alive and the leader of partitions.
func (r *room) hear(led ...model.PartitionID) {
	a := cluster.Announcement{Node: 1, Boot: 1, Sequence: uint64(time.Now().UnixNano()), Whole: true}
	for _, id := range led {
		a.Served = append(a.Served, cluster.Led{Partition: id, Epoch: 1})
	}
	r.c.Hear(a)
}

const syncOrders = "name: stamp\nmode: sync\ninputs: [orders]\n"

// A deployment of a sync script returns when it is in the path on every node that is
// alive.
func TestDeployAwaitsEveryNode(t *testing.T) {
	r := newRoom(t)
	o := r.beside()
	r.topic("orders", 2)
	r.hear()
	o.will(func(asked int, rep *Report) error {
		switch asked {
		case 1:
			return errors.New("busy")
		case 2:
			rep.Scripts = nil
		case 3:
			rep.Scripts[0].Activation--
		case 4:
			rep.Scripts[0].State = api.StateStarting
		case 5:
			rep.Scripts[0].InPath = false
		}
		return nil
	})
	if a := r.mustDeploy(syncOrders, []byte("one"), nil); !a.Running || len(a.Warnings) > 0 || o.asked != 6 {
		t.Errorf("after %d questions: %+v", o.asked, a)
	}

	o.will(func(_ int, rep *Report) error {
		rep.Scripts[0].State, rep.Scripts[0].Reason = api.StateStopped, "its module is bad"
		return nil
	})
	if _, err := r.deploy(syncOrders, []byte("two"), nil); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "node 1: its module is bad") {
		t.Errorf("refused on one node: %v", err)
	}
	if st, _ := r.Describe(t.Context(), "stamp"); st.State != api.StateStopped || st.Reason != "node 1: its module is bad" || st.RecordsIn != 7 {
		t.Errorf("described as %+v", st)
	}

	o.will(func(int, *Report) error { return errors.New("connection refused") })
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := r.Deploy(short, api.DeployAsk{Manifest: []byte(syncOrders), Module: []byte("three"), Wait: true})
	if !errors.Is(err, api.ErrTimedOut) || !strings.Contains(err.Error(), "node 1: the node does not answer: connection refused") {
		t.Errorf("a node that is alive and silent: %v", err)
	}
}

// Nobody waits for a node that is down.
func TestDeployPassesOverTheDead(t *testing.T) {
	r := newRoom(t)
	o := r.beside()
	r.topic("orders", 2)
	o.will(func(int, *Report) error { t.Error("it was asked"); return nil })
	for _, manifest := range []string{syncOrders, asyncManifest} {
		a := r.mustDeploy(manifest, []byte("one"), nil)
		if !a.Running || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "node 1 is down") {
			t.Errorf("answer %+v", a)
		}
	}
	st, err := r.Describe(t.Context(), "scrub")
	if err != nil || len(st.Nodes) != 2 || st.Nodes[1].State != api.StateUnknown || st.State != api.StateRunning {
		t.Errorf("described as %+v, %v", st, err)
	}
}

// Each partition's row is of the node that leads it, whoever else has a fiber.
func TestFibersOfAllNodes(t *testing.T) {
	r := newRoom(t)
	o := r.beside()
	orders := r.topic("orders", 2)
	r.hear(orders.PartitionID(1))
	a := r.mustDeploy(asyncManifest, []byte("one"), nil)
	o.will(func(_ int, rep *Report) error {
		for p := range int32(2) {
			rep.Scripts[0].Fibers = append(rep.Scripts[0].Fibers, FiberState{
				Script: a.ID, Activation: a.Activation, Parent: orders.PartitionID(p), Topic: "orders", State: api.StateRunning, Offset: 2,
			})
		}
		return nil
	})
	all, err := r.List(t.Context())
	if err != nil || len(all) != 1 || len(all[0].Partitions) != 2 || len(all[0].Nodes) != 2 {
		t.Fatalf("listed %+v, %v", all, err)
	}
	// Nobody leads partition 0, as far as is known: node 0's fiber is further.
	if p := all[0].Partitions; p[0].Node != 0 || p[0].SourceOffset != 5 || p[1].Node != 1 || p[1].SourceOffset != 2 {
		t.Errorf("partitions %+v", p)
	}
	if here := r.ListHere(); len(here[0].Nodes) != 1 || here[0].Partitions[1].Node != 0 {
		t.Errorf("of this node alone: %+v", here)
	}
	// Where the leader's fiber is not known, nothing may be moved past it.
	zero := int32(0)
	o.will(nil)
	if _, err := r.Seek(t.Context(), api.SeekAsk{Name: "scrub", To: "start", Topic: "orders", Partition: &zero}); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("sought without the leader's word: %v", err)
	}
}

// A pause returns when no node runs the script, as that node knows of the pause.
func TestPauseAwaitsEveryNode(t *testing.T) {
	r := newRoom(t)
	o := r.beside()
	r.topic("orders", 1)
	r.hear()
	r.mustDeploy(asyncManifest, []byte("one"), nil)
	o.will(func(asked int, rep *Report) error {
		switch asked {
		case 1:
			rep.Version--
		case 2:
			rep.Scripts[0].Fibers = []FiberState{{State: api.StateRunning}}
		case 3:
			return errors.New("busy")
		}
		return nil
	})
	if err := r.Pause(t.Context(), "scrub"); err != nil || o.asked != 4 {
		t.Errorf("after %d questions: %v", o.asked, err)
	}
}

func TestLogsOfAllNodes(t *testing.T) {
	r := newRoom(t)
	o := r.beside()
	r.topic("orders", 1)
	r.hear()
	r.mustDeploy(asyncManifest, []byte("one"), nil)
	at := func(second int) time.Time { return time.Unix(1000+int64(second), 0).UTC() }
	for _, second := range []int{1, 3} {
		r.side.control.Log(control.LogLine{Time: at(second), Script: "scrub", Level: "info", Text: "here"})
	}
	o.lines = Lines{Left: 4, Lines: []api.LogLine{{Time: at(2), Node: 1, Script: "scrub", Text: "there"}}}
	logs := func(tail int) (texts []string) {
		err := r.Logs(t.Context(), api.LogsAsk{Name: "scrub", Tail: tail}, func(l api.LogLine) error {
			texts = append(texts, l.Text)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return texts
	}
	if got := logs(-1); !slices.Equal(got, []string{"here", "there", "4 older lines are left out", "here"}) {
		t.Errorf("%q", got)
	}
	o.lines, o.fail = Lines{}, errors.New("no sidecar")
	if got := logs(1); len(got) != 2 || got[0] != "here" || !strings.Contains(got[1], "no sidecar") {
		t.Errorf("%q", got)
	}
}

// What another node has stored and not deployed yet must not be tidied away.
func TestStraysAreKeptForAWhile(t *testing.T) {
	r := newRoom(t)
	r.topic("orders", 1)
	a := r.mustDeploy(asyncManifest, []byte("one"), nil)
	coming := map[string]model.Digest{}
	for _, name := range []string{"scrub", "new"} {
		d, err := r.store.put(t.Context(), name, []byte("{}"), []byte("two"), model.Digest{})
		if err != nil {
			t.Fatal(err)
		}
		coming[name] = d.Digest
	}
	r.tidy(t.Context(), r.c.Metadata(), time.Now().Add(-strayKeep))
	for name, d := range coming {
		if _, _, err := r.store.find(moduleID{name, d}); err != nil {
			t.Error(err)
		}
	}
	r.tidy(t.Context(), r.c.Metadata(), time.Now())
	for name, d := range coming {
		if _, _, err := r.store.find(moduleID{name, d}); !errors.Is(err, errNotStored) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := r.store.find(moduleID{"scrub", a.Digest}); err != nil {
		t.Error(err)
	}
}
