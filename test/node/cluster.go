package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/port"
)

// Cluster is several brokers that form a cluster.
type Cluster struct {
	T     testing.TB
	Nodes []*Node
	// Proxies stand before each node's address for others.
	Proxies []*Proxy
}

// NewCluster makes a cluster of so many nodes, none of which is started. o holds for
// each; Keep, if given, has a directory per node.
func NewCluster(t testing.TB, count int, o Options) *Cluster {
	t.Helper()
	c := &Cluster{T: t}
	var seeds []string
	own := port.Free(t, 2*count)
	for i := range count {
		c.Proxies = append(c.Proxies, NewProxy(t, own[count+i], own[i]))
		seeds = append(seeds, fmt.Sprintf("%d@%s", i, own[count+i]))
	}
	for i := range count {
		o := o
		o.ID, o.Seeds = i, strings.Join(seeds, ",")
		c.add(o, own[i])
	}
	return c
}

// add makes one more node, that other nodes reach at address.
func (c *Cluster) add(o Options, address string) {
	c.T.Helper()
	o.Args = append(slices.Clone(o.Args), "--rpc-addr", address)
	logs := ""
	if o.Keep != "" {
		logs = filepath.Join(o.Keep, fmt.Sprint(len(c.Nodes)))
		o.Dir = filepath.Join(logs, "data")
		if err := os.MkdirAll(logs, 0o755); err != nil {
			c.T.Fatal(err)
		}
	} else {
		logs, o.Dir = c.T.TempDir(), c.T.TempDir()
	}
	n := &Node{T: c.T, O: o, LogPath: filepath.Join(logs, "broker.log")}
	c.T.Cleanup(n.Kill)
	c.Nodes = append(c.Nodes, n)
}

// Join starts one more node, the last of Nodes from then on, that joins the cluster
// under an id, or one that it is assigned: -1.
func (c *Cluster) Join(id int) {
	c.T.Helper()
	o := c.Nodes[0].O
	o.ID, o.Args = id, o.Args[:len(o.Args)-2]
	c.add(o, port.Free(c.T, 1)[0])
	c.Start(len(c.Nodes) - 1)
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
