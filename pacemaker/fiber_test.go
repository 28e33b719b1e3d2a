package pacemaker

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/pacemaker/check"
)

// plainScene copies every record.
func plainScene(onError script.OnError, do func(int, check.Record) ([]check.Out, bool)) scene {
	return scene{name: "plain", inputs: []int32{1}, outputs: 1, onError: onError, do: do}
}

func copyAll(v int, r check.Record) ([]check.Out, bool) { return []check.Out{copyOf(r, 0, v)}, true }

func parentOf(w *world) model.PartitionID { return model.PartitionID{Topic: w.spec.Inputs[0].ID} }

func childOf(w *world, output int) model.PartitionID {
	return model.PartitionID{Topic: w.spec.Outputs[output].ID}
}

// TestIdleFiberWaitsForNothing has no time pass between a record and its output.
func TestIdleFiberWaitsForNothing(t *testing.T) {
	for _, policy := range []script.OnError{script.Stop, script.Dead, script.Skip} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, plainScene(policy, copyAll), 1)
			defer w.killAll()
			w.start()
			for range 3 {
				pass(time.Minute)
				began, before := time.Now(), w.log.endOf(childOf(w, 0))
				w.produce()
				synctest.Wait() // all that can be done without time passing
				if got, want := w.log.endOf(childOf(w, 0))-before, w.log.endOf(parentOf(w)); got == 0 || time.Since(began) != 0 {
					t.Errorf("policy %s: %d outputs at once of a log of %d", policy, got, want)
				}
			}
		})
	}
}

// TestEmptyOutputAdvances tells the child within emptyDelayMax.
func TestEmptyOutputAdvances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := func(int, check.Record) ([]check.Out, bool) { return nil, true }
		w := newWorld(t, plainScene(script.Stop, none), 1)
		defer w.killAll()
		w.start()
		synctest.Wait()
		w.produce()
		pass(emptyDelayMax + time.Millisecond)
		key := model.SourceKey{Script: scriptID, Parent: parentOf(w)}
		if s := w.log.sourceOf(childOf(w, 0), key); s.Offset != w.log.endOf(parentOf(w)) {
			t.Errorf("the child stands at %d, the parent ends at %d", s.Offset, w.log.endOf(parentOf(w)))
		}
	})
}

func only(t *testing.T, n *node) Status {
	t.Helper()
	all := n.p.Status()
	if len(all) != 1 {
		t.Fatalf("%d fibers", len(all))
	}
	return all[0]
}

// TestStopStopsBeforeTheRecord keeps what came before it, and goes on at it.
func TestStopStopsBeforeTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		bad := "3"
		w := newWorld(t, plainScene(script.Stop, func(v int, r check.Record) ([]check.Out, bool) {
			mu.Lock()
			defer mu.Unlock()
			return []check.Out{copyOf(r, 0, v)}, string(r.Value) != bad
		}), 5)
		defer w.killAll()
		n := w.start()
		for w.serial < 10 {
			w.produce()
		}
		synctest.Wait()
		st := only(t, n)
		if st.State != api.StateStopped || st.Offset != 2 || st.LastError == nil || st.LastError.Offset != 2 || w.log.endOf(childOf(w, 0)) != 2 {
			t.Fatalf("stopped as %+v, error %+v", st, st.LastError)
		}
		pass(3 * time.Second)
		if st = only(t, n); st.LagRecords != int64(w.log.endOf(parentOf(w)))-2 || st.LagMs < 2000 {
			t.Errorf("lag of %d records, %d ms", st.LagRecords, st.LagMs)
		}
		mu.Lock()
		bad = ""
		mu.Unlock()
		w.change(func(*Spec) {}) // resume
		synctest.Wait()
		if st = only(t, n); st.State != api.StateRunning || w.log.endOf(childOf(w, 0)) != w.log.endOf(parentOf(w)) {
			t.Errorf("resumed to %+v", st)
		}
	})
}

