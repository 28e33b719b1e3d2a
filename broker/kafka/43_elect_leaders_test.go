package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestElectLeaders: who is preferred leads afterwards, and each reason why not has its code.
func TestElectLeaders(t *testing.T) {
	var mu sync.Mutex
	var held []string
	var n *fakeNode
	n = newFakeNode(t, func(o *Options) {
		o.Elect = func(ctx context.Context, id model.PartitionID, to model.NodeID) error {
			mu.Lock()
			held = append(held, fmt.Sprint(id.Index, " to ", to))
			mu.Unlock()
			if id.Index == 3 {
				<-ctx.Done()
				return ctx.Err()
			}
			n.Lead(cluster.Leadership{Partition: id, Epoch: 9, Serving: true})
			return nil
		}
	})
	for id := range model.NodeID(2) {
		if _, err := n.RegisterNode(t.Context(), cluster.Node{ID: id + 1, Host: "h", Port: 1}, ""); err != nil {
			t.Fatal(err)
		}
	}
	r, err := n.Cluster.CreateTopics(t.Context(), []cluster.CreateTopic{{
		Name: "a", Partitions: 5, Replication: 2, Assignments: map[int32][]model.NodeID{0: {0, 1}, 1: {0, 1}, 2: {1, 0}, 3: {0, 2}, 4: {0, 1}},
	}}, false)
	if err != nil || r[0].Err != nil {
		t.Fatal(err, r)
	}
	topic := r[0].Topic
	// Node 0 is preferred for all but 2, node 1 leads all but 4, which nobody does.
	a := cluster.Announcement{Node: 1, Boot: 1, Sequence: 1, Whole: true}
	for p := range int32(4) {
		a.Served = append(a.Served, cluster.Led{Partition: topic.PartitionID(p), Epoch: 5})
	}
	a.Unfit = cluster.UnfitDisk
	n.Hear(a)
	w := dialWire(t, n.addr)
	elect := func(v int16, kind int8, topics ...kmsg.ElectLeadersRequestTopic) (rows []string, code int16) {
		t.Helper()
		m := kmsg.NewPtrElectLeadersRequest()
		m.ElectionType, m.Topics, m.TimeoutMillis = kind, topics, 1000
		r := w.ask(m, v).(*kmsg.ElectLeadersResponse)
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				rows = append(rows, fmt.Sprintf("%s/%d %d", topic.Topic, p.Partition, p.ErrorCode))
				if (p.ErrorCode != 0) != (p.ErrorMessage != nil) {
					t.Errorf("code %d, message %v", p.ErrorCode, p.ErrorMessage)
				}
			}
		}
		return rows, r.ErrorCode
	}
	of := func(topic string, partitions ...int32) kmsg.ElectLeadersRequestTopic {
		return kmsg.ElectLeadersRequestTopic{Topic: topic, Partitions: partitions}
	}
	for _, c := range []struct {
		name   string
		v      int16
		kind   int8
		topics []kmsg.ElectLeadersRequestTopic
		want   string
	}{
		{"version 0 has no type", 0, electionUnclean, []kmsg.ElectLeadersRequestTopic{of("a", 0, 9), of("no", 0)}, "a/0 0,a/9 3,no/0 3"},
		{"again", 1, electionPreferred, []kmsg.ElectLeadersRequestTopic{of("a", 0)}, "a/0 84"},
		{"unclean, led", 2, electionUnclean, []kmsg.ElectLeadersRequestTopic{of("a", 1, 4)}, "a/1 84,a/4 83"},
		{"led by who is preferred, slow or not", 2, electionPreferred, []kmsg.ElectLeadersRequestTopic{of("a", 2)}, "a/2 84"},
		{"it takes too long", 2, electionPreferred, []kmsg.ElectLeadersRequestTopic{of("a", 3)}, "a/3 7"},
		{"all that need one", 2, electionPreferred, nil, "a/1 0,a/3 7,a/4 0"},
		{"all, unclean", 2, electionUnclean, nil, ""},
		{"no partitions", 2, electionPreferred, []kmsg.ElectLeadersRequestTopic{}, ""},
	} {
		if rows, code := elect(c.v, c.kind, c.topics...); strings.Join(rows, ",") != c.want || code != codeNone {
			t.Errorf("%s: %q, code %d; want %q", c.name, rows, code, c.want)
		}
	}
	if _, code := elect(2, 7); code != codeInvalidRequest {
		t.Errorf("type 7: code %d", code)
	}
	n.Lead(cluster.Leadership{Partition: topic.PartitionID(2), Epoch: 9, Serving: true})
	if rows, _ := elect(2, electionPreferred, of("a", 2)); strings.Join(rows, ",") != "a/2 80" {
		t.Errorf("the preferred one is slow: %q", rows)
	}
	if got := strings.Join(held, ","); strings.Contains(got, "2 to") || !strings.HasPrefix(got, "0 to 0,3 to 0") {
		t.Errorf("held %q", got)
	}
}
