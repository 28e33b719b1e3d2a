package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
)

const asyncManifest = "name: scrub\ninputs: [orders]\n"

func (r *room) deploy(manifest string, module []byte, change func(*api.DeployAsk)) (api.DeployAnswer, error) {
	ask := api.DeployAsk{Manifest: []byte(manifest), Module: module, Wait: true}
	if change != nil {
		change(&ask)
	}
	return r.Deploy(r.t.Context(), ask)
}

func (r *room) mustDeploy(manifest string, module []byte, change func(*api.DeployAsk)) api.DeployAnswer {
	r.t.Helper()
	a, err := r.deploy(manifest, module, change)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func (r *room) scriptsTopic() model.PartitionID {
	t, ok := r.c.Metadata().Topic(cluster.TopicScripts)
	if !ok {
		r.t.Fatal("there is no topic of scripts")
	}
	return t.PartitionID(0)
}

func TestDeployStoresAndRuns(t *testing.T) {
	r := newRoom(t)
	orders := r.topic("orders", 3)
	r.log.fill(t, orders.PartitionID(1), 10, 100)
	module := bytes.Repeat([]byte("wasm"), 300_000) // three chunks
	a := r.mustDeploy(asyncManifest, module, func(d *api.DeployAsk) { d.Start = "-4" })
	if !a.Running || a.Redeployed || a.Activation == 0 || fmt.Sprint(a.Outputs) != "[orders.scrub orders.scrub.dlq]" || len(a.Created) != 2 {
		t.Errorf("answer %+v", a)
	}
	sc, _ := r.c.Metadata().Script("scrub")
	if got := sc.StartOf(orders.PartitionID(1)); got != 6 {
		t.Errorf("start -4 of 10 records is %d", got)
	}
	if child, ok := r.c.Metadata().Topic("orders.scrub"); !ok || len(child.Partitions) != 3 {
		t.Errorf("child topic %+v", child)
	}
	if !r.side.control.Loaded(a.Digest) {
		t.Error("the sidecar does not have it")
	}
	records := r.log.records(t, r.scriptsTopic())
	var d deployed
	if err := json.Unmarshal(records["scrub"], &d); err != nil || d.Digest != a.Digest || d.Chunks != 3 || d.Bytes != len(module) {
		t.Errorf("record of the name: %+v, %v", d, err)
	}
	var chunks []byte
	for n := range 3 {
		chunks = append(chunks, records[string(chunkKey("scrub", a.Digest, n))]...)
	}
	if !bytes.Equal(chunks, module) || DigestOf([]byte(d.Manifest), chunks) != a.Digest {
		t.Error("the stored chunks are not the module")
	}
}

func TestRedeployKeepsAndOldGoes(t *testing.T) {
	r := newRoom(t)
	r.topic("orders", 1)
	first := r.mustDeploy(asyncManifest, []byte("one"), nil)
	second := r.mustDeploy(asyncManifest, []byte("two"), nil)
	if !second.Redeployed || second.ID != first.ID || second.Activation <= first.Activation || second.Digest == first.Digest {
		t.Errorf("answers %+v then %+v", first, second)
	}
	if len(second.Starts) != 1 || second.Starts[0].Offset != 5 {
		t.Errorf("a redeploy begins where the children stand, not at %v", second.Starts)
	}
	sc, _ := r.c.Metadata().Script("scrub")
	if !sc.Keep || sc.KeepFrom != first.Activation {
		t.Errorf("keep %t from %d", sc.Keep, sc.KeepFrom)
	}
	r.await("the old module is forgotten", func() bool {
		_, there := r.log.records(t, r.scriptsTopic())[string(moduleKey("scrub", first.Digest))]
		return !there && !r.side.control.Loaded(first.Digest)
	})
	third := r.mustDeploy(asyncManifest, []byte("two"), func(d *api.DeployAsk) { d.Start = "start" })
	if sc, _ = r.c.Metadata().Script("scrub"); sc.Keep || third.Activation <= second.Activation {
		t.Errorf("an explicit start does not keep: %+v", sc)
	}
}

func TestDeployRefuses(t *testing.T) {
	r := newRoom(t)
	r.topic("orders", 1)
	r.side.control.CheckModule = func(m control.Module) (control.Report, error) {
		if bytes.HasPrefix(m.Wasm, []byte("bad")) {
			return control.Report{}, fmt.Errorf("%w: no export millrace_process", control.ErrModule)
		}
		return control.Report{}, nil
	}
	for _, c := range []struct {
		name, manifest string
		module         []byte
		change         func(*api.DeployAsk)
		want           error
		text           string
	}{
		{"no module", asyncManifest, nil, nil, api.ErrInvalid, "no module"},
		{"bad module", asyncManifest, []byte("bad"), nil, api.ErrInvalid, "millrace_process"},
		{"large module", asyncManifest, make([]byte, moduleBytesMax+1), nil, api.ErrTooLarge, "limit"},
		{"unknown key", asyncManifest + "inptus: x\n", []byte("m"), nil, api.ErrInvalid, "inptus"},
		{"unknown input", "name: a\ninputs: [nosuch]\n", []byte("m"), nil, api.ErrInvalid, "nosuch"},
		{"bad start", asyncManifest, []byte("m"), func(d *api.DeployAsk) { d.Start = "soon" }, api.ErrInvalid, "soon"},
		{"too much memory", asyncManifest + "limits: {memory: 1G}\n", []byte("m"), nil, api.ErrInvalid, "limits.memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := r.deploy(c.manifest, c.module, c.change)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
		})
	}
	if len(r.c.Metadata().Scripts()) != 0 {
		t.Error("a refused deployment left a script")
	}
	if _, err := r.deploy("name: late\ninputs: [nosuch]\n", []byte("m"), func(d *api.DeployAsk) { d.AllowMissing = true }); err != nil {
		t.Errorf("missing inputs were allowed: %v", err)
	}
	if st, err := r.Describe(t.Context(), "late"); err != nil || st.State != api.StateMissing {
		t.Errorf("described as %+v, %v", st, err)
	}
}

