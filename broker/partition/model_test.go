package partition

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// choices lets rapid make a world's choices, so that it can shrink a story.
type choices struct{ t *rapid.T }

func (c choices) Uint64() uint64 { return rapid.Uint64().Draw(c.t, "choice") }

// fatal passes a world's verdicts to rapid.
type fatal struct {
	testing.TB
	t *rapid.T
}

func (f fatal) Helper()                      { f.t.Helper() }
func (f fatal) Fatal(args ...any)            { f.t.Fatal(args...) }
func (f fatal) Fatalf(s string, args ...any) { f.t.Fatalf(s, args...) }

// TestRapid looks for a short story that breaks the model.
func TestRapid(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := worldOf(fatal{t, rt}, rand.New(choices{rt}), smallConfig(rapid.Bool().Draw(rt, "compact")))
		if err := w.open(); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if err := w.step(); err != nil {
				rt.Fatal(err)
			}
			if w.r.IntN(20) == 0 {
				w.reboot(w.r.Uint64())
			}
		}
		w.check()
	})
}

// TestModel runs random stories with reboots between, by power cut and by Close.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t, seed, smallConfig(seed%4 > 1))
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		for i := range 400 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, i, err)
			}
			switch w.r.IntN(60) {
			case 0:
				w.reboot(w.r.Uint64())
				w.check()
			case 1:
				w.reopen()
				w.check()
			}
		}
		w.check()
		w.close()
	}
}

// close ends a world: no memory is left behind, but what the past may hold.
func (w *world) close() {
	w.t.Helper()
	w.finish()
	if err := w.p.Close(); err != nil {
		w.t.Fatal(err)
	}
	if held := w.memory.Used(); held > w.pastMax {
		w.t.Fatalf("%d bytes of memory did not come back", held)
	}
}

// reopen closes cleanly: nothing is to be replayed, but by a partition that had
// no files yet.
func (w *world) reopen() {
	w.t.Helper()
	w.finish()
	fresh := w.p.fresh
	if err := w.p.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.open(); err != nil {
		w.t.Fatal(err)
	}
	want := uint64(len(w.log))
	if fresh {
		want = 0
	}
	if w.p.Applied() != want {
		w.t.Fatalf("applied %d after a clean close, want %d", w.p.Applied(), want)
	}
	if err := w.catchUp(); err != nil {
		w.t.Fatal(err)
	}
}

// finish ends the jobs under way.
func (w *world) finish() {
	w.t.Helper()
	if w.flush != nil {
		if err := w.flushStep(); err != nil {
			w.t.Fatal(err)
		}
	}
	if w.compact != nil {
		if err := w.compactStep(); err != nil {
			w.t.Fatal(err)
		}
	}
}
