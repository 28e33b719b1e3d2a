package sim

import (
	"strings"
	"testing"
)

// TestMovesCheckerFails: a node that keeps what it is to give up, or does not take what it
// is to hold, is found.
func TestMovesCheckerFails(t *testing.T) {
	for want, how := range map[string]clinging{"true, which is on": {stays: true}, "has not moved": {absent: true}} {
		found := ""
		for seed := uint64(0); seed < spoiltSeeds && !strings.Contains(found, want); seed++ {
			r := play(t, Options{Seed: seed, Steps: *stepsFlag, spoil: func(w *World) { w.clinging = how }})
			for _, f := range r.Faults {
				found += f.Error()
			}
		}
		if !strings.Contains(found, want) {
			t.Errorf("expected %q, found %q", want, found)
		}
	}
}
