package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

// strictTopic takes acks=all only while all three replicas are in sync.
const strictTopic = "strict"

func createStrict(t *testing.T, c *node.Cluster) {
	t.Helper()
	if _, err := c.Nodes[0].CLI("topic", "create", strictTopic, "-p", "1", "-r", "3", "-c", "min.insync.replicas=3"); err != nil {
		t.Fatal(err)
	}
}

// awaitInSync waits until these nodes say of all partitions of both topics that just they
// are in sync, and `cluster health` of each fits. It gives what a write to the strict topic
// comes to then: nothing, or that replicas are too few.
func awaitInSync(t *testing.T, c *node.Cluster, nodes ...int32) (written error) {
	t.Helper()
	for _, n := range nodes {
		cl := c.Client(kgo.SeedBrokers(c.Nodes[n].Brokers))
		await(t, fmt.Sprintf("node %d to have just %v in sync", n, nodes), func() error { return saysInSync(t, cl, c.Nodes[n], nodes) })
	}
	return writeStrict(t, c)
}

// writeStrict gives what a write to the strict topic comes to: nothing, or that replicas
// are too few.
func writeStrict(t *testing.T, c *node.Cluster) (written error) {
	t.Helper()
	await(t, "a write to be taken, or refused for want of replicas", func() error {
		cl := c.Client(kgo.DisableIdempotentWrite(), kgo.RecordRetries(0)) // a new one each time: without retries it never asks again who leads
		defer cl.Close()
		written = cl.ProduceSync(t.Context(), &kgo.Record{Topic: strictTopic, Value: []byte("x")}).FirstErr()
		if errors.Is(written, kerr.NotEnoughReplicas) || errors.Is(written, kerr.NotEnoughReplicasAfterAppend) {
			return nil
		}
		return written
	})
	return written
}

func saysInSync(t *testing.T, cl *kgo.Client, n *node.Node, nodes []int32) error {
	m, err := kadm.NewClient(cl).Metadata(t.Context(), topic, strictTopic)
	if err != nil {
		return err
	}
	health, err := n.CLI("cluster", "health")
	under := strings.Split(health[max(0, strings.Index(health, "Under-replicated")):], "\n")[0]
	for _, d := range append(m.Topics[topic].Partitions.Sorted(), m.Topics[strictTopic].Partitions.Sorted()...) {
		if slices.Sort(d.ISR); !slices.Equal(d.ISR, nodes) || len(d.Replicas) != 3 || len(d.OfflineReplicas) != 3-len(m.Brokers) {
			return fmt.Errorf("%+v, of brokers %v", d, m.Brokers.NodeIDs())
		}
		if named := strings.Contains(under, fmt.Sprintf("%s/%d", d.Topic, d.Partition)); named != (len(nodes) < 3) {
			return fmt.Errorf("%+v, and cluster health: %v\n%s", d, err, health)
		}
	}
	if !slices.Equal(m.Brokers.NodeIDs(), nodes) {
		return fmt.Errorf("brokers are %v", m.Brokers.NodeIDs())
	}
	return nil
}
