//go:build soak

package sim

import (
	"flag"
	"testing"
)

var soakSeeds = flag.Int("soak-seeds", 5000, "how many seeds TestSoak plays, from -first on")

// TestSoakSeeds plays thousands of seeds.
func TestSoakSeeds(t *testing.T) { playSeeds(t, *soakSeeds) }
