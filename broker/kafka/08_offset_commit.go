package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// OffsetCommit (key 8), versions 2 to 10: stores a group's offsets, of members
// and of consumers outside the group protocol. Versions 2 to 4 may set how long
// they are kept; version 10 names topics by id. Partitions that do not exist are
// refused one by one, the others are stored.

func (s *Server) offsetCommit(ctx context.Context, r *request, m *kmsg.OffsetCommitRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.OffsetCommitResponse)
	now := s.o.Now().UnixMilli()
	var expires int64
	if m.Version <= 4 && m.RetentionTimeMillis >= 0 {
		expires = now + min(m.RetentionTimeMillis, retentionMillisMax)
	}
	e := group.Commit{Member: member(m.MemberID, m.InstanceID), Generation: m.Generation}
	var asked []*kmsg.OffsetCommitResponseTopicPartition // one for each of e.Offsets
	answer.Topics = make([]kmsg.OffsetCommitResponseTopic, len(m.Topics))
	for i := range m.Topics {
		t, a := &m.Topics[i], &answer.Topics[i]
		a.Topic, a.TopicID = t.Topic, t.TopicID
		a.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
		topic, err := s.topic(m.Version >= 10, t.Topic, t.TopicID)
		for j := range t.Partitions {
			p, out := &t.Partitions[j], &a.Partitions[j]
			out.Default()
			out.Partition = p.Partition
			if err := checkPartition(topic, p.Partition, err); err != nil {
				out.ErrorCode = code(err)
				continue
			}
			asked = append(asked, out)
			e.Offsets = append(e.Offsets, committed(topic.Name, p, now, expires))
		}
	}
	if len(asked) > 0 || len(m.Topics) == 0 {
		a := s.o.Groups.Commit(ctx, m.Group, e)
		for i, out := range asked {
			if a.Err != nil {
				out.ErrorCode = commitCode(a.Err)
			} else {
				out.ErrorCode = commitCode(a.Partitions[i])
			}
		}
	}
	r.size = 16 * len(asked)
	return answer
}

// retentionMillisMax bounds a retention that a client asks for: a thousand years.
const retentionMillisMax = 1000 * 366 * 24 * 3600 * 1000

func committed(topic string, p *kmsg.OffsetCommitRequestTopicPartition, now, expires int64) group.OffsetSet {
	return group.OffsetSet{
		TopicPartition: group.TopicPartition{Topic: topic, Partition: p.Partition},
		Offset: group.Offset{
			Offset: model.Offset(p.Offset), Epoch: model.LeaderEpoch(p.LeaderEpoch),
			Metadata: orEmpty(p.Metadata), Committed: now, Expires: expires,
		},
	}
}

// checkPartition gives err, or says that topic has no such partition.
func checkPartition(topic *cluster.Topic, index int32, err error) error {
	if err != nil {
		return err
	}
	if index < 0 || int(index) >= len(topic.Partitions) {
		return fmt.Errorf("%w: %s has no partition %d", cluster.ErrUnknownTopic, topic.Name, index)
	}
	return nil
}
