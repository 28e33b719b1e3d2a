package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics (key 20), versions 1 to 6: by name, from 6 on by name or id. It
// is refused as a whole while delete.topic.enable is off.

var (
	errDeletionDisabled = errors.New("topic deletion is disabled (delete.topic.enable)")
	errNameOrID         = errors.New("name a topic by its name or by its id, one of the two")
)

func (s *Server) deleteTopics(ctx context.Context, _ *request, m *kmsg.DeleteTopicsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.DeleteTopicsResponse)
	for _, name := range m.TopicNames {
		m.Topics = append(m.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &name})
	}
	answer.Topics = make([]kmsg.DeleteTopicsResponseTopic, len(m.Topics))
	var refs []cluster.TopicRef
	var at []int
	for i := range m.Topics {
		out := &answer.Topics[i]
		out.Default()
		out.Topic, out.TopicID = m.Topics[i].Topic, m.Topics[i].TopicID
		ref, err := s.deletable(&m.Topics[i])
		if err != nil {
			out.ErrorCode, out.ErrorMessage = code(err), text(err)
			if errors.Is(err, errDeletionDisabled) && m.Version < 3 {
				out.ErrorCode = codeInvalidRequest
			}
			continue
		}
		refs, at = append(refs, ref), append(at, i)
	}
	if len(refs) == 0 {
		return answer
	}
	ctx, cancel := adminContext(ctx, m.TimeoutMillis)
	defer cancel()
	results, err := s.o.Cluster.DeleteTopics(ctx, refs)
	for i, at := range at {
		out := &answer.Topics[at]
		failure := err
		if err == nil {
			failure = results[i].Err
			if results[i].Name != "" {
				out.Topic, out.TopicID = &results[i].Name, results[i].ID
			}
		}
		out.ErrorCode, out.ErrorMessage = codeOfAdmin(failure), text(failure)
	}
	return answer
}

// deletable says whether a client may delete a topic, and which it is.
func (s *Server) deletable(t *kmsg.DeleteTopicsRequestTopic) (cluster.TopicRef, error) {
	if !s.o.Cluster.Metadata().Cluster.DeleteTopics {
		return cluster.TopicRef{}, errDeletionDisabled
	}
	byID := t.TopicID != [16]byte{}
	if byID == (t.Topic != nil) {
		return cluster.TopicRef{}, errNameOrID
	}
	ref := cluster.TopicRef{ID: t.TopicID}
	if !byID {
		ref.Name = *t.Topic
	}
	topic, err := s.topic(byID, ref.Name, ref.ID)
	if err != nil {
		return ref, err
	}
	if topic.Internal {
		return ref, fmt.Errorf("%w: %q cannot be deleted", cluster.ErrInternalTopic, topic.Name)
	}
	return cluster.TopicRef{Name: topic.Name, ID: topic.ID}, nil
}
