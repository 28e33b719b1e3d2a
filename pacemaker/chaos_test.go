package pacemaker

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/pacemaker/check"
)

func copyOf(r check.Record, output, version int) check.Out {
	return check.Out{Output: output, Key: r.Key, Value: fmt.Appendf(nil, "v%d:%s", version, r.Value), Headers: r.Headers}
}

func filterOf(keep uint64) func(int, check.Record) ([]check.Out, bool) {
	return func(v int, r check.Record) ([]check.Out, bool) {
		if hash(r)%keep != 0 {
			return nil, true
		}
		return []check.Out{copyOf(r, 0, v)}, true
	}
}

// fan gives one record to the first output, none to two to the second.
func fan(v int, r check.Record) ([]check.Out, bool) {
	outs := []check.Out{copyOf(r, 0, v)}
	for range hash(r) % 3 {
		outs = append(outs, copyOf(r, 1, v))
	}
	return outs, true
}

// rekey spreads records over the output by another key.
func rekey(v int, r check.Record) ([]check.Out, bool) {
	o := copyOf(r, 0, v)
	o.Key = fmt.Appendf(nil, "r%d", hash(r)%23)
	return []check.Out{o}, true
}

// sometimes fails one record in twenty, always the same.
func sometimes(v int, r check.Record) ([]check.Out, bool) {
	return []check.Out{copyOf(r, 0, v)}, hash(r)%20 != 0
}

func sometimesFan(v int, r check.Record) ([]check.Out, bool) {
	outs, _ := fan(v, r)
	return outs, hash(r)%20 != 0
}

var scenes = []scene{
	{name: "filter 1 in 1000", inputs: []int32{2}, outputs: 1, onError: script.Stop, do: filterOf(1000)},
	{name: "fan out to two", inputs: []int32{2}, outputs: 2, onError: script.Stop, do: fan},
	{name: "by key", inputs: []int32{2}, outputs: 1, byKey: true, onError: script.Stop, do: rekey},
	{name: "dead letters", inputs: []int32{2}, outputs: 1, onError: script.Dead, flaky: 0.02, do: sometimes},
	{name: "dead letters, fan out", inputs: []int32{1}, outputs: 2, onError: script.Dead, flaky: 0.02, do: sometimesFan},
	{name: "dead letters, by key", inputs: []int32{2}, outputs: 1, byKey: true, onError: script.Dead, flaky: 0.01, do: rekey},
	{name: "skip, fan out", inputs: []int32{1}, outputs: 2, onError: script.Skip, flaky: 0.02, do: sometimesFan},
	{name: "two inputs into one", inputs: []int32{1, 2}, outputs: 1, onError: script.Dead, flaky: 0.01, do: sometimes},
	{name: "compacted parent", inputs: []int32{2}, outputs: 2, onError: script.Stop, compact: true, do: fan},
	{name: "trimmed parent", inputs: []int32{2}, outputs: 2, onError: script.Stop, trim: true, do: fan},
	{name: "aborted transactions", inputs: []int32{2}, outputs: 2, onError: script.Stop, txns: true, do: fan},
}

// seeds says how many histories each scene plays; MILLRACE_SEEDS asks for more.
func seeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("MILLRACE_SEEDS"), 10, 32); err == nil {
		return n
	}
	return 4
}

// TestExactlyOnce plays random histories of crashes, lost answers, leader
// changes, deaths of the sidecar, deployments, seeks, pauses and growth, and
// recomputes every child.
func TestExactlyOnce(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			for seed := range seeds() {
				t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { history(t, newWorld(t, s, seed)) })
				})
			}
		})
	}
}

// history plays one and judges it.
func history(t *testing.T, w *world) {
	defer w.killAll()
	w.log.failBefore, w.log.failAfter, w.log.travelMax, w.lagMax = 0.03, 0.05, 2*time.Millisecond, 40*time.Millisecond
	w.start()
	for range 250 {
		w.step()
	}
	if err := w.settle(); err != nil {
		t.Fatalf("not settled: %v", err)
	}
	w.killAll()
	counts, err := w.judge()
	if err != nil {
		t.Fatal(err)
	}
	if counts.Records < 500 {
		t.Errorf("only %d records were judged", counts.Records)
	}
	t.Logf("%+v, activation %d", counts, w.spec.Activation)
}

