//go:build soak

package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-io/millrace/test/node"
)

const (
	soakTime = 10 * time.Minute
	// legTime is how long a cluster's history grows before it is judged.
	legTime = 2 * time.Minute
)

// fault strikes a cluster, of which a majority is there again when it returns.
type fault struct {
	name   string
	strike func(t *testing.T, c *node.Cluster, r *rand.Rand)
}

// some is a pause in which what was struck is missed, or not.
func some(r *rand.Rand) <-chan time.Time {
	return time.After(time.Duration(r.IntN(6000)) * time.Millisecond)
}

var faults = []fault{
	{"one killed", func(t *testing.T, c *node.Cluster, r *rand.Rand) {
		n := r.IntN(len(c.Nodes))
		c.Nodes[n].Kill()
		<-some(r)
		c.Start(n)
	}},
	{"two killed, one after the other", func(t *testing.T, c *node.Cluster, r *rand.Rand) {
		order := r.Perm(len(c.Nodes))[:2]
		for _, n := range order {
			c.Nodes[n].Kill()
			<-time.After(time.Duration(r.IntN(1000)) * time.Millisecond)
		}
		c.Start(order...)
	}},
	{"all killed", func(t *testing.T, c *node.Cluster, r *rand.Rand) {
		for _, n := range r.Perm(len(c.Nodes)) {
			c.Nodes[n].Kill()
		}
		c.Start()
	}},
	{"one stands still", func(t *testing.T, c *node.Cluster, r *rand.Rand) {
		n := c.Nodes[r.IntN(len(c.Nodes))]
		n.Signal(syscall.SIGSTOP)
		<-some(r)
		n.Signal(syscall.SIGCONT)
	}},
	{"one is deaf", func(t *testing.T, c *node.Cluster, r *rand.Rand) {
		p := c.Proxies[r.IntN(len(c.Proxies))]
		p.Cut()
		<-some(r)
		p.Heal()
	}},
	{"the network flaps", func(t *testing.T, c *node.Cluster, r *rand.Rand) {
		for range 20 {
			p := c.Proxies[r.IntN(len(c.Proxies))]
			p.Cut()
			<-time.After(time.Duration(r.IntN(200)) * time.Millisecond)
			p.Heal()
		}
	}},
	{"one restarts", func(t *testing.T, c *node.Cluster, r *rand.Rand) {
		n := r.IntN(len(c.Nodes))
		c.Nodes[n].Stop()
		c.Start(n)
	}},
	{"one is killed while another is deaf", func(t *testing.T, c *node.Cluster, r *rand.Rand) {
		order := r.Perm(len(c.Nodes))
		c.Proxies[order[0]].Cut()
		<-time.After(time.Duration(r.IntN(2000)) * time.Millisecond)
		c.Nodes[order[1]].Kill()
		<-time.After(time.Duration(r.IntN(2000)) * time.Millisecond)
		c.Proxies[order[0]].Heal()
		c.Start(order[1])
	}},
}

// TestSoak strikes three brokers with one fault after the other under load, and judges
// what is left: every number once, in order, at the offset that was acknowledged.
func TestSoak(t *testing.T) {
	whole := soakTime
	if text := os.Getenv("MILLRACE_SOAK"); text != "" {
		var err error
		if whole, err = time.ParseDuration(text); err != nil {
			t.Fatalf("MILLRACE_SOAK: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MILLRACE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MILLRACE_SEED: %v", err)
		}
	}
	for end := time.Now().Add(whole); time.Now().Before(end); seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { leg(t, seed, min(legTime, time.Until(end))) })
		if t.Failed() {
			return // the seed is in its name
		}
	}
}

// leg is one cluster's life. Every other has logs so short that whoever was away needs
// the files.
func leg(t *testing.T, seed uint64, long time.Duration) {
	r := rand.New(rand.NewPCG(seed, 0))
	o := node.Options{Keep: t.ArtifactDir()}
	if seed%2 == 1 {
		o.Args = []string{"--set", "snapshot_entries=100", "--set", "snapshot_bytes=1M", "--set", "journal_file_bytes=4M", "--set", "journal_bytes_max=32M", "--set", "log.segment.bytes=262144"}
	}
	c := node.NewCluster(t, 3, o)
	c.Start()
	const partitions = 6
	createTopic(t, c, 0, partitions, 3)
	w := startWriter(t, c, partitions)
	struck := map[string]int{}
	for end := time.Now().Add(long); time.Now().Before(end); {
		f := faults[r.IntN(len(faults))]
		t.Logf("%s: %s", time.Now().Format("15:04:05.000"), f.name)
		f.strike(t, c, r)
		struck[f.name]++
		w.more(t, 1+r.IntN(50))
	}
	w.stop(t)
	w.check(t, c)
	t.Logf("short logs %v: %s", seed%2 == 1, fmt.Sprint(struck))
}
