package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/test/node"
)

// TestBalance: replicas and leaders that crowd on some nodes are told of while balance is
// paused, and spread under a writer when it goes on; what a node had that is gone is made
// anew on the others.
func TestBalance(t *testing.T) {
	c := node.NewCluster(t, 5, node.Options{})
	c.Start()
	const partitions = 10
	crowd(t, c, partitions)
	w := startWriter(t, c, partitions)
	w.more(t, 20)
	run := func(args ...string) string {
		t.Helper()
		out, err := c.Nodes[1].CLI(append([]string{"cluster"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	balance := func() (b api.Balance) {
		t.Helper()
		if err := json.Unmarshal([]byte(run("balance", "--dry-run", "--format", "json")), &b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := balance(); b.State != api.BalancePaused || len(b.Planned) < partitions/2 || b.Bytes == 0 || len(b.UnderWay) > 0 || !strings.Contains(b.Planned[0].Why, "node 3 has 0") {
		t.Errorf("while paused: %+v", b)
	}
	run("config", "set", "millrace.balance.gone.ms", "3000")
	run("balance", "resume")
	await(t, "replicas and leaders to be spread", func() error {
		b := balance()
		for _, n := range b.Nodes {
			if b.State != api.BalanceReady || n.Replicas != partitions*3/5 || n.Leaders != partitions/5 {
				return fmt.Errorf("%+v", b)
			}
		}
		return nil
	})
	w.more(t, 20)
	c.Nodes[4].Kill()
	await(t, "what node 4 had to be elsewhere", func() error {
		r := kmsg.NewPtrMetadataRequest()
		name := topic
		r.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		answer, err := r.RequestWith(t.Context(), w.client)
		if err != nil {
			return err
		}
		for _, p := range answer.Topics[0].Partitions {
			if len(p.Replicas) != 3 || slices.Contains(p.Replicas, 4) {
				err = errors.Join(err, fmt.Errorf("partition %d is on %v", p.Partition, p.Replicas))
			}
		}
		return err
	})
	await(t, "the node that is asked to miss node 4 for as long too", func() error {
		if b := balance(); b.Nodes[4].State != "gone" || b.Nodes[4].Replicas != 0 {
			return fmt.Errorf("%+v", b)
		}
		return nil
	})
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
}

// crowd makes the topic with all its replicas on nodes 0, 1 and 2, node 0 preferred.
func crowd(t *testing.T, c *node.Cluster, partitions int32) {
	t.Helper()
	ask := kmsg.NewCreateTopicsRequestTopic()
	ask.Topic, ask.NumPartitions, ask.ReplicationFactor = topic, -1, -1
	for p := range partitions {
		ask.ReplicaAssignment = append(ask.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: p, Replicas: []int32{0, 1, 2}})
	}
	r := kmsg.NewPtrCreateTopicsRequest()
	r.TimeoutMillis, r.Topics = 10_000, append(r.Topics, ask)
	answer, err := r.RequestWith(t.Context(), c.Client())
	if err != nil || answer.Topics[0].ErrorCode != 0 {
		t.Fatal(err, answer)
	}
}
