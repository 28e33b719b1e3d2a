package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords (key 21), versions 0 to 2: everything before an offset, -1 being
// the high watermark. A topic that is only compacted refuses it, as in Kafka.

var errNotDeletable = errors.New("the topic's cleanup.policy does not delete records")

func (s *Server) deleteRecords(ctx context.Context, _ *request, m *kmsg.DeleteRecordsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.DeleteRecordsResponse)
	ctx, cancel := adminContext(ctx, m.TimeoutMillis)
	defer cancel()
	for i := range m.Topics {
		t := &m.Topics[i]
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic = t.Topic
		out.Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, len(t.Partitions))
		topic, err := s.trimmable(t.Topic)
		parallel(len(t.Partitions), func(j int) {
			p := &out.Partitions[j]
			p.Default()
			p.Partition = t.Partitions[j].Partition
			start, err := s.trim(ctx, topic, err, p.Partition, t.Partitions[j].Offset)
			p.LowWatermark, p.ErrorCode = int64(start), codeOfAdmin(err)
		})
		answer.Topics = append(answer.Topics, out)
	}
	return answer
}

func (s *Server) trimmable(name string) (*cluster.Topic, error) {
	topic, err := s.topic(false, name, [16]byte{})
	switch {
	case err != nil:
		return nil, err
	case topic.Internal:
		return nil, fmt.Errorf("%w: records of %q are the broker's", cluster.ErrInternalTopic, name)
	case !topic.Config.Delete:
		return nil, fmt.Errorf("%w: %q", errNotDeletable, name)
	}
	return topic, nil
}

func (s *Server) trim(ctx context.Context, topic *cluster.Topic, err error, index int32, to int64) (model.Offset, error) {
	switch {
	case err != nil:
		return model.NoOffset, err
	case to < -1:
		return model.NoOffset, fmt.Errorf("%w: %d", errNegativeOffset, to)
	case to == -1:
		to = int64(model.OffsetMax)
	}
	id, err := place(topic, index)
	if err != nil {
		return model.NoOffset, err
	}
	start, err := s.o.Produce.Trim(ctx, id, model.Offset(to))
	if err != nil {
		return model.NoOffset, err
	}
	return start, nil
}
