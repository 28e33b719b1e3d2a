package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
)

// NewLog gives the partitions of this node as a Log.
func NewLog(p *produce.Service, f *fetch.Service) Log { return services{p, f} }

type services struct {
	produce *produce.Service
	fetch   *fetch.Service
}

type appending struct{ *produce.Pending }

func (s services) Append(id model.PartitionID, batch []byte, timeout time.Duration) Appending {
	return appending{s.produce.Start(produce.Ask{Partition: id, Records: batch, Timeout: timeout, Internal: true})}
}

// Err puts a refusal into this room's words. What is not listed may have been
// written.
func (a appending) Err() error {
	err := a.Result().Err
	switch {
	case err == nil:
		return nil
	case errors.Is(err, produce.ErrNotLeader), errors.Is(err, produce.ErrUnknownPartition):
		return fmt.Errorf("%w: %w", ErrNotCoordinator, err)
	case errors.Is(err, produce.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrRecordTooLarge, err)
	case errors.Is(err, produce.ErrStorage), errors.Is(err, produce.ErrInvalidRecord),
		errors.Is(err, produce.ErrInvalidTimestamp), errors.Is(err, produce.ErrScriptUnavailable),
		errors.Is(err, produce.ErrScriptFailed):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", errUnknownOutcome, err)
}

func (s services) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int) (Chunk, error) {
	if from == model.NoOffset {
		a, err := s.fetch.ListOffset(ctx, fetch.ListAsk{
			Partition: id, Timestamp: fetch.TimestampEarliest, CurrentEpoch: model.NoEpoch,
		})
		if err != nil {
			return Chunk{}, readError(err)
		}
		from = a.Offset
	}
	a := s.fetch.Fetch(ctx, fetch.Ask{BytesMax: bytesMax, Partitions: []fetch.PartitionAsk{{
		Partition: id, From: from, BytesMax: bytesMax, CurrentEpoch: model.NoEpoch,
	}}})[0]
	if a.Err != nil {
		return Chunk{}, readError(a.Err)
	}
	return Chunk{Records: a.Records, Start: a.LogStart, End: a.HighWatermark}, nil
}

func (s services) Barrier(ctx context.Context, id model.PartitionID) error {
	_, err := s.fetch.ListOffset(ctx, fetch.ListAsk{
		Partition: id, Timestamp: fetch.TimestampLatest, CurrentEpoch: model.NoEpoch,
	})
	return readError(err)
}

func readError(err error) error {
	if errors.Is(err, fetch.ErrNotLeader) || errors.Is(err, fetch.ErrUnknownPartition) {
		return fmt.Errorf("%w: %w", ErrNotCoordinator, err)
	}
	return err
}
