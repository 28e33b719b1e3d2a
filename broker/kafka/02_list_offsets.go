package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListOffsets (key 2), versions 1 to 11: the first offset at or after a time, or
// one of the special timestamps: -1 latest, -2 earliest, -3 of the largest
// timestamp (version 7), -4 earliest local (8), -5 latest tiered (9), -6
// earliest not yet tiered (11; nothing is, so there is none).

// timestampPendingUpload asks for the first offset that is not tiered yet.
const timestampPendingUpload = -6

var (
	errTimestamp      = errors.New("special timestamp is unknown in this version")
	errAskedTwice     = errors.New("partition is named twice in one request")
	errNegativeOffset = errors.New("offset must not be negative")
)

func (s *Server) listOffsets(ctx context.Context, _ *request, m *kmsg.ListOffsetsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.ListOffsetsResponse)
	type part struct {
		ask   *kmsg.ListOffsetsRequestTopicPartition
		out   *kmsg.ListOffsetsResponseTopicPartition
		topic string
	}
	var parts []part
	named := map[string]map[int32]int{}
	answer.Topics = make([]kmsg.ListOffsetsResponseTopic, len(m.Topics))
	for i := range m.Topics {
		t, a := &m.Topics[i], &answer.Topics[i]
		a.Topic = t.Topic
		a.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			a.Partitions[j].Default()
			a.Partitions[j].Partition = t.Partitions[j].Partition
			if named[t.Topic] == nil {
				named[t.Topic] = map[int32]int{}
			}
			named[t.Topic][t.Partitions[j].Partition]++
			parts = append(parts, part{&t.Partitions[j], &a.Partitions[j], t.Topic})
		}
	}
	parallel(len(parts), func(i int) {
		p := parts[i]
		if named[p.topic][p.ask.Partition] > 1 {
			p.out.ErrorCode = code(errAskedTwice)
			return
		}
		found, err := s.listOffset(ctx, m, p.topic, p.ask)
		p.out.Offset, p.out.Timestamp, p.out.LeaderEpoch = int64(found.Offset), found.Timestamp, int32(found.Epoch)
		p.out.ErrorCode = code(err)
	})
	return answer
}

var noOffset = fetch.ListAnswer{Offset: model.NoOffset, Timestamp: -1, Epoch: model.NoEpoch}

func (s *Server) listOffset(ctx context.Context, m *kmsg.ListOffsetsRequest, name string, ask *kmsg.ListOffsetsRequestTopicPartition) (fetch.ListAnswer, error) {
	if since := timestampSince(ask.Timestamp); m.Version < since {
		return noOffset, fmt.Errorf("%w: %d in version %d", errTimestamp, ask.Timestamp, m.Version)
	}
	topic, err := s.topic(false, name, [16]byte{})
	if err != nil {
		return noOffset, err
	}
	id, err := place(topic, ask.Partition)
	if err != nil {
		return noOffset, err
	}
	if ask.Timestamp == timestampPendingUpload {
		return noOffset, nil
	}
	found, err := s.o.Fetch.ListOffset(ctx, fetch.ListAsk{
		Partition: id, Timestamp: ask.Timestamp,
		Committed: m.IsolationLevel == isolationCommitted, CurrentEpoch: currentEpoch(m.Version, 4, ask.CurrentLeaderEpoch),
	})
	if err != nil {
		return noOffset, err
	}
	return found, nil
}

// timestampSince gives the version since which a timestamp may be asked for.
func timestampSince(ts int64) int16 {
	switch {
	case ts >= fetch.TimestampEarliest:
		return 1
	case ts == fetch.TimestampMax:
		return 7
	case ts == fetch.TimestampEarliestLocal:
		return 8
	case ts == fetch.TimestampLatestTiered:
		return 9
	case ts == timestampPendingUpload:
		return 11
	}
	return 1<<15 - 1
}

// isolationCommitted is read_committed.
const isolationCommitted = 1

// currentEpoch gives the leader epoch that a client knows, if its version says.
func currentEpoch(version, since int16, epoch int32) model.LeaderEpoch {
	if version < since || epoch < 0 {
		return model.NoEpoch
	}
	return model.LeaderEpoch(epoch)
}
