package produce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

// commandTimeout bounds a fiber's and an administrator's command.
const commandTimeout = 10 * time.Second

// AppendSource is a fiber's append: in one log entry the child partition checks
// that it stands at src.From under src.Activation, takes batches, and moves to
// src.To. On partition.ErrSourceConflict nothing was written and the state says
// where the child stands. After ErrTimedOut ask Source before going on.
func (s *Service) AppendSource(ctx context.Context, id model.PartitionID, src partition.Source, batches [][]byte) (partition.SourceState, error) {
	h, err := s.leader(id)
	if err != nil {
		return partition.SourceState{}, err
	}
	if len(batches) > 0 {
		if err := s.o.Space(); err != nil {
			return partition.SourceState{}, err
		}
		if batches, err = s.scripted(ctx, h, batches); err != nil {
			return partition.SourceState{}, err
		}
		batches = s.stamped(h, batches)
	}
	cmd := partition.Command{Kind: partition.KindSource, Source: src, Batches: batches}
	out, err := s.commandCtx(ctx, h, &cmd)
	return out.Source, err
}

// scripted runs the child topic's own sync scripts over what a fiber appends.
func (s *Service) scripted(ctx context.Context, h *core.Handle, batches [][]byte) ([][]byte, error) {
	if s.o.Scripts == nil || !s.o.Scripts.Bound(h.ID.Topic) {
		return batches, nil
	}
	out := make([][]byte, len(batches))
	for i, b := range batches {
		changed, err := s.o.Scripts.Transform(ctx, h.ID.Topic, h.ID.Index, b)
		if err != nil {
			return nil, err
		}
		out[i] = changed
	}
	return out, nil
}

// stamped gives copies with the time of the append where the topic asks for it.
func (s *Service) stamped(h *core.Handle, batches [][]byte) [][]byte {
	if !h.Config().AppendTime {
		return batches
	}
	now := s.o.Now().UnixMilli()
	out := make([][]byte, len(batches))
	for i, b := range batches {
		out[i] = bytes.Clone(b)
		record.Batch(out[i]).StampAppendTime(now)
	}
	return out
}

// Activate tells a child partition of a script's activation: see partition.Activate.
func (s *Service) Activate(ctx context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error) {
	h, err := s.leader(id)
	if err != nil {
		return partition.SourceState{}, err
	}
	cmd := partition.Command{Kind: partition.KindActivate, Activate: a}
	out, err := s.commandCtx(ctx, h, &cmd)
	return out.Source, err
}

// Source asks a serving leader where the child stands, after a read barrier: an
// append whose answer was lost is seen if it was committed.
func (s *Service) Source(ctx context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error) {
	h, err := s.leader(id)
	if err != nil {
		return partition.SourceState{}, err
	}
	if err := s.o.Raft.Barrier(ctx, h.Shard); err != nil {
		return partition.SourceState{}, proposalError(err)
	}
	var state partition.SourceState
	err = h.Query(ctx, func(p *partition.Partition) { state = p.Source(key) })
	if _, serving := h.Serving(); err == nil && !serving {
		err = ErrNotLeader
	}
	if err != nil {
		return partition.SourceState{}, proposalError(err)
	}
	return state, nil
}

// Trim moves the log start of a partition to the given offset, OffsetMax meaning
// the high watermark, and returns the log start that holds afterwards.
func (s *Service) Trim(ctx context.Context, id model.PartitionID, to model.Offset) (model.Offset, error) {
	h, err := s.leader(id)
	if err != nil {
		return model.NoOffset, err
	}
	var high, start model.Offset
	if err := h.Query(ctx, func(p *partition.Partition) { high, start = p.HighWatermark(), p.LogStart() }); err != nil {
		return model.NoOffset, proposalError(err)
	}
	switch {
	case to == model.OffsetMax:
		to = high
	case to < 0 || to > high:
		return model.NoOffset, fmt.Errorf("trim to %d, the high watermark is %d: %w", to, high, partition.ErrOffsetOutOfRange)
	case to <= start:
		return start, nil
	}
	cmd := partition.Command{Kind: partition.KindTrim, LogStart: to}
	out, err := s.commandCtx(ctx, h, &cmd)
	return out.LogStart, err
}

func (s *Service) leader(id model.PartitionID) (*core.Handle, error) {
	h, ok := s.o.Cores.Handle(id)
	if !ok {
		return nil, ErrUnknownPartition
	}
	if _, serving := h.Serving(); !serving {
		return nil, ErrNotLeader
	}
	return h, nil
}

// commandCtx is command with ctx's deadline, and with the outcome's own error.
func (s *Service) commandCtx(ctx context.Context, h *core.Handle, cmd *partition.Command) (partition.Outcome, error) {
	cmd.Epoch, _ = h.Serving()
	timeout := commandTimeout
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(d))
	}
	out, err := s.command(ctx, h, cmd, timeout)
	if err == nil {
		err = out.Err
	}
	if err != nil && !errors.Is(err, partition.ErrSourceConflict) {
		err = proposalError(err)
	}
	return out, err
}
