package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// netPrefix begins the name of every network namespace that tests make; the id of the
// process that made it follows.
const netPrefix = "millrace-"

// Net is a network of the test's own: a namespace per node, each with one end of a
// cable, and one more with the bridge that all the other ends lead to. The test itself
// reaches it by one more cable.
type Net struct {
	t     testing.TB
	name  string // what the namespaces' names begin with
	hosts int
	block string // first three numbers of addresses: 10.213 to 10.252, and one of the process's
	nodes []string
}

// NewNet makes a network for so many nodes, which is gone when the test ends. It needs
// root, ip and nft: without, the test is skipped.
func NewNet(t testing.TB, hosts int) *Net {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("network namespaces need %s: %v (make setup installs it)", tool, err)
		}
	}
	sweep(t)
	pid := os.Getpid()
	w := &Net{t: t, name: fmt.Sprintf("%s%d-", netPrefix, pid), hosts: hosts, block: fmt.Sprintf("10.%d.%d", 213+(pid>>8)%40, pid&0xff)}
	if err := w.try("ip", "netns", "add", w.bridge()); err != nil {
		t.Skipf("no network namespace may be made here: %v", err)
	}
	t.Cleanup(w.remove)
	w.in(w.bridge(), "ip", "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
	w.in(w.bridge(), "ip", "link", "set", "bridge", "up")
	w.run("ip", "link", "add", w.cable(), "type", "veth", "peer", "name", "test", "netns", w.bridge())
	w.plug("test")
	w.run("ip", "address", "add", w.block+".1/24", "dev", w.cable())
	w.run("ip", "link", "set", w.cable(), "up")
	for i := range hosts {
		w.host(i)
	}
	return w
}

// host makes a node's namespace, and the table that faults are written to.
func (w *Net) host(i int) {
	name := w.space(i)
	w.run("ip", "netns", "add", name)
	w.in(name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", fmt.Sprint("node", i), "netns", w.bridge())
	w.plug(fmt.Sprint("node", i))
	w.in(name, "ip", "link", "set", "lo", "up")
	w.in(name, "ip", "address", "add", w.Address(i)+"/24", "dev", "eth0")
	w.in(name, "ip", "link", "set", "eth0", "up")
	w.in(name, "nft", "add table inet faults; add chain inet faults in { type filter hook input priority 0; }; add chain inet faults out { type filter hook output priority 0; }")
}

// NewNetCluster makes a cluster whose nodes live in a network of their own. They talk to
// each other without proxies.
func NewNetCluster(t testing.TB, count int, o Options) (*Cluster, *Net) {
	t.Helper()
	w := NewNet(t, count)
	c := NewCluster(t, count, o)
	var seeds []string
	for i := range count {
		seeds = append(seeds, fmt.Sprintf("%d@%s:%d", i, w.Address(i), netPort))
	}
	for i, n := range c.Nodes {
		n.O.Seeds, n.O.Host = strings.Join(seeds, ","), w.Address(i)
		n.O.Inside = w.Inside(i)
		n.O.Args = append(n.O.Args, "--rpc-addr", fmt.Sprintf("%s:%d", w.Address(i), netPort)) // the last one counts
	}
	return c, w
}

// netPort is where nodes of a Net talk to each other.
const netPort = 33145

func (w *Net) bridge() string     { return w.name + "bridge" }
func (w *Net) space(i int) string { return w.name + strconv.Itoa(i) }

// cable is the name of the end that the test holds: 15 letters at most.
func (w *Net) cable() string { return fmt.Sprintf("mr%d", os.Getpid()) }

// Address is where node i lives.
func (w *Net) Address(i int) string { return fmt.Sprintf("%s.%d", w.block, 10+i) }

// Inside is what a process is run by to live at node i's place.
func (w *Net) Inside(i int) []string { return []string{"ip", "netns", "exec", w.space(i)} }

// Way is which way packets are lost, seen from a node.
type Way int

// In loses what the node is sent, Out what it sends, Both both.
const (
	In Way = 1 << iota
	Out
	Both = In | Out
)

// Lose loses all packets between a node and these others, one way or both. The test
// reaches the node nevertheless, and it the test.
func (w *Net) Lose(way Way, node int, others ...int) {
	w.t.Helper()
	var rules []string
	for _, o := range others {
		if way&In != 0 {
			rules = append(rules, fmt.Sprintf("add rule inet faults in ip saddr %s drop", w.Address(o)))
		}
		if way&Out != 0 {
			rules = append(rules, fmt.Sprintf("add rule inet faults out ip daddr %s drop", w.Address(o)))
		}
	}
	w.in(w.space(node), "nft", strings.Join(rules, "; "))
}

// Others are all nodes but one.
func (w *Net) Others(node int) (others []int) {
	for i := range w.hosts {
		if i != node {
			others = append(others, i)
		}
	}
	return others
}

// Heal ends what Lose has begun at a node.
func (w *Net) Heal(node int) {
	w.t.Helper()
	w.in(w.space(node), "nft", "flush table inet faults")
}

// plug puts an end into the bridge.
func (w *Net) plug(end string) {
	w.in(w.bridge(), "ip", "link", "set", end, "master", "bridge")
	w.in(w.bridge(), "ip", "link", "set", end, "up")
}

func (w *Net) in(space string, command ...string) {
	w.t.Helper()
	w.run(append([]string{"ip", "netns", "exec", space}, command...)...)
}

func (w *Net) run(command ...string) {
	w.t.Helper()
	if err := w.try(command...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *Net) try(command ...string) error {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
	}
	return nil
}

// remove takes the namespaces away, and with them the cables. The test's own it takes away
// by hand: it would go some time later, in the way of the next network's.
func (w *Net) remove() {
	_ = w.try("ip", "link", "delete", w.cable()) // it is there if its making was reached
	for _, name := range slices.Sorted(slices.Values(spaces())) {
		if strings.HasPrefix(name, w.name) {
			if err := w.try("ip", "netns", "delete", name); err != nil {
				w.t.Error(err)
			}
		}
	}
}

// spaces are the network namespaces of all tests.
func spaces() (names []string) {
	paths, _ := filepath.Glob("/run/netns/" + netPrefix + "*") // a constant pattern
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

// sweep removes what tests have left that could not clean up: their process has ended.
func sweep(t testing.TB) {
	for _, name := range spaces() {
		id, _, _ := strings.Cut(strings.TrimPrefix(name, netPrefix), "-")
		pid, err := strconv.Atoi(id)
		if err != nil || syscall.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
			t.Logf("left by another test: %s: %v: %s", name, err, out)
		}
	}
}
