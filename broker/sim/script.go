package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/pacemaker"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
)

// copier is the one async script: it copies what keeps says from each partition of
// parents to the same of children, under the activation and the version that it runs as.
type copier struct {
	down  atomic.Bool // the sidecars are
	plans plans
	ops   scriptOps
	// twice has sidecars of every second version repeat what they make, to see the judge
	// fail.
	twice bool
}

const scriptName = "copies"

// keeps tells whether the script has a child for a value.
func keeps(value string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(value))
	return h.Sum32()%3 != 0
}

// childOf is what it makes of it.
func childOf(a model.Activation, version byte, value string) string {
	return fmt.Sprintf("%d/%d: child of %s", a, version, value)
}

// plans are what activations were.
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

// sidecar is a node's.
type sidecar struct {
	of   *copier
	fake async.Fake
}

func (s *copier) sidecar() async.Opener {
	x := &sidecar{of: s}
	x.fake.Do = x.transform
	return x
}

// Open implements async.Opener.
func (s *sidecar) Open(ctx context.Context, spec async.FiberSpec) (async.Fiber, error) {
	if s.of.down.Load() {
		return nil, control.ErrDown
	}
	return s.fake.Open(ctx, spec)
}

func (s *sidecar) transform(_ context.Context, spec async.FiberSpec, b async.Batch) (async.Result, error) {
	if s.of.down.Load() {
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
			values = append(values, childOf(spec.Activation, spec.Digest[0], rec.value))
		}
	}
	if s.of.twice && spec.Digest[0]%2 == 0 {
		values = append(values, values...)
	}
	if len(values) > 0 {
		r.RecordsOut = int64(len(values))
		r.Outputs = []async.OutputBatches{{Partition: spec.Parent.Index, Batches: [][]byte{(&producer{id: -1}).batch(&sent{values: values})}}}
	}
	return r, nil
}
