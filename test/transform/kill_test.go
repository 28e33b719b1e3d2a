package transform

import (
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/millrace-io/millrace/test/node"
)

// TestKillUnderLoad plays all scenes at one time, kills broker, sidecar and both
// meanwhile, and recomputes every child. The rounds of the short form are fixed,
// so that each fault and each act is tried; MILLRACE_ROUNDS adds drawn ones.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	seed, rounds := uint64(1), 0
	if n, err := strconv.ParseUint(os.Getenv("MILLRACE_SEED"), 10, 64); err == nil {
		seed = n
	}
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_ROUNDS")); err == nil {
		rounds = n
	}
	w := New(t, node.Start(t, node.Options{Sidecar: true, Args: StartArgs}), Scenes(), seed)
	w.Load()
	w.plan("gap", KillSidecar, "trim", w.trim)
	w.plan("fork", KillBroker, "add a partition", w.grow)
	w.plan("late", KillBoth, "seek", w.seek)
	w.plan("join", KillSidecar, "redeploy with a start", func(s *script) error { return w.deploy(s, w.back(s)) })
	w.plan("sort", KillBoth, "add a partition", w.grow)
	w.plan("tidy", KillBroker, "redeploy", func(s *script) error { return w.deploy(s, 0) })
	for range rounds {
		w.Round(Faults()...)
	}
	t.Log(w.Struck())
	w.Quiet()
	w.Settle()
	w.Judge()
}

func (w *World) plan(name string, f Fault, what string, act func(*script) error) {
	w.T.Helper()
	i := slices.IndexFunc(w.scripts, func(s *script) bool { return s.Name == name })
	w.during(f, w.scripts[i], what, func() error { return act(w.scripts[i]) })
}

// TestTrimmedBehindPause trims a parent behind a paused script: what is gone is
// counted, what is left comes out in order.
func TestTrimmedBehindPause(t *testing.T) {
	t.Parallel()
	r := newRig(t, node.Options{Sidecar: true})
	r.topic("in")
	r.put("copy", "go", passing)
	r.write("in", 0, 100)
	r.took("copy", 100)
	s := &script{Scene: &Scene{Name: "copy", Inputs: []Input{{Topic: "in"}}}}
	r.must("pause", r.rest(s))
	r.write("in", 100, 200)
	if _, err := r.Node.CLI("topic", "trim-prefix", "in", "--offset", "150", "--no-confirm"); err != nil {
		t.Fatal(err)
	}
	r.must("resume", r.resume(s))
	if p := r.took("copy", 200); p.GapRecords != 50 {
		t.Errorf("a gap of %d records is told, want 50: %+v", p.GapRecords, p)
	}
	got := r.all("in.copy")
	for i, rec := range got {
		want := i
		if i >= 100 {
			want += 50
		}
		if string(rec.Value) != strconv.Itoa(want) {
			t.Fatalf("record %d is %q, want %d", i, rec.Value, want)
		}
	}
	if len(got) != 150 {
		t.Errorf("%d records came out, want 150", len(got))
	}
}
