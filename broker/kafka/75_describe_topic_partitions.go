package kafka

import (
	"context"
	"slices"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTopicPartitions (key 75), version 0: topics in order of name, at most
// so many partitions at a time, with a cursor to go on from.

// describePartitionsMax is the most partitions in one answer, as in Kafka
// (max.request.partition.size.limit).
const describePartitionsMax = 2000

func (s *Server) describeTopicPartitions(_ context.Context, r *request, m *kmsg.DescribeTopicPartitionsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	answer.Topics = []kmsg.DescribeTopicPartitionsResponseTopic{}
	snapshot := s.o.Cluster.Metadata()
	left := min(max(1, int(m.ResponsePartitionLimit)), describePartitionsMax)
	for _, name := range namesFrom(snapshot, m) {
		first := int32(0)
		if m.Cursor != nil && m.Cursor.Topic == name {
			first = max(0, m.Cursor.Partition)
		}
		if left == 0 {
			answer.NextCursor = cursor(name, first)
			return answer
		}
		t, ok := snapshot.Topic(name)
		if !ok {
			answer.Topics = append(answer.Topics, missingTopic(name))
			continue
		}
		out, next := s.describePartitions(r, t, first, left)
		answer.Topics = append(answer.Topics, out)
		left -= len(out.Partitions)
		if int(next) < len(t.Partitions) {
			answer.NextCursor = cursor(name, next)
			return answer
		}
	}
	return answer
}

// namesFrom gives the names asked for, sorted, from the cursor on.
func namesFrom(snapshot *cluster.Metadata, m *kmsg.DescribeTopicPartitionsRequest) []string {
	var names []string
	for i := range m.Topics {
		names = append(names, m.Topics[i].Topic)
	}
	if len(names) == 0 {
		for _, t := range snapshot.Topics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if m.Cursor != nil {
		names = slices.DeleteFunc(names, func(n string) bool { return n < m.Cursor.Topic })
	}
	return names
}

func cursor(topic string, partition int32) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = topic, partition
	return &c
}

func missingTopic(name string) kmsg.DescribeTopicPartitionsResponseTopic {
	t := kmsg.NewDescribeTopicPartitionsResponseTopic()
	t.Topic, t.ErrorCode = &name, codeUnknownTopicOrPartition
	if err := model.CheckTopicName(name); err != nil {
		t.ErrorCode = code(err)
	}
	t.Partitions = []kmsg.DescribeTopicPartitionsResponseTopicPartition{}
	t.AuthorizedOperations = operationsUnknown
	return t
}

// describePartitions describes at most limit partitions from first on, and gives
// the one after them.
func (s *Server) describePartitions(r *request, t *cluster.Topic, first int32, limit int) (kmsg.DescribeTopicPartitionsResponseTopic, int32) {
	snapshot := s.o.Cluster.Metadata()
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = kmsg.StringPtr(t.Name), t.ID, t.Internal
	out.AuthorizedOperations = operationsTopic
	out.Partitions = []kmsg.DescribeTopicPartitionsResponseTopicPartition{}
	next := min(first, int32(len(t.Partitions)))
	for ; int(next) < len(t.Partitions) && len(out.Partitions) < limit; next++ {
		p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		w := s.whereabouts(r, snapshot, t, &t.Partitions[next])
		p.ErrorCode, p.Partition, p.LeaderID, p.LeaderEpoch = w.code, next, int32(w.leader), int32(w.epoch)
		p.Replicas, p.ISR, p.OfflineReplicas = w.replicas, w.isr, w.offline
		p.EligibleLeaderReplicas, p.LastKnownELR = []int32{}, []int32{}
		out.Partitions = append(out.Partitions, p)
	}
	return out, next
}
