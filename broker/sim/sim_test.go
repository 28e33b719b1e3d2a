package sim

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
)

var (
	seedsFlag = flag.Int("seeds", 24, "how many seeds are played")
	firstFlag = flag.Uint64("first", 0, "the first of them")
	seedFlag  = flag.Int64("seed", -1, "the one seed to play, with its trace on standard error")
	stepsFlag = flag.Int("steps", 2500, "how many events a seed has before its faults end")
)

// failedMax is how many seeds may fail before the rest are left.
const failedMax = 3

// TestMain leaves the scheduler one processor: what is runnable then runs in the order in
// which it became so, and a seed gives the same run again.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// play runs one seed in a bubble of its own.
func play(t *testing.T, o Options) (r Report) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		o.Still = synctest.Wait
		r = Run(o)
	})
	return r
}

// TestSeeds plays seeds and expects every promise to be kept.
func TestSeeds(t *testing.T) {
	if *seedFlag >= 0 {
		r := play(t, Options{Seed: uint64(*seedFlag), Steps: *stepsFlag, Trace: os.Stderr})
		tell(t, uint64(*seedFlag), r)
		return
	}
	playSeeds(t, *seedsFlag)
}

// playSeeds plays so many seeds, and expects that each kind of event happens in a few.
func playSeeds(t *testing.T, seeds int) {
	events, failed := map[string]int{}, 0
	for seed := *firstFlag; seed < *firstFlag+uint64(seeds) && failed < failedMax; seed++ {
		r := play(t, Options{Seed: seed, Steps: *stepsFlag})
		for k, n := range r.Events {
			events[k] += n
		}
		if len(r.Faults) > 0 {
			failed++
		}
		tell(t, seed, r)
	}
	for _, k := range slices.Sorted(maps.Keys(events)) {
		t.Logf("%7d %s", events[k], k)
	}
	for _, k := range expected {
		if events[k] == 0 && failed == 0 && seeds >= 10 {
			t.Errorf("in %d seeds: no %q", seeds, k)
		}
	}
}

// expected are what happens in every dozen of seeds.
var expected = []string{
	"acked", "refused", "unknown", "out of order", "read", "latest", "committed", "commit read", "call", "call lost", "call late",
	"crash", "died of its disk", "cut", "flush", "sidecar", "topics changed",
	"assigned", "rejoined", "evicted", "left", "vanished", "slept", "member committed", "positions read",
	"old generation refused", "former process refused",
	"raft: busy", "raft: deaf", "raft: dropped without a leader", "raft: elected", "raft: forwarded", "raft: gave up", "raft: installed",
	"raft: replayed", "raft: snapshot", "raft: taken by a deposed leader", "raft: truncated", "raft: unknown",
}

func tell(t *testing.T, seed uint64, r Report) {
	t.Helper()
	for _, f := range r.Faults {
		t.Errorf("seed %d: %v", seed, f)
	}
	if len(r.Faults) > 0 {
		t.Logf("play it again: go test -run TestSeeds ./broker/sim -seed %d -steps %d", seed, *stepsFlag)
	}
}

// TestReplay plays seeds twice: the traces must be the same.
func TestReplay(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			a := play(t, Options{Seed: seed, Steps: *stepsFlag})
			b := play(t, Options{Seed: seed, Steps: *stepsFlag})
			if a.Trace != b.Trace || a.Steps != b.Steps {
				t.Errorf("the traces are %s and %s, of %d and %d steps", a.Trace, b.Trace, a.Steps, b.Steps)
			}
		})
	}
}
