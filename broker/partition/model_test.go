package partition

import (
	"testing"
)

// TestModel runs random stories with reboots between, by power cut and by Close.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t, seed, smallConfig(seed%2 == 1))
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
	}
}

// reopen closes cleanly: nothing is to be replayed.
func (w *world) reopen() {
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
	if err := w.p.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.open(); err != nil {
		w.t.Fatal(err)
	}
	if w.p.Applied() != uint64(len(w.log)) {
		w.t.Fatalf("applied %d after a clean close, want %d", w.p.Applied(), len(w.log))
	}
}
