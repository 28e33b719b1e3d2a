package kafka

import (
	"context"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch (key 23), versions 2 to 4: where an epoch ended, by which
// consumers detect that what they have read was truncated. Here it never is.

func (s *Server) offsetForLeaderEpoch(ctx context.Context, _ *request, m *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for i := range m.Topics {
		t := &m.Topics[i]
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = t.Topic
		out.Partitions = make([]kmsg.OffsetForLeaderEpochResponseTopicPartition, len(t.Partitions))
		topic, err := s.topic(false, t.Topic, [16]byte{})
		parallel(len(t.Partitions), func(j int) {
			ask, p := &t.Partitions[j], &out.Partitions[j]
			p.Default()
			p.Partition = ask.Partition
			err := err
			var id model.PartitionID
			if err == nil {
				id, err = place(topic, ask.Partition)
			}
			if err != nil {
				p.ErrorCode = code(err)
				return
			}
			epoch, end, err := s.o.Fetch.EpochEnd(ctx, id,
				currentEpoch(m.Version, 2, ask.CurrentLeaderEpoch), model.LeaderEpoch(ask.LeaderEpoch))
			if p.ErrorCode = code(err); err == nil {
				p.LeaderEpoch, p.EndOffset = int32(epoch), int64(end)
			}
		})
		answer.Topics = append(answer.Topics, out)
	}
	return answer
}