// step does one thing that happens to a cluster.
func (w *world) step() {
	pass(time.Duration(w.rand.Int64N(int64(30 * time.Millisecond))))
	switch n := w.rand.IntN(100); {
	case n < 50:
		w.produce()
	case n < 60: // a crash
		w.killAll()
		if w.rand.IntN(2) == 0 {
			w.start()
		}
	case n < 68: // another leader, while the old one does not know yet
		w.start()
		if len(w.nodes) > 2 {
			w.nodes[0].kill()
			w.nodes = w.nodes[1:]
		}
	case n < 74:
		w.setDown(w.rand.IntN(2) == 0)
	case n < 80:
		w.change(func(s *Spec) { s.Paused = !s.Paused })
	case n < 85: // a new version
		w.activate(true, func(s *Spec) { w.versions[s.Activation]++; s.Digest[0]++ })
	case n < 88:
		starts := w.seekStarts()
		w.activate(false, func(s *Spec) { s.Starts = starts })
	case n < 91:
		w.grow()
	case n < 97 && w.scene.compact:
		w.eachParent(func(id model.PartitionID) { w.log.compact(id) })
	case n < 97 && w.scene.trim:
		w.eachParent(func(id model.PartitionID) { w.log.trim(id, model.Offset(w.rand.Int64N(int64(w.log.endOf(id))+1))) })
	default:
		pass(300 * time.Millisecond)
	}
	if len(w.nodes) == 0 && w.rand.IntN(3) == 0 {
		w.start()
	}
}

func (w *world) eachParent(do func(model.PartitionID)) {
	for _, in := range w.spec.Inputs {
		for i := range in.Partitions {
			do(model.PartitionID{Topic: in.ID, Index: i})
		}
	}
}

// grow adds a partition to an input and to the children made for it, under a new
// activation, as the controller does.
func (w *world) grow() {
	i := w.rand.IntN(len(w.spec.Inputs))
	if w.spec.Inputs[i].Partitions >= 5 {
		return
	}
	w.activate(true, func(s *Spec) {
		s.Inputs[i].Partitions++
		for j := range s.Outputs {
			s.Outputs[j].Partitions = max(s.Outputs[j].Partitions, s.Inputs[i].Partitions)
			for p := range s.Outputs[j].Partitions {
				w.log.create(model.PartitionID{Topic: s.Outputs[j].ID, Index: p})
			}
		}
		for p := range s.Inputs[i].Partitions {
			w.log.create(model.PartitionID{Topic: s.Inputs[i].ID, Index: p})
		}
		w.routes[s.Activation] = s.Outputs[0].Partitions
	})
}

// TestBrokenCompare breaks the compare-and-set: the judge must notice, in any of
// a few histories.
func TestBrokenCompare(t *testing.T) {
	broken := map[string]func(partition.SourceState, partition.Source) bool{
		"any offset": func(s partition.SourceState, ask partition.Source) bool {
			return s.Known && s.Activation == ask.Activation
		},
		"already taken": func(s partition.SourceState, ask partition.Source) bool {
			return s.Known && s.Activation == ask.Activation && s.Offset >= ask.From
		},
	}
	for name, matches := range broken {
		t.Run(name, func(t *testing.T) {
			for _, s := range []scene{scenes[1], scenes[2], scenes[3]} {
				if !noticed(t, s, matches) {
					t.Errorf("%s: no history shows it", s.name)
				}
			}
		})
	}
}

func noticed(t *testing.T, s scene, matches func(partition.SourceState, partition.Source) bool) (yes bool) {
	for seed := uint64(0); seed < 20 && !yes; seed++ {
		synctest.Test(t, func(t *testing.T) { yes = brokenHistory(t, s, seed, matches) })
	}
	return yes
}

func brokenHistory(t *testing.T, s scene, seed uint64, matches func(partition.SourceState, partition.Source) bool) bool {
	w := newWorld(t, s, seed)
	defer w.killAll()
	w.log.failBefore, w.log.failAfter, w.log.matches = 0.03, 0.1, matches
	w.start()
	w.start()
	for range 200 {
		pass(time.Duration(w.rand.Int64N(int64(5 * time.Millisecond))))
		w.produce()
		if w.rand.IntN(10) == 0 {
			w.nodes[0].kill()
			w.nodes = w.nodes[1:]
			w.start()
		}
	}
	err := w.settle()
	w.killAll()
	if err == nil {
		_, err = w.judge()
	}
	return err != nil
}