// TestDeadLetterCarriesTheRecord keeps the record and says where it came from.
func TestDeadLetterCarriesTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, plainScene(script.Dead, func(v int, r check.Record) ([]check.Out, bool) {
			return []check.Out{copyOf(r, 0, v)}, string(r.Value) != "2"
		}), 5)
		defer w.killAll()
		n := w.start()
		for w.serial < 5 {
			w.produce()
		}
		synctest.Wait()
		letters := w.log.all(childOf(w, 1))
		if len(letters) != 1 {
			t.Fatalf("%d dead letters", len(letters))
		}
		got, was := checked(letters[0]), w.produced[parentOf(w)][1]
		if string(got.Value) != "2" || string(got.Key) != string(was.Key) || got.Timestamp != was.Timestamp {
			t.Errorf("letter %+v of record %+v", got, was)
		}
		headers := map[string]string{}
		for _, h := range got.Headers {
			headers[h.Key] = string(h.Value)
		}
		for key, want := range map[string]string{
			"from": "in0/0", HeaderScript: "s", HeaderScriptID: "7", HeaderActivation: "1", HeaderDigest: w.spec.Digest.String(),
			HeaderError: "deadline: too slow", HeaderTopic: "in0", HeaderTopicID: w.spec.Inputs[0].ID.String(), HeaderPartition: "0", HeaderOffset: "1",
		} {
			if headers[key] != want {
				t.Errorf("header %s is %q, want %q", key, headers[key], want)
			}
		}
		if st := only(t, n); st.RecordsFailed != 1 || st.State != api.StateRunning || st.LastError.Offset != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestDeletedChildStops names it; a recreated one is not written to before
// somebody deploys again.
func TestDeletedChildStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, plainScene(script.Stop, copyAll), 1)
		defer w.killAll()
		n := w.start()
		synctest.Wait()
		other := topicID('o', 9)
		w.log.create(model.PartitionID{Topic: other})
		w.change(func(s *Spec) { s.Outputs[0].ID = other })
		w.produce()
		synctest.Wait()
		if st := only(t, n); st.State != api.StateStopped || !strings.Contains(st.Reason, `"out0" was deleted`) {
			t.Errorf("state %s: %s", st.State, st.Reason)
		}
		if w.log.endOf(model.PartitionID{Topic: other}) != 0 {
			t.Error("the new topic was written to")
		}
		w.activate(true, func(*Spec) {})
		synctest.Wait()
		if st := only(t, n); st.State != api.StateRunning || w.log.endOf(model.PartitionID{Topic: other}) == 0 {
			t.Errorf("after a deployment: %s: %s", st.State, st.Reason)
		}
	})
}

// TestGapIsTold counts what was trimmed unread.
func TestGapIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, plainScene(script.Dead, copyAll), 1)
		defer w.killAll()
		w.change(func(s *Spec) { s.Paused = true })
		n := w.start()
		for w.serial < 200 {
			w.produce()
		}
		synctest.Wait()
		if st := only(t, n); st.State != api.StatePaused {
			t.Fatalf("state %s: %s", st.State, st.Reason)
		}
		w.log.trim(parentOf(w), 120)
		w.change(func(s *Spec) { s.Paused = false })
		synctest.Wait()
		st := only(t, n)
		key := model.SourceKey{Script: scriptID, Parent: parentOf(w)}
		if st.Gap != 120 || w.log.sourceOf(childOf(w, 0), key).Gap != 120 || w.log.sourceOf(childOf(w, 1), key).Gap != 120 {
			t.Errorf("gap of %d in the status, %d and %d in the children", st.Gap, w.log.sourceOf(childOf(w, 0), key).Gap, w.log.sourceOf(childOf(w, 1), key).Gap)
		}
		if got := len(w.log.all(childOf(w, 0))); got != w.serial-120 {
			t.Errorf("%d outputs of %d records", got, w.serial)
		}
	})
}

