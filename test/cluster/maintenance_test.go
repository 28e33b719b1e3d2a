package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/test/node"
)

// maintenanceGap bounds what a producer waits while leaders move by their own will. An
// election after a death takes 1.6 to 3.2 s, and more where processors are few.
const maintenanceGap = 5 * time.Second

// maintenanceOf asks any node how far another is.
func maintenanceOf(t *testing.T, of *node.Node, id int) (m api.Maintenance) {
	t.Helper()
	out, err := of.CLI("cluster", "maintenance", "status", strconv.Itoa(id), "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	var all []api.Maintenance
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		t.Fatalf("%s: %v", out, err)
	}
	return all[0]
}

// restsWith checks that a node in maintenance leads the one partition that has no other
// replica, and nothing else.
func restsWith(m api.Maintenance, topic string) error {
	if !m.Enabled || !m.Finished || m.Controller || len(m.Partitions) != 1 || m.Partitions[0].Topic != topic || !m.Partitions[0].Stays {
		return fmt.Errorf("it is %+v", m)
	}
	return nil
}

// TestMaintenance: a node in maintenance leads nothing that another can lead, over a
// restart too, and producers notice little; afterwards an election gives all back.
func TestMaintenance(t *testing.T) {
	const partitions = 6
	c, w := three(t, partitions)
	if _, err := c.Nodes[0].CLI("topic", "create", "alone", "-p", "3", "-r", "1"); err != nil { // one on each node
		t.Fatal(err)
	}
	meant := make([]int, partitions)
	for p := range meant {
		meant[p] = preferredOf(t, c.Nodes[0], p)
	}
	victim := meant[0]
	other := c.Nodes[(victim+1)%3]
	maintenance := func(args ...string) error {
		_, err := other.CLI(append([]string{"cluster", "maintenance"}, args...)...)
		return err
	}
	if err := maintenance("enable", strconv.Itoa(victim), "--wait"); err != nil {
		t.Fatal(err)
	}
	if err := restsWith(maintenanceOf(t, other, victim), "alone"); err != nil {
		t.Error(err)
	}
	if err := maintenance("enable", strconv.Itoa((victim+1)%3)); err == nil {
		t.Error("a second node is in maintenance")
	}
	admin := kadm.NewClient(w.client)
	elect := func(how kadm.ElectLeadersHow, partition int) error {
		t.Helper()
		var set kadm.TopicsSet
		set.Add(topic, int32(partition))
		r, err := admin.ElectLeaders(t.Context(), how, set)
		if err != nil {
			t.Fatal(err)
		}
		return r[topic][int32(partition)].Err
	}
	if err := elect(kadm.ElectPreferredReplica, 0); !errors.Is(err, kerr.PreferredLeaderNotAvailable) {
		t.Errorf("an election for a node in maintenance: %v", err)
	}
	w.more(t, 20)

	c.Nodes[victim].Stop()
	w.more(t, 20)
	c.Start(victim)
	w.more(t, 20)
	await(t, "the node to be back, and in maintenance", func() error { return restsWith(maintenanceOf(t, other, victim), "alone") })

	if err := maintenance("disable", strconv.Itoa(victim)); err != nil {
		t.Fatal(err)
	}
	await(t, "all elections to be held", func() error {
		r, err := admin.ElectLeaders(t.Context(), kadm.ElectPreferredReplica, nil)
		for _, of := range r {
			for _, p := range of {
				err = errors.Join(err, p.Err)
			}
		}
		return err
	})
	for p, want := range meant {
		if got := leaderOf(t, c.Nodes[victim], p); got != want {
			t.Errorf("partition %d is led by node %d, not by node %d", p, got, want)
		}
	}
	for _, how := range []kadm.ElectLeadersHow{kadm.ElectPreferredReplica, kadm.ElectLiveReplica} {
		if err := elect(how, 0); !errors.Is(err, kerr.ElectionNotNeeded) {
			t.Errorf("one more election of kind %d: %v", how, err)
		}
	}
	w.more(t, 20)
	w.stop(t)
	if w.longest > maintenanceGap {
		t.Errorf("a producer waited %s; want at most %s", w.longest, maintenanceGap)
	}
	w.check(t, c)
}
