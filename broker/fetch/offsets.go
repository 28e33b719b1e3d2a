package fetch

import (
	"context"
	"fmt"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// The special timestamps of ListOffsets.
const (
	TimestampLatest        = -1
	TimestampEarliest      = -2
	TimestampMax           = -3
	TimestampEarliestLocal = -4
	TimestampLatestTiered  = -5
)

// ListAsk asks for an offset by time. Timestamp is in ms since the epoch, or one
// of the constants above.
type ListAsk struct {
	Partition    model.PartitionID
	Timestamp    int64
	Committed    bool
	CurrentEpoch model.LeaderEpoch
}

// ListAnswer is NoOffset with timestamp -1 when no record is that young.
type ListAnswer struct {
	Offset    model.Offset
	Timestamp int64
	Epoch     model.LeaderEpoch
}

// ListOffset answers ask by the serving leader.
func (s *Service) ListOffset(ctx context.Context, ask ListAsk) (ListAnswer, error) {
	h, err := s.leader(ask.Partition, ask.CurrentEpoch)
	if err != nil {
		return ListAnswer{}, err
	}
	if ask.Timestamp == TimestampLatest {
		if err := s.raft.Barrier(ctx, h.Shard); err != nil {
			return ListAnswer{}, fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
	}
	none := ListAnswer{Offset: model.NoOffset, Timestamp: -1, Epoch: model.NoEpoch}
	var answer ListAnswer
	var finder *partition.TimeFinder
	stable := model.OffsetMax
	serving := false
	err = h.Query(ctx, func(p *partition.Partition) {
		if _, serving = h.Serving(); !serving {
			return
		}
		answer = ListAnswer{Timestamp: -1, Epoch: p.Epoch()}
		if ask.Committed {
			stable = p.LSO()
		}
		switch ask.Timestamp {
		case TimestampLatest:
			answer.Offset = min(p.HighWatermark(), stable)
		case TimestampEarliest, TimestampEarliestLocal:
			answer.Offset = p.LogStart()
		case TimestampLatestTiered:
			answer = none
		default:
			finder = p.FindTime(ask.Timestamp)
		}
	})
	switch {
	case err != nil:
		return ListAnswer{}, translate(err)
	case !serving:
		return ListAnswer{}, ErrNotLeader
	case finder == nil:
		return answer, nil
	}
	offset, timestamp, epoch, found, err := finder.Run()
	if err != nil {
		return ListAnswer{}, fmt.Errorf("find timestamp %d in %s-%d: %w", ask.Timestamp, h.Topic, h.ID.Index, s.failed(h, err))
	}
	if !found || offset >= stable { // a consumer that reads committed cannot go there yet
		return none, nil
	}
	return ListAnswer{Offset: offset, Timestamp: timestamp, Epoch: epoch}, nil
}

// EpochEnd tells where an epoch ended: the largest epoch at or below wanted, and
// the offset after its last record. It is asked after a barrier: a leader that does not
// know yet that it was deposed may lack the end of its own epoch, which its successor
// has given to read, and a consumer would take that for records that are lost.
func (s *Service) EpochEnd(ctx context.Context, id model.PartitionID, current, wanted model.LeaderEpoch) (epoch model.LeaderEpoch, end model.Offset, err error) {
	h, err := s.leader(id, current)
	if err != nil {
		return model.NoEpoch, model.NoOffset, err
	}
	if err := s.raft.Barrier(ctx, h.Shard); err != nil {
		return model.NoEpoch, model.NoOffset, fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	serving := false
	err = h.Query(ctx, func(p *partition.Partition) {
		_, serving = h.Serving()
		epoch, end = p.EpochEnd(wanted)
	})
	if err == nil && !serving {
		err = core.ErrNotLeader
	}
	if err != nil {
		return model.NoEpoch, model.NoOffset, translate(err)
	}
	return epoch, end, nil
}

// PartitionState describes a partition for people and metrics.
type PartitionState struct {
	LogStart, HighWatermark, LSO model.Offset
	// Bytes is the size of its segments on disk.
	Bytes    int64
	Segments int
	Epoch    model.LeaderEpoch
	// Serving tells whether this node serves it.
	Serving bool
}

// Describe tells how a partition of this node stands, led here or not.
func (s *Service) Describe(ctx context.Context, id model.PartitionID) (PartitionState, error) {
	h, ok := s.cores.Handle(id)
	if !ok {
		return PartitionState{}, ErrUnknownPartition
	}
	var st PartitionState
	err := h.Query(ctx, func(p *partition.Partition) {
		st = PartitionState{
			LogStart: p.LogStart(), HighWatermark: p.HighWatermark(), LSO: p.LSO(),
			Bytes: p.Bytes(), Segments: p.SegmentCount(), Epoch: p.Epoch(),
		}
	})
	_, st.Serving = h.Serving()
	return st, translate(err)
}
