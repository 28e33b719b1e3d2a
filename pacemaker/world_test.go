package pacemaker

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/pacemaker/check"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
)

// scene is what one kind of script looks like.
type scene struct {
	name    string
	inputs  []int32 // partitions of each
	outputs int
	byKey   bool
	onError script.OnError
	flaky   float64 // chance that a record fails though it need not
	txns    bool
	compact bool
	trim    bool
	// do is the script, with the version that runs; ok false: it always fails.
	do func(version int, r check.Record) (outs []check.Out, ok bool)
}

const scriptID model.ScriptID = 7

// world is a cluster in memory with one script.
type world struct {
	t     *testing.T
	scene scene
	log   *memLog
	rand  *rand.Rand

	mu       sync.Mutex
	spec     *Spec
	plans    map[model.Activation]*Spec
	versions map[model.Activation]int
	routes   map[model.Activation]int32
	moves    map[model.SourceKey][]move
	down     bool // the sidecar
	flaky    float64
	guest    *rand.Rand

	produced map[model.PartitionID][]check.Record
	serial   int
	nodes    []*node
	journal  Journal
	removed  bool
	lagMax   time.Duration // how much later than others a node may learn of a change
	peers    *peers        // nil: all children are led by whoever asks
}

// move is a child that took an activation.
type move struct {
	before, activation model.Activation // before is 0 for a child that is new
	left, began        model.Offset
}

// node is a running pacemaker.
type node struct {
	p      *Pacemaker
	view   *view
	cancel context.CancelFunc
	done   chan struct{}
}

func topicID(kind byte, n int) model.TopicID { return model.TopicID{kind, byte(n)} }

func newWorld(t *testing.T, s scene, seed uint64) *world {
	w := &world{
		t: t, scene: s, log: newMemLog(seed), rand: rand.New(rand.NewPCG(seed, 2)), guest: rand.New(rand.NewPCG(seed, 3)),
		plans: map[model.Activation]*Spec{}, versions: map[model.Activation]int{},
		routes: map[model.Activation]int32{}, moves: map[model.SourceKey][]move{}, produced: map[model.PartitionID][]check.Record{},
		flaky: s.flaky,
	}
	w.log.moved = func(key model.SourceKey, m move) { w.moves[key] = append(w.moves[key], m) }
	parts := slices.Max(s.inputs)
	spec := &Spec{Script: scriptID, Name: "s", Activation: 1, KeepFrom: 1, ByKey: s.byKey, OnError: s.onError, Updated: 1}
	spec.Digest[0] = 1
	for i, n := range s.inputs {
		in := script.Input{Topic: fmt.Sprintf("in%d", i), ID: topicID('i', i), Partitions: n}
		spec.Inputs = append(spec.Inputs, in)
	}
	for i := range s.outputs {
		spec.Outputs = append(spec.Outputs, script.Output{Topic: fmt.Sprintf("out%d", i), ID: topicID('o', i), Partitions: parts})
	}
	if s.onError == script.Dead {
		spec.Outputs = append(spec.Outputs, script.Output{Topic: "dead", ID: topicID('d', 0), Partitions: parts, DLQ: true})
	}
	w.spec, w.versions[1], w.routes[1] = spec, 1, parts
	w.makeTopics()
	return w
}

func (w *world) makeTopics() {
	for _, in := range w.spec.Inputs {
		for p := range in.Partitions {
			w.log.create(model.PartitionID{Topic: in.ID, Index: p})
		}
	}
	for _, o := range w.spec.Outputs {
		for p := range o.Partitions {
			w.log.create(model.PartitionID{Topic: o.ID, Index: p})
		}
	}
}

// Specs gives the newest spec.
func (w *world) Specs() []*Spec {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.removed {
		return nil
	}
	return []*Spec{w.spec}
}

// view is the metadata as one node has it: each learns of a change in its own time.
type view struct {
	w       *world
	specs   []*Spec // guarded by w.mu, like changed
	changed chan struct{}
}

