package kafka

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
)

// serveAs serves n on one more listener, and dials it.
func serveAs(t *testing.T, n *fakeNode, listener string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.server.ServeAs(listener, l) }()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return dialWire(t, l.Addr().String())
}

func enter(t *testing.T, n *fakeNode, node cluster.Node) {
	t.Helper()
	if _, err := n.RegisterNode(t.Context(), node, "test-cluster"); err != nil {
		t.Fatal(err)
	}
}

func brokers(m kmsg.Response) (all []string) {
	switch m := m.(type) {
	case *kmsg.MetadataResponse:
		for _, b := range m.Brokers {
			all = append(all, fmt.Sprint(b.NodeID, "@", b.Host, ":", b.Port))
		}
	case *kmsg.DescribeClusterResponse:
		for _, b := range m.Brokers {
			all = append(all, fmt.Sprint(b.NodeID, "@", b.Host, ":", b.Port))
		}
	case *kmsg.ProduceResponse:
		for _, b := range m.Brokers {
			all = append(all, fmt.Sprint(b.NodeID, "@", b.Host, ":", b.Port))
		}
	case *kmsg.FetchResponse:
		for _, b := range m.Brokers {
			all = append(all, fmt.Sprint(b.NodeID, "@", b.Host, ":", b.Port))
		}
	}
	return all
}

// TestListeners: node 1 has both listeners, node 2 only the first.
func TestListeners(t *testing.T) {
	n := newGroupNode(t)
	in, out := dialWire(t, n.addr), serveAs(t, n, "out")
	topic := n.topic(t, "a", 3)
	enter(t, n, cluster.Node{ID: 1, Host: "in1", Port: 11, Listeners: []controller.Listener{{Name: "out", Host: "out1", Port: 21}}})
	enter(t, n, cluster.Node{ID: 2, Host: "in2", Port: 12})
	own, _ := n.Metadata().Node(0)
	for id := range model.NodeID(2) {
		n.Hear(cluster.Announcement{Node: id + 1, Boot: 1, Sequence: 1, Served: []cluster.Led{{Partition: topic.PartitionID(int32(id) + 1), Epoch: 2}}})
	}
	for _, c := range []struct {
		name           string
		w              *wire
		own            []controller.Listener
		brokers        []string
		leaders        []int32
		codes, offline []int32
		coordinator    string
	}{
		{"the unnamed one", in, nil, []string{fmt.Sprint("0@", own.Host, ":", own.Port), "1@in1:11", "2@in2:12"}, []int32{0, 1, 2}, []int32{0, 0, 0}, []int32{}, own.Host},
		{"a named one", out, []controller.Listener{{Name: "out", Host: "out0", Port: 20}}, []string{"0@out0:20", "1@out1:21"}, []int32{0, 1, -1}, []int32{0, 0, 72}, []int32{}, "out0"},
		{"not here", out, nil, []string{"1@out1:21"}, []int32{-1, 1, -1}, []int32{72, 0, 72}, []int32{0}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			node := own
			node.Listeners = c.own
			enter(t, n, node)
			m := kmsg.NewPtrMetadataRequest()
			m.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("a")}}
			for v := int16(1); v <= 13; v++ {
				a := c.w.ask(m, v).(*kmsg.MetadataResponse)
				checkListened(t, v, a, c.brokers, c.leaders, c.codes, c.offline)
			}
			if got := brokers(c.w.ask(kmsg.NewPtrDescribeClusterRequest(), 0)); !slices.Equal(got, c.brokers) {
				t.Errorf("DescribeCluster: %v", got)
			}
			d := kmsg.NewPtrDescribeTopicPartitionsRequest()
			d.Topics, d.ResponsePartitionLimit = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "a"}}, 10
			for i, p := range c.w.ask(d, 0).(*kmsg.DescribeTopicPartitionsResponse).Topics[0].Partitions {
				if p.LeaderID != c.leaders[i] || int32(p.ErrorCode) != c.codes[i] {
					t.Errorf("DescribeTopicPartitions: %+v", p)
				}
			}
			f := kmsg.NewPtrFindCoordinatorRequest()
			f.CoordinatorKey, f.CoordinatorKeys = "g", []string{"g"}
			a := c.w.ask(f, 4).(*kmsg.FindCoordinatorResponse).Coordinators[0]
			if a.Host != c.coordinator || (a.ErrorCode != 0) != (c.coordinator == "") {
				t.Errorf("FindCoordinator: %+v", a)
			}
		})
	}
	t.Run("the leader beside an error", func(t *testing.T) { checkLeaderTold(t, n, topic, in, out) })
}

func checkListened(t *testing.T, v int16, a *kmsg.MetadataResponse, told []string, leaders, codes, offline []int32) {
	t.Helper()
	if got := brokers(a); !slices.Equal(got, told) {
		t.Errorf("Metadata version %d: %v", v, got)
	}
	for i, p := range a.Topics[0].Partitions {
		want := codes[i]
		if v < 6 && want != 0 {
			want = int32(codeLeaderNotAvailable)
		}
		if p.Leader != leaders[i] || int32(p.ErrorCode) != want || v >= 5 && i == 0 && !slices.Equal(p.OfflineReplicas, offline) {
			t.Errorf("Metadata version %d: %+v", v, p)
		}
	}
}

// checkLeaderTold: KIP-951 names the leader by the asker's listener, if it has one.
func checkLeaderTold(t *testing.T, n *fakeNode, topic *cluster.Topic, in, out *wire) {
	n.log.refuseWith(func(produce.Ask) error { return produce.ErrNotLeader })
	n.log.mu.Lock()
	delete(n.log.partitions, topic.PartitionID(1))
	delete(n.log.partitions, topic.PartitionID(2))
	n.log.mu.Unlock()
	for _, c := range []struct {
		w         *wire
		partition int32
		want      []string
	}{{in, 1, []string{"1@in1:11"}}, {out, 1, []string{"1@out1:21"}}, {in, 2, []string{"2@in2:12"}}, {out, 2, nil}} {
		p := produceRequest("a", -1, c.partition, []byte("x"))
		a := c.w.ask(p, 11).(*kmsg.ProduceResponse)
		if got := a.Topics[0].Partitions[0]; got.ErrorCode != codeNotLeaderOrFollower || got.CurrentLeader.LeaderID != c.partition || !slices.Equal(brokers(a), c.want) {
			t.Errorf("produce to %d: %+v %v, want %v", c.partition, got, brokers(a), c.want)
		}
		f := fetchOf(topic, c.partition, 0)
		b := c.w.ask(f, 16).(*kmsg.FetchResponse)
		if got := b.Topics[0].Partitions[0]; got.ErrorCode != codeNotLeaderOrFollower || got.CurrentLeader.LeaderID != c.partition || !slices.Equal(brokers(b), c.want) {
			t.Errorf("fetch of %d: %+v %v, want %v", c.partition, got, brokers(b), c.want)
		}
	}
}

// fetchOf asks for one partition, by name and id.
func fetchOf(topic *cluster.Topic, partition int32, from int64) *kmsg.FetchRequest {
	f := kmsg.NewPtrFetchRequest()
	f.MaxBytes, f.SessionEpoch = 1<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, from, 1<<20
	f.Topics = []kmsg.FetchRequestTopic{{Topic: topic.Name, TopicID: topic.ID, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return f
}
