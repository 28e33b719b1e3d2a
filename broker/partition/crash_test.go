package partition

import (
	"errors"
	"fmt"
	"testing"

	"github.com/millrace-io/millrace/broker/disk"
)

// TestCrashAtEveryPoint runs one random story again and again, cutting the power at
// each write, sync and rename of it in turn; after each, raft's log is replayed and
// everything acknowledged must be there, in order, once.
func TestCrashAtEveryPoint(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compact=%v", compact), func(t *testing.T) {
			for seed := range uint64(4) { // two of them directly, two through the page cache
				crashEverywhere(t, seed, compact)
			}
		})
	}
}

const crashSteps = 90

func crashEverywhere(t *testing.T, seed uint64, compact bool) {
	for point := 1; ; point++ {
		w := newWorld(t, seed, smallConfig(compact))
		w.fs.StopAt(point)
		err := w.open()
		for i := 0; i < crashSteps && err == nil; i++ {
			err = w.step()
		}
		if err == nil {
			err = w.p.Close()
		}
		if err == nil && !w.fs.Stopped() {
			if point < 40 {
				t.Fatalf("the story has only %d points", point)
			}
			return // the story is over before the point
		}
		if err != nil && !errors.Is(err, disk.ErrPowerCut) {
			t.Fatalf("point %d: %v", point, err)
		}
		for luck := range uint64(3) {
			after := *w
			after.oracle = w.oracle.clone()
			after.log = append([]Entry(nil), w.log...)
			after.results = append([]Outcome(nil), w.results...)
			after.reboot(seed*1000 + luck*17 + uint64(point))
			after.check()
			for range 10 { // and it goes on
				if err := after.step(); err != nil {
					t.Fatalf("point %d: after reboot: %v", point, err)
				}
			}
			after.check()
		}
	}
}