func (v *view) Specs() []*Spec {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	return v.specs
}

func (v *view) Watch() (<-chan struct{}, func()) { return v.changed, func() {} }

// learn takes the newest specs after a while.
func (v *view) learn(after time.Duration) {
	specs := v.w.Specs()
	time.AfterFunc(after, func() {
		v.w.mu.Lock()
		defer v.w.mu.Unlock()
		if len(v.specs) > 0 && len(specs) > 0 && v.specs[0].Updated > specs[0].Updated {
			return
		}
		v.specs = specs
		select {
		case v.changed <- struct{}{}:
		default:
		}
	})
}

// change replaces the spec.
func (w *world) change(do func(s *Spec)) {
	w.mu.Lock()
	next := *w.spec
	next.Inputs, next.Outputs = slices.Clone(next.Inputs), slices.Clone(next.Outputs)
	next.Updated++
	do(&next)
	w.spec = &next
	w.mu.Unlock()
	for _, n := range w.nodes {
		n.view.learn(time.Duration(w.rand.Int64N(int64(w.lagMax) + 1)))
	}
}

// remove takes the script away.
func (w *world) remove() {
	w.mu.Lock()
	w.removed = true
	w.mu.Unlock()
	w.change(func(*Spec) {})
}

// activate begins a new activation; keep carries the children on.
func (w *world) activate(keep bool, do func(s *Spec)) {
	w.change(func(s *Spec) {
		before := s.Activation
		s.Activation++
		if !keep {
			s.KeepFrom = s.Activation
		}
		w.versions[s.Activation], w.routes[s.Activation] = w.versions[before], w.routes[before]
		do(s)
	})
}

// Plans.
func (w *world) Remember(ctx context.Context, s *Spec) (*Spec, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.plans[s.Activation]; !ok {
		w.plans[s.Activation] = s
	}
	return w.plans[s.Activation], ctx.Err()
}

func (w *world) Recall(ctx context.Context, _ model.ScriptID, a model.Activation) (*Spec, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p, ok := w.plans[a]; ok {
		return p, ctx.Err()
	}
	return nil, ErrNoPlan
}

// Open is the sidecar.
func (w *world) Open(ctx context.Context, spec async.FiberSpec) (async.Fiber, error) {
	fake := async.Fake{Do: w.transform}
	if w.isDown() {
		return nil, control.ErrDown
	}
	return fake.Open(ctx, spec)
}

func (w *world) isDown() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down
}

func (w *world) setDown(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

// fails draws whether a record fails by chance.
func (w *world) fails() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.guest.Float64() < w.flaky
}

// transform plays the engine.
func (w *world) transform(ctx context.Context, spec async.FiberSpec, b async.Batch) (async.Result, error) {
	if w.isDown() {
		return async.Result{}, control.ErrDown
	}
	var r async.Result
	builders := map[[2]int32]*record.Builder{}
	for rest := b.Records; len(rest) > 0; {
		batch, after, err := record.Next(rest)
		if err != nil {
			return r, err
		}
		rest = after
		if batch.Control() {
			continue
		}
		for _, rec := range recordsOf(batch) {
			if rec.Offset < b.From || rec.Offset >= b.To || slices.Contains(b.Avoid, rec.Offset) {
				continue
			}
			r.RecordsIn++
			outs, ok := w.scene.do(int(spec.Digest[0]), checked(rec))
			if !ok || w.fails() {
				r.Failed = append(r.Failed, async.FailedRecord{Offset: rec.Offset, Kind: control.FailureDeadline, Text: "too slow"})
				continue
			}
			for _, o := range outs {
				r.RecordsOut++
				at := [2]int32{int32(o.Output), spec.Parent.Index}
				if spec.Outputs[o.Output].Routing == async.RouteKey && o.Key != nil {
					at[1] = check.PartitionOf(o.Key, spec.Outputs[o.Output].Partitions)
				}
				if builders[at] == nil {
					builders[at] = &record.Builder{}
					builders[at].Reset(record.Plain(record.None))
				}
				if err := builders[at].Add(rec.Timestamp, o.Key, o.Value, fields(o.Headers)); err != nil {
					return r, err
				}
			}
		}
	}
	for at, builder := range builders {
		_, batch, err := builder.Build(nil)
		if err != nil {
			return r, err
		}
		r.Outputs = append(r.Outputs, async.OutputBatches{Output: int(at[0]), Partition: at[1], Batches: [][]byte{batch}})
	}
	slices.SortFunc(r.Outputs, func(x, y async.OutputBatches) int {
		return cmp.Or(cmp.Compare(x.Output, y.Output), cmp.Compare(x.Partition, y.Partition))
	})
	return r, nil
}

