package cluster

import (
	"os"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/test/node"
)

// shortFactor is what promises of time are multiplied by in the fast suite, which runs
// beside itself: the soak judges them as they are.
const shortFactor = 5

// TestFaults has each of the soak's faults strike once under load; what other tests of
// this package do to a cluster is left to them.
func TestFaults(t *testing.T) {
	told := map[string]bool{"one killed": true, "two killed, one after the other": true, "one restarts": true, "one stands still": true,
		"one is deaf": true, "one is killed while another is deaf": true}
	for name, c := range map[string]struct {
		netted bool
		faults []fault
	}{
		"nodes": {false, append(nodeFaults[:len(nodeFaults):len(nodeFaults)], proxyFaults...)},
		"net":   {true, netFaults},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1, c.netted, node.Options{Keep: t.ArtifactDir()})
			s.factor = gapFactor(t, shortFactor)
			l := s.start(3)
			s.hold = func() { l.more(t, 20) }
			for _, f := range c.faults {
				if !told[f.name] && (os.Getenv("ONLY") == "" || strings.Contains(f.name, os.Getenv("ONLY"))) {
					s.strike(f, l)
				}
			}
			l.stop(t, s.c)
			l.check(t, s.c, "the end")
		})
	}
}
