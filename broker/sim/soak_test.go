//go:build soak

package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var (
	soakSeeds   = flag.Int("soak-seeds", 5000, "how many seeds TestSoakSeeds plays, from -first on")
	replaySeeds = flag.Int("replay-seeds", 500, "how many seeds TestSoakReplay plays, from -first on")
	replaysTo   = flag.String("replays-to", "", "the directory that TestSoakReplay writes differing traces to, if any")
	soakReplays = flag.Int("soak-replays", 2, "how many times TestSoakReplay plays each")
)

// TestSoakSeeds plays thousands of seeds.
func TestSoakSeeds(t *testing.T) { playSeeds(t, *soakSeeds) }

// TestSoakReplay plays seeds a few times, and says which do not replay and from where on.
func TestSoakReplay(t *testing.T) {
	if *replaysTo != "" {
		keepDiffering = writeDiffering
		defer func() { keepDiffering = nil }()
	}
	differed := 0
	for seed := *firstFlag; seed < *firstFlag+uint64(*replaySeeds); seed++ {
		if differs := replay(t, seed, *soakReplays); differs != "" {
			t.Error(differs)
			differed++
		}
	}
	t.Logf("%d of %d seeds differed, played %d times with %d steps", differed, *replaySeeds, *soakReplays, *stepsFlag)
}

// writeDiffering writes two traces of one seed, whole.
func writeDiffering(t *testing.T, seed uint64, a, b []byte) {
	for i, trace := range [][]byte{a, b} {
		if err := os.WriteFile(filepath.Join(*replaysTo, fmt.Sprintf("%d-%c.trace", seed, 'a'+i)), trace, 0o644); err != nil {
			t.Error(err)
		}
	}
}
