package node

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Cluster is several brokers that form a cluster.
type Cluster struct {
	T     testing.TB
	Nodes []*Node
}

// NewCluster makes a cluster of so many nodes, none of which is started. o holds for
// each; Keep, if given, has a directory per node.
func NewCluster(t testing.TB, count int, o Options) *Cluster {
	t.Helper()
	var seeds []string
	for i, address := range freeAddresses(t, count) {
		seeds = append(seeds, fmt.Sprintf("%d@%s", i, address))
	}
	c := &Cluster{T: t}
	for i := range count {
		own := o
		own.ID, own.Seeds = i, strings.Join(seeds, ",")
		logs := ""
		if o.Keep != "" {
			logs = filepath.Join(o.Keep, fmt.Sprint(i))
			own.Dir = filepath.Join(logs, "data")
		} else {
			logs, own.Dir = t.TempDir(), t.TempDir()
		}
		n := &Node{T: t, O: own, LogPath: filepath.Join(logs, "broker.log")}
		t.Cleanup(n.Kill)
		c.Nodes = append(c.Nodes, n)
	}
	return c
}

// freeAddresses gives addresses that nobody listens at now.
func freeAddresses(t testing.TB, count int) []string {
	t.Helper()
	var all []string
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		all = append(all, l.Addr().String())
	}
	return all
}

// Start starts these nodes, all if none are named, at once, and waits until each is
// ready: a majority has to be among what runs.
func (c *Cluster) Start(nodes ...int) {
	c.T.Helper()
	if len(nodes) == 0 {
		for i := range c.Nodes {
			nodes = append(nodes, i)
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(nodes))
	for i, n := range nodes {
		wg.Go(func() {
			if err := c.Nodes[n].TryRestart(); err != nil {
				errs[i] = fmt.Errorf("node %d: %w\n%s", n, err, c.Nodes[n].Log(4000))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		c.T.Fatal(err)
	}
}

// Brokers lists where the nodes that ever ran take Kafka clients.
func (c *Cluster) Brokers() []string {
	var all []string
	for _, n := range c.Nodes {
		if n.Brokers != "" {
			all = append(all, n.Brokers)
		}
	}
	return all
}

// Client gives a Kafka client of the cluster that ends with the test.
func (c *Cluster) Client(opts ...kgo.Opt) *kgo.Client {
	c.T.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Brokers()...)}, opts...)...)
	if err != nil {
		c.T.Fatal(err)
	}
	c.T.Cleanup(cl.Close)
	return cl
}
