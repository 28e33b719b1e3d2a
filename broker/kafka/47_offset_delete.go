package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/group"
)

// OffsetDelete (key 47), version 0: forgets offsets of a group, of topics that
// none of its members reads.

func (s *Server) offsetDelete(ctx context.Context, _ *request, m *kmsg.OffsetDeleteRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.OffsetDeleteResponse)
	var asked []*kmsg.OffsetDeleteResponseTopicPartition // one for each of partitions
	partitions := []group.TopicPartition{}
	topics := make([]kmsg.OffsetDeleteResponseTopic, len(m.Topics))
	for i := range m.Topics {
		t, a := &m.Topics[i], &topics[i]
		a.Topic = t.Topic
		a.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(t.Partitions))
		topic, err := s.topic(false, t.Topic, [16]byte{})
		for j := range t.Partitions {
			p, out := t.Partitions[j].Partition, &a.Partitions[j]
			out.Default()
			out.Partition = p
			if err := checkPartition(topic, p, err); err != nil {
				out.ErrorCode = code(err)
				continue
			}
			asked = append(asked, out)
			partitions = append(partitions, group.TopicPartition{Topic: t.Topic, Partition: p})
		}
	}
	a := s.o.Groups.DeleteOffsets(ctx, m.Group, partitions)
	if a.Err != nil {
		answer.ErrorCode = groupCode(a.Err)
		return answer
	}
	for i, out := range asked {
		out.ErrorCode = commitCode(a.Partitions[i])
	}
	answer.Topics = topics
	return answer
}
