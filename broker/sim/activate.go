package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/sdk/manifest"
)

// scriptOps is who deploys, seeks, pauses and resumes the script, one after the other.
// Owned by the driver.
type scriptOps struct {
	busy    bool
	version byte
}

// stepScript has somebody change the script. Once nothing new begins it is seen to that
// it is deployed, and runs.
func (w *World) stepScript() {
	n, ops := w.pick(), &w.load.script.ops
	if n == nil || ops.busy || !w.load.made || !n.entered.Load() {
		return
	}
	m := n.cluster.Metadata()
	s, deployed := m.Script(scriptName)
	parents, made := m.Topic(parentsTopic)
	luck := w.dice.IntN(20)
	switch {
	case !made:
	case !deployed:
		w.change(n, "deployed", w.deploy(n, 0, false, parents))
	case w.load.ended:
		if s.Paused {
			w.change(n, "resumed", w.pause(n, false))
		}
	case luck < 6:
		w.change(n, "redeployed", w.deploy(n, s.Activation, true, parents))
	case luck < 8:
		w.change(n, "deployed anew", w.deploy(n, s.Activation, false, parents))
	case luck < 13:
		starts := w.startsIn(parents)
		w.change(n, "sought", func(ctx context.Context) (cluster.Deployed, error) {
			return n.cluster.SeekScript(ctx, scriptName, s.Activation, starts)
		})
	case s.Paused:
		w.change(n, "resumed", w.pause(n, false))
	case luck < 16:
		w.change(n, "paused", w.pause(n, true))
	}
}

// change has a node change the script.
func (w *World) change(n *node, how string, ask func(ctx context.Context) (cluster.Deployed, error)) {
	ops := &w.load.script.ops
	ops.busy = true
	w.log("%d at node %d the script is to be %s", w.step, n.id, how)
	var d cluster.Deployed
	var err error
	o := w.async(n, func() {
		ctx, cancel := context.WithTimeout(n.ctx, patience)
		defer cancel()
		d, err = ask(ctx)
	})
	o.lost = func() { ops.busy = false }
	o.done = func() {
		ops.busy = false
		w.log("%d the script is %s: %v, %v", w.step, how, d.Script, err)
		switch {
		case err == nil:
			w.saw("script " + how)
		case errors.Is(err, cluster.ErrConflict):
			w.saw("script conflict")
		case errors.Is(err, cluster.ErrInvalidScript), errors.Is(err, cluster.ErrUnknownScript):
			w.broken("the script is not %s: %v", how, err)
		}
	}
}

func (w *World) pause(n *node, paused bool) func(ctx context.Context) (cluster.Deployed, error) {
	return func(ctx context.Context) (cluster.Deployed, error) {
		return n.cluster.PauseScript(ctx, scriptName, paused)
	}
}

// deploy makes the next version of the script. It goes on where its children stand with
// keep, else somewhere.
func (w *World) deploy(n *node, expect model.Activation, keep bool, parents *cluster.Topic) func(ctx context.Context) (cluster.Deployed, error) {
	w.load.script.ops.version++
	m := manifest.New()
	m.Name, m.Mode, m.Inputs, m.Outputs, m.OnError.Then = scriptName, manifest.Async, []string{parentsTopic}, []string{childrenTopic}, manifest.Stop
	d := cluster.Deploy{Expect: expect, Script: controller.Script{
		Name: scriptName, Mode: controller.ModeAsync, Digest: model.Digest{w.load.script.ops.version}, Keep: keep,
		Inputs: m.Inputs, Outputs: []controller.Output{{Topic: childrenTopic}}, Manifest: m.Canonical(),
	}}
	if expect != 0 && !keep {
		d.Script.Starts = w.startsIn(parents)
	}
	return func(ctx context.Context) (cluster.Deployed, error) { return n.cluster.DeployScript(ctx, d) }
}

// startsIn draws an offset that is there in each of the parents; the first of all may be
// left out.
func (w *World) startsIn(parents *cluster.Topic) (starts []controller.Start) {
	for _, p := range parents.Partitions {
		id := parents.PartitionID(p.Index)
		if at := model.Offset(w.dice.IntN(int(w.truth.end(id)) + 1)); at > 0 {
			starts = append(starts, controller.Start{Parent: id, Offset: at})
		}
	}
	return starts
}

// scriptUnsettled says what the script has still to do, as node 0 knows it.
func (w *World) scriptUnsettled() (why []error) {
	m := w.nodes[0].cluster.Metadata()
	s, deployed := m.Script(scriptName)
	in, known := m.Topic(parentsTopic)
	out, made := m.Topic(childrenTopic)
	if !deployed || !known || !made || s.Paused {
		return []error{errors.New("the script is not deployed, or paused")}
	}
	for i := range int32(2) {
		_, parent := w.holder(in.PartitionID(i))
		_, child := w.holder(out.PartitionID(i))
		if parent == nil || child == nil {
			return append(why, fmt.Errorf("children %d, or their parents, are not there yet", i))
		}
		var high model.Offset
		var state partition.SourceState
		_ = parent.Query(context.Background(), func(p *partition.Partition) { high = p.HighWatermark() })
		_ = child.Query(context.Background(), func(p *partition.Partition) {
			state = p.Source(model.SourceKey{Script: s.ID, Parent: parent.ID})
		})
		if state.Offset < high || state.Activation != s.Activation {
			why = append(why, fmt.Errorf("children %d have taken %d of %d under activation %d of %d", i, state.Offset, high, state.Activation, s.Activation))
		}
	}
	return why
}

// activation is one as the judge needs it, for one parent partition.
type activation struct {
	model.Activation
	version  byte
	keepFrom model.Activation // children of at least this one go on where they stand
	start    model.Offset     // for others
}

// all gives the activations that any child may have taken, for the parents of an index.
func (p *plans) all(index int32) (all []activation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range slices.Sorted(maps.Keys(p.byID)) {
		s := p.byID[a]
		all = append(all, activation{a, s.Digest[0], s.KeepFrom, s.StartOf(model.PartitionID{Topic: s.Inputs[0].ID, Index: index})})
	}
	return all
}

// wrongChildren compares a child with what the script makes of its parent. Under each
// activation it takes one parent after the other, none left out and none twice, from where
// the one before ended or where the activation begins; under the last, all of them.
func wrongChildren(parent, child []read, all []activation) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	next := func(from model.Offset) (read, bool) {
		for _, r := range parent {
			if r.offset >= from && keeps(r.value) {
				return r, true
			}
		}
		return read{}, false
	}
	var at model.Offset
	var before model.Activation
	for _, a := range all {
		if before < a.keepFrom {
			at = a.start
		}
		before = a.Activation
		for len(child) > 0 && strings.HasPrefix(child[0].value, fmt.Sprintf("%d/", a.Activation)) {
			r, is := next(at)
			if want := childOf(a.Activation, a.version, r.value); !is || child[0].value != want {
				fault("child %d is %q; it is the turn of the parent at %d, %q, there %v", child[0].offset, child[0].value, r.offset, r.value, is)
				return faults
			}
			at, child = r.offset+1, child[1:]
		}
	}
	if r, more := next(at); more {
		fault("the parent at %d, %q, has no child under activation %d", r.offset, r.value, before)
	}
	if len(child) > 0 {
		fault("child %d is %q, and %d activations are over", child[0].offset, child[0].value, len(all))
	}
	return faults
}
