package kafka

import (
	"slices"
	"testing"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestReassignments: asked for, refused by name, listed, shown, cancelled.
func TestReassignments(t *testing.T) {
	n := newFakeNode(t, nil)
	for id := range model.NodeID(2) {
		if _, err := n.RegisterNode(t.Context(), cluster.Node{ID: id + 1, Host: "h", Port: 1}, ""); err != nil {
			t.Fatal(err)
		}
	}
	w := dialWire(t, n.addr)
	topic := n.topic(t, "a", 2)
	from := topic.Partitions[0].Replicas[0]
	to := []int32{int32(from), (int32(from) + 1) % 3, (int32(from) + 2) % 3}
	alter := func(v int16, topic string, partition int32, replicas []int32, resize bool) int16 {
		t.Helper()
		m := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		m.TimeoutMillis, m.AllowReplicationFactorChange = 5000, resize
		m.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: partition, Replicas: replicas}}}}
		r := w.ask(m, v).(*kmsg.AlterPartitionAssignmentsResponse)
		p := r.Topics[0].Partitions[0]
		if r.ErrorCode != 0 || p.Partition != partition || (p.ErrorCode != 0) != (p.ErrorMessage != nil) {
			t.Fatalf("%+v", r)
		}
		return p.ErrorCode
	}
	for _, c := range []struct {
		name      string
		partition int32
		replicas  []int32
		resize    bool
		want      int16
	}{
		{"no", 0, to, true, codeUnknownTopicOrPartition},
		{"a", 9, to, true, codeUnknownTopicOrPartition},
		{"a", 0, []int32{}, true, codeInvalidReplicaAssignment},
		{"a", 0, []int32{7}, true, codeInvalidReplicaAssignment},
		{"a", 0, []int32{1, 1}, true, codeInvalidReplicaAssignment},
		{"a", 0, to, false, codeInvalidReplicationFactor},
		{"a", 0, nil, true, codeNoReassignment},
		{"a", 0, to[:1], true, codeNone}, // it is there
	} {
		if got := alter(1, c.name, c.partition, c.replicas, c.resize); got != c.want {
			t.Errorf("%+v: code %d", c, got)
		}
	}
	list := func(topics ...kmsg.ListPartitionReassignmentsRequestTopic) []kmsg.ListPartitionReassignmentsResponseTopic {
		t.Helper()
		m := kmsg.NewPtrListPartitionReassignmentsRequest()
		m.Topics = topics
		return w.ask(m, 0).(*kmsg.ListPartitionReassignmentsResponse).Topics
	}
	if got := list(); len(got) != 0 {
		t.Errorf("under way: %+v", got)
	}
	if got := alter(0, "a", 0, to, false); got != codeNone {
		t.Fatalf("code %d", got)
	}
	got := list()
	if len(got) != 1 || len(got[0].Partitions) != 1 {
		t.Fatalf("under way: %+v", got)
	}
	if p := got[0].Partitions[0]; !slices.Equal(p.Replicas, to) || !slices.Equal(p.AddingReplicas, to[1:]) || len(p.RemovingReplicas) != 0 {
		t.Errorf("under way: %+v, asked for %v", p, to)
	}
	if got := list(kmsg.ListPartitionReassignmentsRequestTopic{Topic: "a", Partitions: []int32{1}}); len(got) != 0 {
		t.Errorf("under way of another: %+v", got)
	}
	m := kmsg.NewPtrMetadataRequest()
	p := w.ask(m, 12).(*kmsg.MetadataResponse).Topics[0].Partitions[0]
	if !slices.Equal(p.Replicas, to) || !slices.Equal(p.ISR, to[:1]) {
		t.Errorf("metadata %+v", p)
	}
	if got := alter(1, "a", 0, nil, true); got != codeNone {
		t.Errorf("cancel: code %d", got)
	}
	if got := list(kmsg.ListPartitionReassignmentsRequestTopic{Topic: "a", Partitions: []int32{0}}); len(got) != 1 || len(got[0].Partitions[0].AddingReplicas) != 0 {
		t.Errorf("after the cancel: %+v", got)
	}
}
