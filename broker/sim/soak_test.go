//go:build soak

package sim

import (
	"flag"
	"testing"
)

var (
	soakSeeds   = flag.Int("soak-seeds", 5000, "how many seeds the soaks play, from -first on")
	soakReplays = flag.Int("soak-replays", 2, "how many times TestSoakReplay plays each")
)

// TestSoakSeeds plays thousands of seeds.
func TestSoakSeeds(t *testing.T) { playSeeds(t, *soakSeeds) }

// TestSoakReplay plays seeds a few times, and says which do not replay and from where on.
func TestSoakReplay(t *testing.T) {
	differed, played := 0, 0
	for seed := *firstFlag; seed < *firstFlag+uint64(*soakSeeds); seed++ {
		played++
		if !replays(t, seed, *soakReplays) {
			differed++
		}
	}
	t.Logf("%d of %d seeds differed, played %d times with %d steps", differed, played, *soakReplays, *stepsFlag)
}