// TestSidecarDownIsTold waits for it and goes on.
func TestSidecarDownIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, plainScene(script.Stop, copyAll), 1)
		defer w.killAll()
		n := w.start()
		w.produce()
		synctest.Wait()
		w.setDown(true)
		w.produce()
		synctest.Wait()
		if st := only(t, n); st.State != api.StateStarting || !strings.Contains(st.Reason, "sidecar is down") {
			t.Errorf("state %s: %s", st.State, st.Reason)
		}
		w.setDown(false)
		pass(retryMax)
		if st := only(t, n); st.State != api.StateRunning || w.log.endOf(childOf(w, 0)) != w.log.endOf(parentOf(w)) {
			t.Errorf("state %s: %s", st.State, st.Reason)
		}
	})
}

// journal keeps what was put.
type journal struct {
	mu      sync.Mutex
	records []script.KV
}

func (j *journal) Put(_ context.Context, records []script.KV) (model.Offset, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, records...)
	return 0, nil
}

// TestJournalSaysHowFibersStand writes changes, and nothing while idle.
func TestJournalSaysHowFibersStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, plainScene(script.Stop, copyAll), 1)
		defer w.killAll()
		j := &journal{}
		w.journal = j
		w.start()
		w.produce()
		pass(10 * time.Second)
		defer func() {
			w.remove()
			pass(2 * journalEvery)
			j.mu.Lock()
			defer j.mu.Unlock()
			if last := j.records[len(j.records)-1]; string(last.Key) != "s/in0/0" || last.Value != nil {
				t.Errorf("no tombstone after the removal, but %q", last.Value)
			}
		}()
		j.mu.Lock()
		defer j.mu.Unlock()
		if len(j.records) == 0 || len(j.records) > 2 {
			t.Fatalf("%d records", len(j.records))
		}
		var e Entry
		last := j.records[len(j.records)-1]
		if err := json.Unmarshal(last.Value, &e); err != nil || string(last.Key) != "s/in0/0" {
			t.Fatalf("key %q: %v", last.Key, err)
		}
		if e.Offset != w.log.endOf(parentOf(w)) || e.Lag != 0 || e.State != api.StateRunning || e.Activation != 1 || e.Digest != w.spec.Digest {
			t.Errorf("entry %+v", e)
		}
	})
}

// TestTickIsTaken: a leg that ends has taken the tick that came before, or the fiber's
// next pause would be none.
func TestTickIsTaken(t *testing.T) {
	for range 100 { // a select draws
		spec, pieces := &Spec{}, make(chan piece)
		close(pieces)
		f := &fiber{changed: make(chan struct{}, 1)}
		f.spec.Store(spec)
		f.nudge()
		l := &leg{f: f}
		if err := l.appendAll(t.Context(), spec, func() {}, pieces); err != nil || len(f.changed) != 0 {
			t.Fatalf("%v, %d ticks are left", err, len(f.changed))
		}
	}
}

// TestLostParentEndsItsFiber at once: before its reader hears of it, and without a last
// word to the children.
func TestLostParentEndsItsFiber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := func(int, check.Record) ([]check.Out, bool) { return nil, true }
		w := newWorld(t, plainScene(script.Stop, none), 1)
		defer w.killAll()
		n := w.start()
		synctest.Wait()
		w.produce()
		synctest.Wait() // all is taken, and nothing told
		key := model.SourceKey{Script: scriptID, Parent: parentOf(w)}
		ended := false
		n.p.mu.Lock()
		f := n.p.fibers[key]
		cancel := f.cancel
		f.cancel = func() { ended = true; cancel() }
		n.p.mu.Unlock()
		n.p.Lead(core.Leadership{Partition: key.Parent, Epoch: 1})
		n.p.mu.Lock()
		if !ended {
			t.Error("the fiber goes on")
		}
		n.p.mu.Unlock()
		pass(2 * emptyDelayMax)
		if s := w.log.sourceOf(childOf(w, 0), key); s.Offset != 0 {
			t.Errorf("the child was told of %d", s.Offset)
		}
	})
}
