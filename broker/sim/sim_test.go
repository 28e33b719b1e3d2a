package sim

import (
	"bytes"
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

// parted are seeds that took either of two ways once: a fiber found a piece and its timer
// ready, pulls came back for a seat at one moment, two of one node tried the same command
// again at one moment, or a fiber's parent was lost before or after its reader heard of it.
var parted = []uint64{44, 59, 80, 125, 175, 191, 272, 386, 573, 695, 1033, 1220}

// TestReplay plays seeds twice: the traces must be the same.
func TestReplay(t *testing.T) {
	for _, seed := range append([]uint64{0}, parted...) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if differs := replay(t, seed, 2); differs != "" {
				t.Error(differs)
			}
		})
	}
}

// keepDiffering, if set, is given two traces of one seed.
var keepDiffering func(t *testing.T, seed uint64, a, b []byte)

// replay plays a seed so many times, and says where the traces differ.
func replay(t *testing.T, seed uint64, times int) string {
	t.Helper()
	var first []byte
	for i := range times {
		var b bytes.Buffer
		r := play(t, Options{Seed: seed, Steps: *stepsFlag, Trace: &b})
		tell(t, seed, r)
		if i == 0 {
			first = b.Bytes()
		} else if !bytes.Equal(first, b.Bytes()) {
			if keepDiffering != nil {
				keepDiffering(t, seed, first, b.Bytes())
			}
			return fmt.Sprintf("seed %d does not replay with -steps %d: %s", seed, *stepsFlag, firstDifference(first, b.Bytes()))
		}
	}
	return ""
}

// firstDifference shows two traces from a few lines before they part.
func firstDifference(a, b []byte) string {
	as, bs := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	at := 0
	for at < len(as) && at < len(bs) && bytes.Equal(as[at], bs[at]) {
		at++
	}
	around := func(lines [][]byte) []byte {
		return bytes.Join(lines[max(0, at-4):min(len(lines), at+3)], []byte("\n"))
	}
	return fmt.Sprintf("from line %d on\n%s\n--- or\n%s", at+1, around(as), around(bs))
}
