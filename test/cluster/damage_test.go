package cluster

import (
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
		spoil(t, c.Nodes[n])
		await(t, fmt.Sprintf("node %d to repair itself", n), func() error {
			log := c.Nodes[n].Log(1 << 20)
			if strings.Count(log, `msg="partition repaired"`) < partitions {
				return errorOf(tail(log))
			}
			return nil
		})
		w.more(t, 20)
	}
	w.stop(t)
	for _, n := range c.Nodes { // each partition is read from every node that holds it
		w.check(t, c)
		n.Stop()
		w.check(t, c)
		c.Start(n.O.ID)
	}
}

func tail(log string) string { return log[max(0, len(log)-2000):] }

// spoil changes a byte in the middle of each file of the topic's partitions.
func spoil(t *testing.T, n *node.Node) {
	t.Helper()
	var files []string
	await(t, "files to spoil", func() (err error) {
		files, err = filepath.Glob(filepath.Join(n.O.Dir, "topics", "*", "*", "*.log"))
		if err == nil && len(files) < 2 {
			err = fmt.Errorf("there are %v", files)
		}
		return err
	})
	spoilt := map[string]bool{}
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		const at = 4000 // behind the first page's beginning, and long written
		if _, err := f.ReadAt(b, at); err == nil {
			b[0] ^= 0x40
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
			spoilt[name] = true
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(spoilt) < 2 {
		t.Fatalf("only %v are long enough to be spoilt", spoilt)
	}
}
