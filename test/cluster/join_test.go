package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/test/node"
)

// TestWipedNode: a node that lost its disk comes back under its id with new replicas, and
// is as good as any other once they are whole.
func TestWipedNode(t *testing.T) {
	c, w := three(t, 3)
	c.Nodes[1].Kill()
	w.more(t, 5)
	if err := os.RemoveAll(c.Nodes[1].O.Dir); err != nil {
		t.Fatal(err)
	}
	c.Start(1)
	if log := c.Nodes[1].Log(1 << 20); !strings.Contains(log, "lost or replaced") {
		t.Errorf("the log does not say what became of the disk:\n%s", log)
	}
	settled(t, c.Nodes[0])
	c.Nodes[2].Kill() // node 1 is needed now, in every group
	w.more(t, 20)
	if _, err := c.Nodes[0].CLI("topic", "create", "later", "-p", "2", "-r", "3"); err != nil {
		t.Fatalf("the controller lacks a majority: %v", err)
	}
	w.stop(t)
	c.Start(2)
	for _, n := range c.Nodes {
		n.Stop()
	}
	c.Start() // each meets others that know of the old disk only, until they have caught up
	w.check(t, c)
}

// TestMoveToALostDisk: a partition that is to be on one node alone, which has lost its disk,
// stays with the others until that node has all of it. Whoever asks is told what it waits
// for, and which node says nothing of the settings that it has.
func TestMoveToALostDisk(t *testing.T) {
	c, w := three(t, 2)
	c.Nodes[1].Kill()
	if err := os.RemoveAll(c.Nodes[1].O.Dir); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := c.Nodes[0].CLI(append([]string{"cluster"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run("partitions", "move", topic+"/0:1")
	await(t, "the move to wait for node 1", func() error {
		out := run("partitions", "move-status")
		if !strings.Contains(out, "leave it to nodes [1]: too few") {
			return errors.New(out)
		}
		return nil
	})
	run("config", "set", "millrace.balance.gone.ms=900001")
	await(t, "both others to have the settings", func() error {
		var st []api.ConfigStatus
		out := run("config", "status", "--format", "json")
		if err := json.Unmarshal([]byte(out), &st); err != nil {
			return err
		}
		if len(st) != 3 || st[0].Version == 0 || st[2].Version != st[0].Version || st[0].Reason+st[2].Reason != "" || st[1].Reason == "" {
			return errors.New(out)
		}
		return nil
	})
	c.Start(1)
	settled(t, c.Nodes[0])
	if out, err := c.Nodes[0].CLI("topic", "describe", topic, "-p"); err != nil || !strings.Contains(out, "[1] ") {
		t.Errorf("it is not on node 1 alone: %v\n%s", err, out)
	}
	w.more(t, 5)
	w.stop(t)
	w.check(t, c)
}

// settled waits until no partition of the topic is being moved.
func settled(t *testing.T, n *node.Node) {
	t.Helper()
	await(t, "the moves to be over", func() error {
		out, err := n.CLI("cluster", "partitions", "move-status")
		if err == nil && strings.Contains(out, topic) {
			err = errors.New(out)
		}
		return err
	})
}

// TestJoin: nodes join, are given ids, hold and lead partitions, and take the place of a
// founder that goes, also in the controller's group.
func TestJoin(t *testing.T) {
	c, w := three(t, 3)
	c.Join(-1)
	c.Join(7)
	if line := c.Nodes[3].Line; !strings.Contains(line, "node=3 ") {
		t.Errorf("the first to join is called %q", line)
	}
	run := func(on int, args ...string) string {
		t.Helper()
		out, err := c.Nodes[on].CLI(append([]string{"cluster"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run(4, "partitions", "move", topic+"/0:3,7,0", topic+"/1:7,3,1")
	run(1, "decommission", "0")
	await(t, "node 0 to have left", func() error {
		var d api.Decommission
		out, err := c.Nodes[1].CLI("cluster", "decommission-status", "0", "--format", "json")
		if err == nil { // while the controller's group has no leader it may be refused
			err = json.Unmarshal([]byte(out), &d)
		}
		if err != nil {
			return err
		}
		if !d.Finished {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	select {
	case <-c.Nodes[0].Done():
	case <-time.After(patience):
		t.Fatal("it runs on")
	}
	if err := c.Nodes[0].TryRestart(); err == nil || !strings.Contains(c.Nodes[0].Log(4000), "no part of its cluster any more") {
		t.Errorf("a node that was removed starts: %v", err)
	}
	for p := range 2 {
		if got := preferredOf(t, c.Nodes[1], p); !slices.Contains([]int{3, 7}, got) {
			t.Errorf("partition %d is led by %d", p, got)
		}
	}
	w.more(t, 20)
	c.Nodes[2].Kill() // of the founders one is left
	w.more(t, 20)
	if _, err := c.Nodes[3].CLI("topic", "create", "later", "-p", "2", "-r", "3"); err != nil {
		t.Fatalf("the controller lacks a majority: %v", err)
	}
	w.stop(t)
	c.Start(2)
	c.Nodes = c.Nodes[1:]
	w.check(t, c)
}

// awaitHealth waits until a node says so of the cluster.
func awaitHealth(t *testing.T, n *node.Node, what string, ok func(api.Health) bool) (h api.Health) {
	t.Helper()
	await(t, what, func() error {
		h = api.Health{}
		out, err := n.CLI("cluster", "health", "--format", "json")
		if out != "" { // it fails if the cluster is not healthy
			err = json.Unmarshal([]byte(out), &h)
		}
		if err == nil && !ok(h) {
			err = errorOf(out)
		}
		return err
	})
	return h
}

// TestGrow: a node alone becomes a cluster that stands without it, and one that lost its
// disk finds its place there though the only seed does not lead.
func TestGrow(t *testing.T) {
	c := node.NewCluster(t, 1, node.Options{})
	c.Start()
	createTopic(t, c, 0, 2, 1)
	w := startWriter(t, c, 2)
	w.more(t, 20)
	c.Join(1)
	c.Join(2)
	if _, err := c.Nodes[2].CLI("cluster", "partitions", "move", topic+"/0:1,2,0", topic+"/1:2,0,1"); err != nil {
		t.Fatal(err)
	}
	settled(t, c.Nodes[2])
	awaitHealth(t, c.Nodes[2], "three to vote", func(h api.Health) bool { return len(h.Voters) == 3 })
	await(t, "others to lead, which the writer learns by it", func() error {
		if l := leaderOf(t, c.Nodes[1], 0); l == 0 {
			return errors.New("node 0 leads")
		}
		return nil
	})
	w.more(t, 20)
	c.Nodes[0].Kill()
	w.more(t, 20)
	if _, err := c.Nodes[1].CLI("topic", "create", "later", "-p", "2", "-r", "2"); err != nil {
		t.Fatal(err)
	}
	c.Start(0)
	whole := func() api.Health {
		return awaitHealth(t, c.Nodes[0], "all to be in sync", func(h api.Health) bool { return h.Healthy })
	}
	h := whole()
	for h.Controller == 0 { // an election on a busy machine may have given it back
		c.Nodes[0].Kill()
		c.Start(0)
		h = whole()
	}
	other := 3 - h.Controller
	c.Nodes[other].Kill()
	if err := os.RemoveAll(c.Nodes[other].O.Dir); err != nil {
		t.Fatal(err)
	}
	c.Start(int(other))
	settled(t, c.Nodes[0])
	w.stop(t)
	w.check(t, c)
}
