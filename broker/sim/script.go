package sim

import (
	"context"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/pacemaker"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
)

// copier is the one async script: it copies what keeps says from each partition of
// parents to the same of children.
type copier struct {
	down  atomic.Bool // the sidecars are
	plans plans
}

const scriptID model.ScriptID = 7

// keeps tells whether the script has a child for a value.
func keeps(value string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(value))
	return h.Sum32()%3 != 0
}

// childOf is what it makes of it.
func childOf(value string) string { return "child of " + value }

// plans are what activations were: there is one.
type plans struct {
	mu   sync.Mutex
	byID map[model.Activation]*pacemaker.Spec
}

// Remember implements pacemaker.Plans.
func (p *plans) Remember(ctx context.Context, s *pacemaker.Spec) (*pacemaker.Spec, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byID == nil {
		p.byID = map[model.Activation]*pacemaker.Spec{}
	}
	if p.byID[s.Activation] == nil {
		p.byID[s.Activation] = s
	}
	return p.byID[s.Activation], ctx.Err()
}

// Recall implements pacemaker.Plans.
func (p *plans) Recall(ctx context.Context, _ model.ScriptID, a model.Activation) (*pacemaker.Spec, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.byID[a]; s != nil {
		return s, ctx.Err()
	}
	return nil, pacemaker.ErrNoPlan
}

// view is pacemaker.View by a node's metadata.
type view struct{ n *node }

func (n *node) view() view { return view{n} }

// Watch implements pacemaker.View.
func (v view) Watch() (<-chan struct{}, func()) { return v.n.cluster.Watch() }

// Specs implements pacemaker.View: the script runs once its topics are there.
func (v view) Specs() []*pacemaker.Spec {
	m := v.n.cluster.Metadata()
	in, known := m.Topic(parentsTopic)
	out, made := m.Topic(childrenTopic)
	if !known || !made {
		return nil
	}
	return []*pacemaker.Spec{{
		Script: scriptID, Name: "copies", Activation: 1, Digest: model.Digest{1}, OnError: script.Stop,
		Inputs:  []script.Input{{Topic: in.Name, ID: in.ID, Partitions: int32(len(in.Partitions))}},
		Outputs: []script.Output{{Topic: out.Name, ID: out.ID, Partitions: int32(len(out.Partitions))}},
	}}
}

// sidecar is a node's.
type sidecar struct {
	down *atomic.Bool
	fake async.Fake
}

func (s *copier) sidecar() async.Opener {
	x := &sidecar{down: &s.down}
	x.fake.Do = x.transform
	return x
}

// Open implements async.Opener.
func (s *sidecar) Open(ctx context.Context, spec async.FiberSpec) (async.Fiber, error) {
	if s.down.Load() {
		return nil, control.ErrDown
	}
	return s.fake.Open(ctx, spec)
}

func (s *sidecar) transform(_ context.Context, spec async.FiberSpec, b async.Batch) (async.Result, error) {
	if s.down.Load() {
		return async.Result{}, control.ErrDown
	}
	var r async.Result
	var values []string
	for _, rec := range decode(b.Records) {
		if rec.offset < b.From || rec.offset >= b.To {
			continue
		}
		r.RecordsIn++
		if keeps(rec.value) {
			values = append(values, childOf(rec.value))
		}
	}
	if len(values) > 0 {
		r.RecordsOut = int64(len(values))
		r.Outputs = []async.OutputBatches{{Partition: spec.Parent.Index, Batches: [][]byte{(&producer{id: -1}).batch(&sent{values: values})}}}
	}
	return r, nil
}
