package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace-io/millrace/test/node"
)

// script writes a project of one script: its manifest and its only source.
func script(t *testing.T, manifest, source string) (main string) {
	t.Helper()
	dir := t.TempDir()
	main = filepath.Join(dir, "main.js")
	for path, text := range map[string]string{filepath.Join(dir, "transform.yaml"): manifest, main: source} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return main
}

// cli runs a command at a node, which must succeed.
func cli(t *testing.T, n *node.Node, args ...string) string {
	t.Helper()
	out, err := n.CLI(args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, n.Log(4000))
	}
	return out
}

// listed awaits that a node lists what all nodes run: on so many of them, of so many
// partitions.
func listed(t *testing.T, n *node.Node, what ...string) {
	t.Helper()
	await(t, fmt.Sprintf("node %d to list %q", n.O.ID, what), func() error {
		out, err := n.CLI("wasm", "list")
		for _, w := range what {
			if err == nil && !strings.Contains(out, w) {
				err = errors.New(out)
			}
		}
		return err
	})
}

// TestFibersFollowLeaders: a script's fibers run where its parents are led, whatever is
// killed meanwhile: every child has what it has to have, once and in order, and the dead
// letters what failed.
func TestFibersFollowLeaders(t *testing.T) {
	c := node.NewCluster(t, 3, node.Options{Sidecar: true})
	c.Start()
	const partitions = 6
	createTopic(t, c, 0, partitions, 3)
	w := startWriter(t, c, partitions)
	w.more(t, 5)
	cli(t, c.Nodes[1], "wasm", "deploy", "--wait", script(t,
		"name: mark\ninputs: [numbers]\nstart: start\non_error: { retry: 0, then: dlq }\n", `
		export default (record) => {
			const n = Number(record.text());
			if (n % 5 === 2) throw new Error("one of five");
			return { key: record.key, value: "v" + n };
		}`))
	for _, n := range c.Nodes {
		listed(t, n, "3/3", "6/6")
	}
	for victim := range c.Nodes {
		w.more(t, 20)
		other := c.Nodes[(victim+1)%3]
		cli(t, other, "wasm", "pause", "mark") // returns when fibers rest on all nodes
		listed(t, c.Nodes[victim], "paused", "0/6")
		cli(t, c.Nodes[(victim+2)%3], "wasm", "resume", "mark")
		c.Nodes[victim].Kill()
		w.more(t, 20)
		listed(t, other, "2/3", "6/6")
		if out := cli(t, other, "wasm", "describe", "mark"); !strings.Contains(out, "unknown") {
			t.Errorf("node %d is not there, and not said to be:\n%s", victim, out)
		}
		c.Start(victim)
	}
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
	var children, dead []int
	for _, count := range w.acked {
		failed := (count + 2) / 5
		children, dead = append(children, count-failed), append(dead, failed)
	}
	for p, records := range readTopic(t, c, "numbers.mark", children) {
		n := 0
		for _, r := range records {
			if n%5 == 2 {
				n++
			}
			if want := "v" + strconv.Itoa(n); string(r.Value) != want {
				t.Fatalf("partition %d of the child has %s at offset %d, want %s", p, r.Value, r.Offset, want)
			}
			n++
		}
	}
	for p, records := range readTopic(t, c, "numbers.mark.dlq", dead) {
		for i, r := range records {
			if want := strconv.Itoa(5*i + 2); string(r.Value) != want {
				t.Fatalf("dead letter %d of partition %d is %s, want %s", i, p, r.Value, want)
			}
		}
	}
	for _, n := range c.Nodes {
		listed(t, n, "3/3", "6/6")
	}
	cli(t, c.Nodes[2], "wasm", "remove", "mark", "--yes")
	for _, n := range c.Nodes {
		await(t, "the script to be gone", func() error {
			out, err := n.CLI("wasm", "list")
			if err == nil && strings.Contains(out, "mark") {
				err = errors.New(out)
			}
			return err
		})
	}
}

// TestSyncScriptHoldsOnAllLeaders: from when its deployment returns a sync script is in
// the path of every leader, also of those that come, and of those whose sidecar dies.
func TestSyncScriptHoldsOnAllLeaders(t *testing.T) {
	c := node.NewCluster(t, 3, node.Options{Sidecar: true})
	c.Start()
	const partitions = 6
	createTopic(t, c, 0, partitions, 3)
	w := startWriter(t, c, partitions)
	w.more(t, 5)
	cli(t, c.Nodes[2], "wasm", "deploy", "--wait", script(t,
		"name: stamp\nmode: sync\ninputs: [numbers]\nsync: { budget: 1s, policy: fail }\n", `
		export default (record) => ({ key: record.key, value: "s" + record.text() });`))
	from := w.unsent()
	w.stored = func(p, n int, value string) bool {
		return value == "s"+strconv.Itoa(n) || n < from[p] && value == strconv.Itoa(n)
	}
	listed(t, c.Nodes[0], "3/3")
	for victim := range c.Nodes {
		w.more(t, 20)
		other := c.Nodes[(victim+1)%3]
		if there, err := other.SignalSidecar(syscall.SIGKILL); err != nil || !there {
			t.Fatalf("node %d has no sidecar to kill: %v", other.O.ID, err)
		}
		c.Nodes[victim].Kill()
		w.more(t, 20)
		c.Start(victim)
	}
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
}
