package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/test/node"
)

// TestDamageIsRepaired: bytes that are no longer what they were, on a leader and on a
// follower, are found without anybody reading them, and taken anew from another node.
func TestDamageIsRepaired(t *testing.T) {
	c := node.NewCluster(t, 3, node.Options{Args: []string{"--set", "scrub_period=1s"}})
	c.Start()
	const partitions = 2
	createTopic(t, c, 0, partitions, 3)
	w := startWriter(t, c, partitions)
	w.more(t, 200)
	leader := leaderOf(t, c.Nodes[0], 0)
	for _, n := range []int{leader, (leader + 1) % 3} {
		spoil(t, c.Nodes[n], partitions)
		await(t, fmt.Sprintf("node %d to repair itself", n), func() error {
			log := c.Nodes[n].Log(1 << 20)
			if strings.Count(log, `msg="partition repaired"`) < partitions {
				return errorOf(tail(log))
			}
			return nil
		})
		w.more(t, 20)
	}
	n := c.Nodes[leader]
	n.Kill()
	spoilCheckpoints(t, n)
	beginAnew(t, c, leader, partitions)
	// Another loses its Raft log, and so the cluster's metadata.
	other := (leader + 2) % 3
	c.Nodes[other].Kill()
	if err := os.RemoveAll(filepath.Join(c.Nodes[other].O.Dir, "raft")); err != nil {
		t.Fatal(err)
	}
	beginAnew(t, c, other, partitions)
	w.more(t, 20)
	w.stop(t)
	for _, n := range c.Nodes { // each partition is read from every node that holds it
		w.check(t, c)
		n.Stop()
		w.check(t, c)
		c.Start(n.O.ID)
	}
}

// beginAnew starts a node and waits until its replicas are other ones, and are whole.
func beginAnew(t *testing.T, c *node.Cluster, n, partitions int) {
	t.Helper()
	c.Start(n)
	await(t, "the replicas that are lost to begin anew", func() error {
		if log := c.Nodes[n].Log(1 << 20); strings.Count(log, "damaged replica begins anew") < partitions {
			return errorOf(tail(log))
		}
		return nil
	})
	settled(t, c.Nodes[n])
}

func tail(log string) string { return log[max(0, len(log)-2000):] }

// spoil changes a byte of each file of the topic's partitions, in a page that is not
// written again: the one behind it is begun.
func spoil(t *testing.T, n *node.Node, partitions int) {
	t.Helper()
	const page = 4096
	var files []string
	await(t, "files to spoil", func() (err error) {
		if files, err = filepath.Glob(filepath.Join(n.O.Dir, "topics", "*", "*", "*.log")); err != nil {
			return err
		}
		if len(files) < partitions {
			return fmt.Errorf("there are %v", files)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil || len(b) < 3*page || bytes.Count(b[2*page:3*page], []byte{0}) == page {
				return fmt.Errorf("%s is short yet: %d bytes, %v", name, len(b), err)
			}
		}
		return nil
	})
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		_, err = f.ReadAt(b, page-100)
		b[0] ^= 0x40
		if err == nil {
			_, err = f.WriteAt(b, page-100)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// spoilCheckpoints changes both checkpoints of each of the topic's partitions.
func spoilCheckpoints(t *testing.T, n *node.Node) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(n.O.Dir, "topics", "*", "*", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, log := range logs {
		names, err := filepath.Glob(filepath.Join(filepath.Dir(log), "checkpoint.*"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err == nil {
				b[20] ^= 0x40 // in its body
				err = os.WriteFile(name, b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
