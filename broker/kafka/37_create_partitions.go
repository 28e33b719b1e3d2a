package kafka

import (
	"context"
	"fmt"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions (key 37), versions 0 to 3, each topic on its own. Child topics
// that a script made grow with their parent.

func (s *Server) createPartitions(ctx context.Context, _ *request, m *kmsg.CreatePartitionsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.CreatePartitionsResponse)
	ctx, cancel := adminContext(ctx, m.TimeoutMillis)
	defer cancel()
	named := map[string]int{}
	for i := range m.Topics {
		named[m.Topics[i].Topic]++
	}
	for i := range m.Topics {
		t := &m.Topics[i]
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = t.Topic
		err := fmt.Errorf("%w: topic %q", cluster.ErrDuplicate, t.Topic)
		if named[t.Topic] == 1 {
			err = s.grow(ctx, t, m.ValidateOnly)
		}
		out.ErrorCode, out.ErrorMessage = codeOfAdmin(err), text(err)
		answer.Topics = append(answer.Topics, out)
	}
	return answer
}

func (s *Server) grow(ctx context.Context, t *kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	topic, err := s.topic(false, t.Topic, [16]byte{})
	if err != nil {
		return err
	}
	have := int32(len(topic.Partitions))
	switch {
	case topic.Internal:
		return fmt.Errorf("%w: %q has a fixed partition count", cluster.ErrInternalTopic, t.Topic)
	case t.Count <= have:
		return fmt.Errorf("%w: topic %q has %d, the new count must be larger, not %d", cluster.ErrInvalidPartitions, t.Topic, have, t.Count)
	case t.Assignment != nil && int32(len(t.Assignment)) != t.Count-have:
		return fmt.Errorf("%w: %d partitions are added, %d assigned", cluster.ErrInvalidAssignment, t.Count-have, len(t.Assignment))
	}
	ask := cluster.CreatePartitions{Name: t.Topic, Count: t.Count}
	if t.Assignment != nil {
		ask.Assignments = make([][]model.NodeID, len(t.Assignment))
	}
	for i := range t.Assignment {
		ask.Assignments[i] = nodeIDs(t.Assignment[i].Replicas)
	}
	_, err = s.o.Cluster.CreatePartitions(ctx, ask, validateOnly)
	return err
}
