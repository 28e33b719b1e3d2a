package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/group"
)

// OffsetFetch (key 9), versions 1 to 10: a group's committed offsets, -1 where
// there is none. From version 2 null topics ask for all; from 8 on several
// groups may be asked for; version 10 names topics by id. Before version 2 an
// error of the group is told for every partition. Member ids and epochs are of
// the new group protocol and say nothing about a classic group.

func (s *Server) offsetFetch(ctx context.Context, r *request, m *kmsg.OffsetFetchRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.OffsetFetchResponse)
	if m.Version < 8 {
		s.offsetFetchOne(ctx, m, answer)
		r.size = 64 * len(answer.Topics)
		return answer
	}
	answer.Groups = make([]kmsg.OffsetFetchResponseGroup, len(m.Groups))
	parallel(len(m.Groups), func(i int) {
		g := &m.Groups[i]
		answer.Groups[i] = s.offsetFetchGroup(ctx, m, g)
	})
	return answer
}

// offsetFetchOne serves versions below 8 in terms of the later ones.
func (s *Server) offsetFetchOne(ctx context.Context, m *kmsg.OffsetFetchRequest, answer *kmsg.OffsetFetchResponse) {
	ask := kmsg.NewOffsetFetchRequestGroup()
	ask.Group = m.Group
	if m.Topics != nil {
		ask.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, len(m.Topics))
		for i := range m.Topics {
			ask.Topics[i].Topic, ask.Topics[i].Partitions = m.Topics[i].Topic, m.Topics[i].Partitions
		}
	}
	found := s.offsetFetchGroup(ctx, m, &ask)
	answer.ErrorCode = found.ErrorCode
	answer.Topics = make([]kmsg.OffsetFetchResponseTopic, len(found.Topics))
	for i := range found.Topics {
		t, out := &found.Topics[i], &answer.Topics[i]
		out.Topic = t.Topic
		out.Partitions = make([]kmsg.OffsetFetchResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			out.Partitions[j] = kmsg.OffsetFetchResponseTopicPartition{
				Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch,
				Metadata: p.Metadata, ErrorCode: p.ErrorCode,
			}
		}
	}
}

func (s *Server) offsetFetchGroup(ctx context.Context, m *kmsg.OffsetFetchRequest, ask *kmsg.OffsetFetchRequestGroup) kmsg.OffsetFetchResponseGroup {
	answer := kmsg.NewOffsetFetchResponseGroup()
	answer.Group = ask.Group
	byID := m.Version >= 10
	if ask.Topics == nil && m.Version >= 2 {
		all, err := s.o.Groups.Fetch(ctx, ask.Group, coordinator.FetchAsk{RequireStable: m.RequireStable})
		answer.ErrorCode = commitCode(err)
		answer.Topics = s.offsetTopics(all, byID)
		return answer
	}
	partitions := []group.TopicPartition{} // not nil: that asks for all
	answer.Topics = make([]kmsg.OffsetFetchResponseGroupTopic, len(ask.Topics))
	for i := range ask.Topics {
		t, out := &ask.Topics[i], &answer.Topics[i]
		out.Topic, out.TopicID = t.Topic, t.TopicID
		out.Partitions = make([]kmsg.OffsetFetchResponseGroupTopicPartition, len(t.Partitions))
		name, unknown := t.Topic, error(nil)
		if byID {
			topic, err := s.topic(true, "", t.TopicID)
			if unknown = err; err == nil {
				name = topic.Name
			}
		}
		for j, p := range t.Partitions {
			out.Partitions[j] = noCommit(p, code(unknown))
			if unknown == nil {
				partitions = append(partitions, group.TopicPartition{Topic: name, Partition: p})
			}
		}
	}
	found, err := s.o.Groups.Fetch(ctx, ask.Group, coordinator.FetchAsk{Partitions: partitions, RequireStable: m.RequireStable})
	s.fillOffsets(&answer, found, byID)
	if err != nil && m.Version >= 2 {
		answer.ErrorCode = commitCode(err)
		answer.Topics = nil
	} else if err != nil {
		failOffsets(&answer, commitCode(err))
	}
	return answer
}

// fillOffsets puts what was found in its places.
func (s *Server) fillOffsets(answer *kmsg.OffsetFetchResponseGroup, found []group.OffsetSet, byID bool) {
	offsets := make(map[group.TopicPartition]group.Offset, len(found))
	for _, o := range found {
		offsets[o.TopicPartition] = o.Offset
	}
	for i := range answer.Topics {
		t := &answer.Topics[i]
		name := t.Topic
		if byID {
			topic, err := s.topic(true, "", t.TopicID)
			if err != nil {
				continue
			}
			name = topic.Name
		}
		for j := range t.Partitions {
			p := group.TopicPartition{Topic: name, Partition: t.Partitions[j].Partition}
			if o, ok := offsets[p]; ok {
				t.Partitions[j] = commitOf(group.OffsetSet{TopicPartition: p, Offset: o})
			}
		}
	}
}

func failOffsets(answer *kmsg.OffsetFetchResponseGroup, code int16) {
	for i := range answer.Topics {
		for j := range answer.Topics[i].Partitions {
			answer.Topics[i].Partitions[j].ErrorCode = code
		}
	}
}

// offsetTopics groups all offsets by topic. A topic that is gone has no id to be
// named by.
func (s *Server) offsetTopics(all []group.OffsetSet, byID bool) []kmsg.OffsetFetchResponseGroupTopic {
	topics := []kmsg.OffsetFetchResponseGroupTopic{}
	last := ""
	for _, o := range all {
		if len(topics) == 0 || o.Topic != last {
			t := kmsg.NewOffsetFetchResponseGroupTopic()
			t.Topic = o.Topic
			if byID {
				topic, err := s.topic(false, o.Topic, [16]byte{})
				if err != nil {
					continue
				}
				t.TopicID = topic.ID
			}
			topics = append(topics, t)
			last = o.Topic
		}
		t := &topics[len(topics)-1]
		t.Partitions = append(t.Partitions, commitOf(o))
	}
	return topics
}

func commitOf(o group.OffsetSet) kmsg.OffsetFetchResponseGroupTopicPartition {
	return kmsg.OffsetFetchResponseGroupTopicPartition{
		Partition: o.Partition, Offset: int64(o.Offset.Offset), LeaderEpoch: int32(o.Offset.Epoch),
		Metadata: &o.Offset.Metadata,
	}
}

func noCommit(partition int32, code int16) kmsg.OffsetFetchResponseGroupTopicPartition {
	return kmsg.OffsetFetchResponseGroupTopicPartition{
		Partition: partition, Offset: -1, LeaderEpoch: -1, Metadata: kmsg.StringPtr(""), ErrorCode: code,
	}
}
