package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// errNoScripts refuses to tell of scripts where none run.
var errNoScripts = errors.New("no scripts run here")

// Answer does what another node asks, by this node's own verbs alone. body is
// Answer's for good: an append may outlive ctx. An error says that nothing was
// done: the call cannot be read. What a verb answers, its errors too, is in the
// answer's body.
func (s *Service) Answer(ctx context.Context, from model.NodeID, body []byte) ([]byte, error) {
	a, err := decodeAsk(body)
	if err != nil {
		s.o.Log.Warn("call of a peer not read", "from", from, "err", err)
		return nil, fmt.Errorf("call of node %d: %w", from, err)
	}
	if s.scripts == nil && (a.verb == verbReport || a.verb == verbLines) {
		return nil, fmt.Errorf("call of node %d: %w", from, errNoScripts)
	}
	if a.TimeoutMs > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, milliseconds(a.TimeoutMs))
		defer cancel()
	}
	r, err := s.perform(ctx, a)
	r.verb, r.Failure = a.verb, failureOf(err)
	out, err := r.encode(s.o.BodyBytesMax)
	if err != nil { // only what is read can be that large: nothing was written
		r = &reply{verb: a.verb, Offset: model.NoOffset, LogStart: r.LogStart, HighWatermark: r.HighWatermark, Failure: failureOf(err)}
		out, err = r.encode(s.o.BodyBytesMax)
	}
	return out, err
}

// milliseconds is n of them, but no more than a caller ever waits.
func milliseconds(n int64) time.Duration {
	return time.Duration(min(n, int64(answerWait+waitMax)/int64(time.Millisecond))) * time.Millisecond
}

// perform asks this node's verb; the reply is never nil.
func (s *Service) perform(ctx context.Context, a *ask) (*reply, error) {
	r := &reply{Offset: model.NoOffset, LogStart: model.NoOffset, HighWatermark: model.NoOffset}
	var err error
	var state partition.SourceState
	switch a.verb {
	case verbAppend:
		r.Offset, err = s.o.Local.Append(ctx, a.Partition, a.batches[0])
	case verbRead:
		got, failed := s.o.Local.Read(ctx, a.Partition, a.Read.From, a.Read.BytesMax, milliseconds(a.Read.WaitMs))
		r.LogStart, r.HighWatermark, err = got.LogStart, got.HighWatermark, failed
		if err == nil {
			r.records = got.Records
		}
	case verbOffset:
		r.Offset, err = s.o.Local.Offset(ctx, a.Partition, a.Timestamp)
	case verbActivate:
		state, err = s.o.Local.Activate(ctx, a.Partition, partition.Activate(*a.Activate))
	case verbSource:
		state, err = s.o.Local.Source(ctx, a.Partition, *a.Key)
	case verbAppendSource:
		state, err = s.o.Local.AppendSource(ctx, a.Partition, partition.Source(*a.Source), a.batches)
	case verbReport:
		report := s.scripts.Report(*a.Report)
		r.Report = &report
	case verbLines:
		lines, failed := s.scripts.Lines(ctx, *a.Lines)
		r.Lines, err = &lines, failed
	}
	r.State = wireState(state)
	return r, err
}
