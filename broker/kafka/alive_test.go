package kafka

import (
	"slices"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// seen is what clients are told of a partition and of the cluster's brokers.
type seen struct {
	code                           int16
	leader                         int32
	replicas, isr, offline, broker []int32
}

func (s seen) equal(o seen) bool {
	return s.code == o.code && s.leader == o.leader && slices.Equal(s.replicas, o.replicas) &&
		slices.Equal(s.isr, o.isr) && slices.Equal(s.offline, o.offline) && slices.Equal(s.broker, o.broker)
}

// TestNodesThatAreGone: what Metadata, DescribeTopicPartitions and DescribeCluster tell
// while a replica lags, its node dies, and at last the leader's.
func TestNodesThatAreGone(t *testing.T) {
	n := newFakeNode(t, nil)
	for id := range model.NodeID(3) {
		if _, err := n.RegisterNode(t.Context(), cluster.Node{ID: id, Host: "h", Port: 1 + int32(id)}, "test-cluster"); err != nil {
			t.Fatal(err)
		}
	}
	r, err := n.Cluster.CreateTopics(t.Context(), []cluster.CreateTopic{{Name: "a", Partitions: -1, Replication: -1, Assignments: map[int32][]model.NodeID{0: {1, 0, 2}}}}, false)
	if err != nil || r[0].Err != nil {
		t.Fatal(err, r)
	}
	id := r[0].Topic.PartitionID(0)
	w := dialWire(t, n.addr)
	told := func() (s seen) {
		t.Helper()
		m := w.ask(kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
		p := m.Topics[0].Partitions[0]
		s = seen{code: p.ErrorCode, leader: p.Leader, replicas: p.Replicas, isr: p.ISR, offline: p.OfflineReplicas}
		for _, b := range m.Brokers {
			s.broker = append(s.broker, b.NodeID)
		}
		d := w.ask(kmsg.NewPtrDescribeTopicPartitionsRequest(), 0).(*kmsg.DescribeTopicPartitionsResponse).Topics[0].Partitions[0]
		if !s.equal(seen{d.ErrorCode, d.LeaderID, d.Replicas, d.ISR, d.OfflineReplicas, s.broker}) {
			t.Errorf("Metadata says %+v, DescribeTopicPartitions %+v", s, d)
		}
		return s
	}
	want := func(when string, code int16, leader int32, isr, offline, brokers []int32) {
		t.Helper()
		if s, got := (seen{code, leader, []int32{1, 0, 2}, isr, offline, brokers}), told(); !got.equal(s) {
			t.Errorf("%s: %+v, want %+v", when, got, s)
		}
	}
	sequence := uint64(0)
	say := func(node model.NodeID, leads bool, lagging ...model.NodeID) {
		sequence++
		a := cluster.Announcement{Node: node, Boot: 1, Sequence: sequence, Whole: true}
		if leads {
			a.Served = []cluster.Led{{Partition: id, Epoch: 3}}
			for _, l := range lagging {
				a.Laggards = append(a.Laggards, cluster.Laggard{Node: l, Served: []int{0}})
			}
		}
		n.Hear(a)
	}
	want("just started", codeLeaderNotAvailable, -1, []int32{1, 0, 2}, nil, []int32{0, 1, 2})
	say(1, true)
	say(2, false)
	want("all well", 0, 1, []int32{1, 0, 2}, nil, []int32{0, 1, 2})
	say(1, true, 0)
	want("this one lags", 0, 1, []int32{1, 2}, nil, []int32{0, 1, 2})
	n.later.Store(int64(time.Minute))
	say(1, true)
	want("node 2 is gone", 0, 1, []int32{1, 0}, []int32{2}, []int32{0, 1})

	ask := kmsg.NewPtrDescribeClusterRequest()
	ask.EndpointType = endpointBrokers
	if d := w.ask(ask, 2).(*kmsg.DescribeClusterResponse); len(d.Brokers) != 2 || d.Brokers[0].IsFenced {
		t.Errorf("DescribeCluster: %+v", d.Brokers)
	}
	ask.IncludeFencedBrokers = true
	if d := w.ask(ask, 2).(*kmsg.DescribeClusterResponse); len(d.Brokers) != 3 || d.Brokers[0].IsFenced || !d.Brokers[2].IsFenced {
		t.Errorf("DescribeCluster with those that are fenced: %+v", d.Brokers)
	}
	n.later.Store(int64(2 * time.Minute))
	want("nobody is heard, and it may be this node that is cut off", codeLeaderNotAvailable, -1, []int32{0}, nil, []int32{0, 1, 2})
}
