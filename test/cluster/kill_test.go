package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace-io/millrace/test/node"
)

// TestFarBehind: a node that was away while the others let their logs go gets the
// partitions' files, and serves them. Until then it is not in sync.
func TestFarBehind(t *testing.T) {
	c, w := three(t, 3, "--set", "snapshot_entries=100")
	createStrict(t, c)
	if err := awaitInSync(t, c, 0, 1, 2); err != nil {
		t.Errorf("all are in sync: %v", err)
	}
	c.Nodes[2].Kill()
	if err := writeStrict(t, c); err == nil { // nobody has missed the node yet
		t.Error("a write that wants three is acknowledged by two")
	}
	w.more(t, 1000)
	if err := awaitInSync(t, c, 0, 1); !errors.Is(err, kerr.NotEnoughReplicas) {
		t.Errorf("two of three are in sync, and a write that wants three: %v", err)
	}
	c.Start(2)
	w.more(t, 20)
	await(t, "node 2 to take files", func() error {
		if log := c.Nodes[2].Log(1 << 20); !strings.Contains(log, "partition taken") {
			return errorOf(log)
		}
		return nil
	})
	if err := awaitInSync(t, c, 0, 1, 2); err != nil {
		t.Errorf("all are in sync again: %v", err)
	}
	c.Nodes[0].Kill() // 2 is needed for every record from here on
	w.more(t, 20)
	c.Start(0)
	w.stop(t)
	w.check(t, c)
}

// TestRollingRestart: whoever is stopped gives away first what it leads, and gets what
// it is preferred for back when it has been there again for a while.
func TestRollingRestart(t *testing.T) {
	c := node.NewCluster(t, 3, node.Options{})
	c.Start()
	const partitions = 6
	createTopic(t, c, 0, partitions, 3)
	meant := make([]int, partitions)
	for p := range meant {
		meant[p] = preferredOf(t, c.Nodes[0], p)
	}
	w := startWriter(t, c, partitions)
	for i, n := range c.Nodes {
		w.more(t, 20)
		n.Stop()
		for p := range meant {
			if leader := leaderOf(t, c.Nodes[(i+1)%3], p); leader == i {
				t.Errorf("partition %d is led by node %d, which has stopped", p, i)
			}
		}
		c.Start(i)
	}
	await(t, "leaders to be where they were meant to be", func() error {
		for p, want := range meant {
			if got := leaderOf(t, c.Nodes[0], p); got != want {
				return fmt.Errorf("partition %d is led by %d, not yet by %d", p, got, want)
			}
		}
		return nil
	})
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
}