func TestRemove(t *testing.T) {
	r := newRoom(t)
	orders := r.topic("orders", 2)
	a := r.mustDeploy(asyncManifest, []byte("one"), nil)
	r.log.mu.Lock()
	r.log.fail = errors.New("no leader") // the first try of the first child
	r.log.mu.Unlock()
	go func() { // the janitor's next round is seconds away
		for range 3 {
			if wait(t.Context(), 100*time.Millisecond) == nil {
				r.tidySoon()
			}
		}
	}()
	if err := r.Remove(t.Context(), "scrub"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"orders.scrub", "orders.scrub.dlq"} {
		child, ok := r.c.Metadata().Topic(name)
		if !ok {
			t.Fatalf("child topic %s is gone", name)
		}
		for p := range int32(2) {
			s, _ := r.log.Source(t.Context(), child.PartitionID(p), model.SourceKey{Script: a.ID, Parent: orders.PartitionID(p)})
			if s.Known || s.Activation <= a.Activation {
				t.Errorf("%s-%d has not taken the removal: %+v", name, p, s)
			}
		}
	}
	r.await("all records are gone", func() bool { return len(r.log.records(t, r.scriptsTopic())) == 0 })
	r.await("it is unloaded", func() bool { return !r.side.control.Loaded(a.Digest) })
	if err := r.Remove(t.Context(), "scrub"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestSidecarDiesAndComesBack(t *testing.T) {
	r := newRoom(t)
	r.topic("orders", 1)
	a := r.mustDeploy(asyncManifest, []byte("one"), nil)
	spec := async.FiberSpec{Digest: a.Digest}
	if _, err := r.Sidecar().Open(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	r.side.die()
	r.await("it is down", func() bool { return r.sidecars.State().State == SidecarDown })
	if _, err := r.Sidecar().Open(t.Context(), spec); !errors.Is(err, control.ErrDown) {
		t.Errorf("opened without a sidecar: %v", err)
	}
	if _, err := r.deploy(asyncManifest, []byte("two"), nil); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("deployed without a sidecar: %v", err)
	}
	r.side.control.Revive()
	r.await("it is loaded again", func() bool { return r.side.control.Loaded(a.Digest) })
	if _, err := r.Sidecar().Open(t.Context(), spec); err != nil {
		t.Error(err)
	}
}

func TestRestartReadsAll(t *testing.T) {
	r := newRoom(t)
	r.topic("orders", 1)
	a := r.mustDeploy(asyncManifest, []byte("one"), nil)
	plan := &Spec{Script: a.ID, Name: "scrub", Activation: a.Activation, Digest: a.Digest, OnError: Dead}
	if _, err := r.store.Remember(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.boot()
	r.await("it is loaded", func() bool { ok, _ := r.sidecars.Running(a.Digest); return ok })
	got, err := r.store.Recall(t.Context(), a.ID, a.Activation)
	if err != nil || got.Digest != a.Digest || got.OnError != Dead {
		t.Errorf("recalled %+v, %v", got, err)
	}
	if _, err := r.store.Recall(t.Context(), a.ID, a.Activation+1); !errors.Is(err, ErrNoPlan) {
		t.Errorf("an unknown activation: %v", err)
	}
	if ok, why := r.Ready(); !ok {
		t.Errorf("not ready: %s", why)
	}
}

func TestDamagedModuleIsNotLoaded(t *testing.T) {
	r := newRoom(t)
	r.topic("orders", 1)
	a := r.mustDeploy(asyncManifest, []byte("one"), nil)
	if err := r.store.write(t.Context(), []KV{{chunkKey("scrub", a.Digest, 0), []byte("eno")}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.store.read(t.Context(), moduleID{"scrub", a.Digest}); !errors.Is(err, ErrDamaged) {
		t.Errorf("read: %v", err)
	}
	r.stop()
	r.boot()
	r.await("it is refused", func() bool { return r.refusedWhy(a.Digest) != "" })
	if st, _ := r.Describe(t.Context(), "scrub"); st.State != api.StateStopped || !strings.Contains(st.Reason, "damaged") {
		t.Errorf("described as %s: %s", st.State, st.Reason)
	}
}

func (r *room) refusedWhy(d model.Digest) string {
	l, err := r.sidecars.current()
	if err != nil {
		return ""
	}
	r.sidecars.mu.Lock()
	defer r.sidecars.mu.Unlock()
	return l.refused[d]
}

func TestSteer(t *testing.T) {
	r := newRoom(t)
	orders := r.topic("orders", 2)
	r.log.fill(t, orders.PartitionID(0), 20, 100)
	a := r.mustDeploy(asyncManifest, []byte("one"), nil)
	if err := r.Pause(t.Context(), "scrub"); err != nil {
		t.Fatal(err)
	}
	if st, _ := r.Describe(t.Context(), "scrub"); st.State != api.StatePaused {
		t.Errorf("described as %s", st.State)
	}
	if err := r.Resume(t.Context(), "scrub"); err != nil {
		t.Fatal(err)
	}
	before, _ := r.c.Metadata().Script("scrub")
	if err := wait(t.Context(), 2*time.Millisecond); err != nil { // Updated is in ms
		t.Fatal(err)
	}
	if err := r.Resume(t.Context(), "scrub"); err != nil {
		t.Fatal(err)
	}
	if now, _ := r.c.Metadata().Script("scrub"); now.Updated == before.Updated || now.Paused {
		t.Error("to resume what is not paused must be seen by stopped fibers")
	}
	zero := int32(0)
	got, err := r.Seek(t.Context(), api.SeekAsk{Name: "scrub", To: "7", Topic: "orders", Partition: &zero})
	if err != nil || got.Activation <= a.Activation || len(got.Starts) != 1 || got.Starts[0].Offset != 7 {
		t.Errorf("seek gave %+v, %v", got, err)
	}
	sc, _ := r.c.Metadata().Script("scrub")
	if sc.StartOf(orders.PartitionID(0)) != 7 || sc.StartOf(orders.PartitionID(1)) != 5 || sc.Paused {
		t.Errorf("starts %v, paused %t", sc.Starts, sc.Paused)
	}
	if _, err := r.Seek(t.Context(), api.SeekAsk{Name: "scrub", To: "7"}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("an offset for all partitions: %v", err)
	}
	if _, err := r.Seek(t.Context(), api.SeekAsk{Name: "scrub", To: "21", Topic: "orders", Partition: &zero}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("an offset beyond the end of 20 records: %v", err)
	}
	if now, _ := r.c.Metadata().Script("scrub"); now.Activation != sc.Activation || now.Paused {
		t.Errorf("a refused seek left activation %d, paused %t", now.Activation, now.Paused)
	}
	if _, err := r.Seek(t.Context(), api.SeekAsk{Name: "nosuch", To: "end"}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("an unknown script: %v", err)
	}
}

func TestSpecOfSeveralInputs(t *testing.T) {
	r := newRoom(t)
	r.topic("a", 1)
	r.topic("b", 2)
	r.mustDeploy("name: s\ninputs: [a, b]\n", []byte("one"), nil)
	specs := View{Cluster: r.c, Log: r.Service.log}.Specs()
	if len(specs) != 1 {
		t.Fatal(specs)
	}
	for topic, want := range map[string]string{"a": "[a.s a.s.dlq]", "b": "[b.s b.s.dlq]"} {
		var names []string
		for _, o := range specs[0].ForTopic(topic).Outputs {
			names = append(names, o.Topic)
		}
		if fmt.Sprint(names) != want {
			t.Errorf("a fiber of %s writes %v, want %s", topic, names, want)
		}
	}
	r.mustDeploy("name: t\ninputs: [a, b]\noutputs: [both, other]\n", []byte("one"), nil)
	sc, _ := r.c.Metadata().Script("t")
	var names []string
	for _, o := range sc.Outputs {
		names = append(names, fmt.Sprintf("%s/%d", o.Topic, o.Partitions))
	}
	if fmt.Sprint(names) != "[both/2 other/2 both.dlq/2]" {
		t.Errorf("outputs %v", names)
	}
}

func FuzzParseKey(f *testing.F) {
	d := DigestOf(nil, []byte("x"))
	for _, k := range [][]byte{nameKey("n"), moduleKey("n", d), chunkKey("n", d, 3), planKey("n", 9), []byte("n//"), []byte("/"), []byte("n/@x")} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k := parseKey(b)
		var again []byte
		switch k.kind {
		case keyUnknown:
			return
		case keyName:
			again = nameKey(k.name)
		case keyModule:
			again = moduleKey(k.name, k.digest)
		case keyChunk:
			again = chunkKey(k.name, k.digest, k.chunk)
		case keyPlan:
			again = planKey(k.name, k.activation)
		}
		if parsed := parseKey(again); parsed != k {
			t.Errorf("%q is %+v, written as %q it is %+v", b, k, again, parsed)
		}
	})
}
