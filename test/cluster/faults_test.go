package cluster

import (
	"slices"
	"testing"

	"github.com/millrace-io/millrace/test/node"
)

// shortFactor is what promises of time are multiplied by in the fast suite, which runs
// beside itself: the soak judges them as they are.
const shortFactor = 5

// longOnly are faults that are made of others, or that another test does better.
var longOnly = []string{"two killed, one after the other", "one restarts", "one is killed while another is deaf"}

// TestFaults has each of the soak's faults strike once, where somebody leads, under load.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		netted bool
		faults []fault
	}{
		{"nodes", false, slices.Concat(nodeFaults, proxyFaults)},
		{"net", true, netFaults},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 1, c.netted, node.Options{Keep: t.ArtifactDir()})
			s.factor, s.leaders = gapFactor(t, shortFactor), true
			l := s.start(3)
			s.hold = func() { l.more(t, 20) }
			for _, f := range c.faults {
				if !slices.Contains(longOnly, f.name) {
					s.strike(f, l)
				}
			}
			l.stop(t, s.c)
			l.check(t, s.c, "the end")
		})
	}
}
