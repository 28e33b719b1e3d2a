package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/test/node"
)

// TestDecommission: a node is emptied under a writer and goes; what no other can take
// stays, with the reason, until it may stay for good.
func TestDecommission(t *testing.T) {
	c := node.NewCluster(t, 3, node.Options{})
	c.Start()
	const partitions = 6
	createTopic(t, c, 0, partitions, 2)
	if _, err := c.Nodes[0].CLI("topic", "create", "wide", "-p", "1", "-r", "3"); err != nil {
		t.Fatal(err)
	}
	w := startWriter(t, c, partitions)
	w.more(t, 20)
	run := func(args ...string) {
		t.Helper()
		if _, err := c.Nodes[1].CLI(append([]string{"cluster"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	status := func() (d api.Decommission) {
		t.Helper()
		out, err := c.Nodes[0].CLI("cluster", "decommission-status", "2", "--format", "json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	run("decommission", "2")
	await(t, "the topic to have left", func() error {
		for _, p := range status().Partitions {
			if p.Topic == topic {
				return fmt.Errorf("partition %d: %s; next: %s", p.Partition, p.Reason, p.Next)
			}
		}
		return nil
	})
	i := slices.IndexFunc(status().Partitions, func(p api.DecommissionPartition) bool { return p.Topic == "wide" })
	if i < 0 || !strings.Contains(status().Partitions[i].Reason, "no node can take it") {
		t.Errorf("what is everywhere: %+v", status())
	}
	holds := func(n int32) (count, replicas int) {
		t.Helper()
		r := kmsg.NewPtrMetadataRequest()
		name := topic
		r.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		answer, err := r.RequestWith(t.Context(), w.client)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range answer.Topics[0].Partitions {
			replicas += len(p.Replicas)
			if slices.Contains(p.Replicas, n) {
				count++
			}
		}
		return count, replicas
	}
	if n, all := holds(2); n != 0 || all != 2*partitions {
		t.Errorf("%d partitions are still there, %d replicas in all", n, all)
	}
	c.Nodes[2].Kill()
	w.more(t, 20)
	c.Start(2)
	run("recommission", "2")
	if d := status(); d.State != "active" || len(d.Partitions) != 0 {
		t.Errorf("it is %+v", d)
	}
	run("decommission", "1")
	await(t, "the topic to have left node 1", func() error {
		if n, all := holds(1); n > 0 || all != 2*partitions {
			return fmt.Errorf("%d partitions are there, %d replicas in all", n, all)
		}
		return nil
	})
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
}