func checked(r record.Record) check.Record {
	c := check.Record{Offset: int64(r.Offset), Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
	for h := range r.Headers() {
		c.Headers = append(c.Headers, check.Header{Key: h.Key, Value: h.Value})
	}
	return c
}

func fields(hs []check.Header) []record.HeaderField {
	var out []record.HeaderField
	for _, h := range hs {
		out = append(out, record.HeaderField{Key: h.Key, Value: h.Value})
	}
	return out
}

// start runs a pacemaker that leads everything.
func (w *world) start() *node {
	ctx, cancel := context.WithCancel(context.Background())
	v := &view{w: w, specs: w.Specs(), changed: make(chan struct{}, 1)}
	var children Children = w.log
	if w.peers != nil {
		children = w.peers.join()
	}
	p := New(Options{
		Reader: w.log, Children: children, Sidecar: w, View: v, Plans: w, Journal: w.journal,
		Log: slog.New(slog.DiscardHandler),
	})
	n := &node{p: p, view: v, cancel: cancel, done: make(chan struct{})}
	for _, in := range w.Specs()[0].Inputs {
		for i := range int32(16) { // also those that come
			p.Lead(core.Leadership{Partition: model.PartitionID{Topic: in.ID, Index: i}, Epoch: 1, Serving: true})
		}
	}
	go func() {
		defer close(n.done)
		p.Run(ctx)
	}()
	w.nodes = append(w.nodes, n)
	return n
}

func (n *node) kill() {
	n.cancel()
	<-n.done
}

// killAll ends every pacemaker.
func (w *world) killAll() {
	for _, n := range w.nodes {
		n.kill()
	}
	w.nodes = nil
}

// produce appends a batch of new records to a random partition of an input.
func (w *world) produce() {
	in := w.spec.Inputs[w.rand.IntN(len(w.spec.Inputs))]
	id := model.PartitionID{Topic: in.ID, Index: w.rand.Int32N(in.Partitions)}
	spec := record.Plain(record.Codec(w.rand.IntN(4))) // zstd pools hold channels, which a bubble refuses
	aborted := w.scene.txns && w.rand.IntN(4) == 0
	if aborted {
		spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence, spec.Transactional = 9, 0, 0, true
	}
	var b record.Builder
	b.Reset(spec)
	n := 1 + w.rand.IntN(60)
	var records []check.Record
	for range n {
		w.serial++
		key := fmt.Appendf(nil, "k%d", w.rand.IntN(50))
		if w.rand.IntN(20) == 0 {
			key = nil
		}
		value := fmt.Appendf(nil, "%d", w.serial)
		headers := []check.Header{{Key: "from", Value: fmt.Appendf(nil, "%s/%d", in.Topic, id.Index)}}
		at := time.Now().UnixMilli()
		if err := b.Add(at, key, value, fields(headers)); err != nil {
			w.t.Fatal(err)
		}
		records = append(records, check.Record{Timestamp: at, Key: key, Value: value, Headers: headers})
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if aborted {
		w.abort(id, batch)
		return
	}
	base := w.log.write(id, batch)
	for i := range records {
		records[i].Offset = int64(base) + int64(i)
	}
	w.produced[id] = append(w.produced[id], records...)
}

// abort writes a transaction that is aborted.
func (w *world) abort(id model.PartitionID, batch []byte) {
	marker, err := record.AppendMarker(nil, record.Marker{Type: record.ControlAbort, Producer: 9})
	if err != nil {
		w.t.Fatal(err)
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	p := w.log.parts[id]
	base := p.append(batch)
	last := p.append(marker)
	p.aborted = append(p.aborted, partition.AbortedTxn{Producer: 9, First: base, Last: last})
}

// settle ends all faults and waits until the children have taken everything.
func (w *world) settle() error {
	w.log.calm()
	if w.peers != nil {
		w.peers.calm()
	}
	w.setDown(false)
	w.change(func(s *Spec) { s.Paused = false })
	if len(w.nodes) == 0 {
		w.start()
	}
	deadline := time.Now().Add(30 * time.Minute)
	for {
		behind := w.behind()
		if behind == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New(behind)
		}
		pass(10 * time.Millisecond)
	}
}

// behind names a child that has not taken everything.
func (w *world) behind() string {
	spec := w.Specs()[0]
	for _, in := range spec.Inputs {
		for i := range in.Partitions {
			parent := model.PartitionID{Topic: in.ID, Index: i}
			end := w.log.endOf(parent)
			for _, c := range w.childrenOf(in.Topic, i) {
				s := w.log.sourceOf(c.ID, model.SourceKey{Script: scriptID, Parent: parent})
				if s.Activation != spec.Activation || s.Offset != end {
					var states []string
					for _, n := range w.nodes {
						for _, st := range n.p.Status() {
							states = append(states, fmt.Sprintf("%s-%d %s at %d of %d: %s", st.Topic, st.Parent.Index, st.State, st.Offset, st.End, st.Reason))
						}
					}
					return fmt.Sprintf("%s-%d stands at %d under %d, parent %s ends at %d under %d; %s", c.Topic, c.ID.Index, s.Offset, s.Activation, parent, end, spec.Activation, strings.Join(states, "; "))
				}
			}
		}
	}
	return ""
}

// childrenOf lists the children as the newest plan has them.
func (w *world) childrenOf(topic string, index int32) []script.Child {
	w.mu.Lock()
	defer w.mu.Unlock()
	spec := w.spec
	if p, ok := w.plans[spec.Activation]; ok {
		spec = p
	}
	return spec.ForTopic(topic).Children(index)
}

// judge compares all children with what their parents say.
func (w *world) judge() (check.Counts, error) {
	job := check.Job{
		Policy: check.Skip, Flaky: w.scene.flaky > 0,
		Origin:       func(r check.Record) (string, int32, bool) { return origin(r) },
		LetterOrigin: letterOrigin,
		Gone:         w.gone,
	}
	spec := w.Specs()[0]
	for _, o := range spec.Outputs {
		var partitions [][]check.Record
		for p := int32(0); ; p++ {
			id := model.PartitionID{Topic: o.ID, Index: p}
			if w.log.parts[id] == nil {
				break
			}
			var records []check.Record
			for _, r := range w.log.all(id) {
				records = append(records, checked(r))
			}
			partitions = append(partitions, records)
		}
		if o.DLQ {
			job.Letters, job.Policy = partitions, check.Dead
		} else {
			job.Outputs = append(job.Outputs, partitions)
		}
	}
	for _, in := range spec.Inputs {
		for i := range in.Partitions {
			id := model.PartitionID{Topic: in.ID, Index: i}
			passes, err := w.passes(id)
			if err != nil {
				return check.Counts{}, err
			}
			job.Parents = append(job.Parents, check.Parent{Topic: in.Topic, Partition: i, Records: w.produced[id], Passes: passes})
		}
	}
	return job.Run()
}

func letterOrigin(r check.Record) (l check.Letter, ok bool) {
	l.Topic, l.Partition, ok = origin(r)
	for _, h := range r.Headers {
		var err error
		switch h.Key {
		case HeaderOffset:
			_, err = fmt.Sscan(string(h.Value), &l.Offset)
		case HeaderActivation:
			_, err = fmt.Sscan(string(h.Value), &l.Activation)
		}
		ok = ok && err == nil
	}
	return l, ok
}

func origin(r check.Record) (string, int32, bool) {
	for _, h := range r.Headers {
		if h.Key == "from" {
			topic, rest, ok := strings.Cut(string(h.Value), "/")
			var p int32
			_, err := fmt.Sscan(rest, &p)
			return topic, p, ok && err == nil
		}
	}
	return "", 0, false
}

// passes puts the children's moves over one parent together: all children must
// have left an activation at one offset, and begun the next at one. One that
// some children never took was left where it began: nobody moved under it.
func (w *world) passes(parent model.PartitionID) ([]check.Pass, error) {
	began, left := map[model.Activation]model.Offset{}, map[model.Activation]model.Offset{}
	for _, m := range w.moves[model.SourceKey{Script: scriptID, Parent: parent}] {
		if at, ok := began[m.activation]; ok && at != m.began {
			return nil, fmt.Errorf("%s: activation %d begins at %d and %d", parent, m.activation, at, m.began)
		}
		began[m.activation] = m.began
		if m.before == 0 {
			continue
		}
		if at, ok := left[m.before]; ok && at != m.left {
			return nil, fmt.Errorf("%s: activation %d was left at %d and %d", parent, m.before, at, m.left)
		}
		left[m.before] = m.left
	}
	var passes []check.Pass
	for _, a := range slices.Sorted(maps.Keys(began)) {
		to, ended := left[a]
		if !ended {
			to = w.log.endOf(parent)
		}
		passes = append(passes, check.Pass{From: int64(began[a]), To: int64(to), Activation: int64(a), Do: w.scriptAt(a)})
	}
	return passes, nil
}

// scriptAt gives the script as it ran under an activation.
func (w *world) scriptAt(a model.Activation) check.Func {
	version, partitions := w.versions[a], w.routes[a]
	return func(r check.Record) ([]check.Out, bool) {
		outs, ok := w.scene.do(version, r)
		for j := range outs {
			outs[j].Partition = -1
			if w.scene.byKey && outs[j].Key != nil {
				outs[j].Partition = check.PartitionOf(outs[j].Key, partitions)
			}
		}
		return outs, ok
	}
}

// gone tells what a script may have missed: trimmed, or compacted away.
func (w *world) gone(topic string, index int32, offset int64) bool {
	i := w.spec.InputOf(topic)
	id := model.PartitionID{Topic: w.spec.Inputs[i].ID, Index: index}
	for _, r := range w.log.gone[model.SourceKey{Script: scriptID, Parent: id}] {
		if model.Offset(offset) >= r[0] && model.Offset(offset) < r[1] {
			return true
		}
	}
	if !w.scene.compact {
		return false
	}
	return !slices.ContainsFunc(w.log.all(id), func(r record.Record) bool { return int64(r.Offset) == offset })
}

// hash makes choices of a script that are a function of its record.
func hash(r check.Record) uint64 {
	var n uint64
	fmt.Sscan(string(r.Value), &n)
	b := binary.LittleEndian.AppendUint64(nil, n*0x9e3779b97f4a7c15)
	return binary.LittleEndian.Uint64(b) >> 17
}

func (w *world) seekStarts() []controller.Start {
	var starts []controller.Start
	for _, in := range w.spec.Inputs {
		for i := range in.Partitions {
			id := model.PartitionID{Topic: in.ID, Index: i}
			starts = append(starts, controller.Start{Parent: id, Offset: model.Offset(w.rand.Int64N(int64(w.log.endOf(id)) + 1))})
		}
	}
	return starts
}

// pass lets time pass on the bubble's clock.
func pass(d time.Duration) { <-time.After(d) }
