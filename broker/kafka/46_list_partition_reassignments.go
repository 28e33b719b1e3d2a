package kafka

import (
	"context"
	"slices"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments (key 46), version 0: what is under way, of the partitions
// that are named or of all. What is named and stays where it is is not in the answer.

func (s *Server) listPartitionReassignments(_ context.Context, _ *request, m *kmsg.ListPartitionReassignmentsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	snapshot := s.o.Cluster.Metadata()
	if m.Topics == nil {
		for _, t := range snapshot.Topics() {
			addMoves(answer, t, func(int32) bool { return true })
		}
		return answer
	}
	seen := map[string]bool{}
	for i := range m.Topics {
		ask := &m.Topics[i]
		if t, ok := snapshot.Topic(ask.Topic); ok && !seen[ask.Topic] {
			seen[ask.Topic] = true
			addMoves(answer, t, func(p int32) bool { return slices.Contains(ask.Partitions, p) })
		}
	}
	return answer
}

func addMoves(answer *kmsg.ListPartitionReassignmentsResponse, t *cluster.Topic, wanted func(int32) bool) {
	out := kmsg.NewListPartitionReassignmentsResponseTopic()
	out.Topic = t.Name
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Move == nil || !wanted(p.Index) {
			continue
		}
		row := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
		row.Partition = p.Index
		row.Replicas, row.AddingReplicas, row.RemovingReplicas = int32s(p.Holders()), int32s(p.Adding()), int32s(p.Removing())
		out.Partitions = append(out.Partitions, row)
	}
	if len(out.Partitions) > 0 {
		answer.Topics = append(answer.Topics, out)
	}
}
