package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/script"
)

// Local are this node's own verbs: what is not served here they refuse.
type Local interface {
	script.Log
	AppendSource(ctx context.Context, id model.PartitionID, src partition.Source, batches [][]byte) (partition.SourceState, error)
}

// Scripts tells what this node's scripts do: package script's Service does.
type Scripts interface {
	Report(ask script.ReportAsk) script.Report
	Lines(ctx context.Context, ask script.LinesAsk) (script.Lines, error)
}

// ErrUnreached says that another node told nothing: that it lives is not known.
var ErrUnreached = errors.New("not reached")

// Caller gives body to Answer of another node and returns what that returned. A
// *Refusal says that nothing was done. After any other error the call may have
// been executed, or may yet be. The answer belongs to who called.
type Caller func(ctx context.Context, node model.NodeID, body []byte) ([]byte, error)

// Refusal is a peer's answer that it did not do what it was asked: it cannot read
// the call, has no such door, or takes no more calls now.
type Refusal struct {
	Code uint8
	Text string
}

// Error names the code.
func (r *Refusal) Error() string { return fmt.Sprintf("call refused with code %d: %s", r.Code, r.Text) }

const (
	// bodyBytesDefault is BodyBytesMax unless asked otherwise.
	bodyBytesDefault = 4 << 20
	// bodyBytesMin has room for every answer but a read's: a source's state has up to
	// 4,096 verdicts.
	bodyBytesMin = 256 << 10
	// headerRoom is what the rest of an answer to a read may take beside its records.
	headerRoom = 4 << 10
	// answerWait is how long an answer may take: the verbs give up after 10 seconds.
	answerWait = 15 * time.Second
	// waitMax bounds what a read waits at another node.
	waitMax = time.Minute
)

// Options wires a Service.
type Options struct {
	Node  model.NodeID // this one
	Local Local
	// Leader says who serves a partition; NoNode: nobody, as far as is known here.
	Leader func(model.PartitionID) (model.NodeID, model.LeaderEpoch)
	// Exists tells whether the cluster's metadata has the partition.
	Exists func(model.PartitionID) bool
	Call   Caller
	// BodyBytesMax is the largest body that Call takes and Answer may return, at
	// least 256 KiB; 0 is 4 MiB.
	BodyBytesMax int
	Log          *slog.Logger // nil: slog.Default
}

// Service reaches any partition of the cluster. Its methods may be called from any
// goroutine. It is script.Log, script.Nodes and pacemaker.Children.
type Service struct {
	o       Options
	scripts Scripts
}

// UseScripts gives what other nodes ask of this one's scripts, which are made after
// it; call it before Answer. Without, they are told nothing.
func (s *Service) UseScripts(x Scripts) { s.scripts = x }

// New gives a Service over o.
func New(o Options) *Service {
	if o.BodyBytesMax <= 0 {
		o.BodyBytesMax = bodyBytesDefault
	}
	o.BodyBytesMax = max(o.BodyBytesMax, bodyBytesMin)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Service{o: o}
}

// Append implements script.Log.
func (s *Service) Append(ctx context.Context, id model.PartitionID, batch []byte) (model.Offset, error) {
	node, remote := s.route(id)
	if !remote {
		base, err := s.o.Local.Append(ctx, id, batch)
		return base, s.judge(id, err)
	}
	r, err := s.call(ctx, node, &ask{verb: verbAppend, Partition: id, batches: [][]byte{batch}})
	return r.Offset, err
}

// Read implements script.Log. At another node it takes no more than a body holds,
// and waits no longer than a minute.
func (s *Service) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int, wait time.Duration) (script.ReadAnswer, error) {
	node, remote := s.route(id)
	if !remote {
		a, err := s.o.Local.Read(ctx, id, from, bytesMax, wait)
		return a, s.judge(id, err)
	}
	r, err := s.call(ctx, node, &ask{verb: verbRead, Partition: id, Read: &wireRead{
		From: from, BytesMax: min(bytesMax, s.o.BodyBytesMax-headerRoom), WaitMs: min(max(wait, 0), waitMax).Milliseconds(),
	}})
	return script.ReadAnswer{LogStart: r.LogStart, HighWatermark: r.HighWatermark, Records: r.records}, err
}

// Offset implements script.Log.
func (s *Service) Offset(ctx context.Context, id model.PartitionID, timestamp int64) (model.Offset, error) {
	node, remote := s.route(id)
	if !remote {
		at, err := s.o.Local.Offset(ctx, id, timestamp)
		return at, s.judge(id, err)
	}
	r, err := s.call(ctx, node, &ask{verb: verbOffset, Partition: id, Timestamp: timestamp})
	return r.Offset, err
}

// Activate implements script.Log and pacemaker.Children.
func (s *Service) Activate(ctx context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error) {
	node, remote := s.route(id)
	if !remote {
		state, err := s.o.Local.Activate(ctx, id, a)
		return state, s.judge(id, err)
	}
	w := wireActivate(a)
	r, err := s.call(ctx, node, &ask{verb: verbActivate, Partition: id, Activate: &w})
	return partition.SourceState(r.State), err
}

// Source implements script.Log and pacemaker.Children.
func (s *Service) Source(ctx context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error) {
	node, remote := s.route(id)
	if !remote {
		state, err := s.o.Local.Source(ctx, id, key)
		return state, s.judge(id, err)
	}
	r, err := s.call(ctx, node, &ask{verb: verbSource, Partition: id, Key: &key})
	return partition.SourceState(r.State), err
}

// AppendSource implements pacemaker.Children.
func (s *Service) AppendSource(ctx context.Context, id model.PartitionID, src partition.Source, batches [][]byte) (partition.SourceState, error) {
	node, remote := s.route(id)
	if !remote {
		state, err := s.o.Local.AppendSource(ctx, id, src, batches)
		return state, s.judge(id, err)
	}
	w := wireSource(src)
	r, err := s.call(ctx, node, &ask{verb: verbAppendSource, Partition: id, Source: &w, batches: batches})
	return partition.SourceState(r.State), err
}

// Report implements script.Nodes.
func (s *Service) Report(ctx context.Context, node model.NodeID, of script.ReportAsk) (script.Report, error) {
	r, err := s.call(ctx, node, &ask{verb: verbReport, Report: &of})
	if err != nil || r.Report == nil {
		return script.Report{}, err
	}
	return *r.Report, nil
}

// Lines implements script.Nodes.
func (s *Service) Lines(ctx context.Context, node model.NodeID, of script.LinesAsk) (script.Lines, error) {
	r, err := s.call(ctx, node, &ask{verb: verbLines, Lines: &of})
	if r.Lines == nil {
		return script.Lines{}, err
	}
	return *r.Lines, err
}

// route says whom to ask. While nobody is known to lead, this node's own verbs say
// what is wrong: they may also know better.
func (s *Service) route(id model.PartitionID) (node model.NodeID, remote bool) {
	node, _ = s.o.Leader(id)
	return node, node != model.NoNode && node != s.o.Node
}

// judge keeps a node that has no replica of a partition from saying that the
// partition is gone.
func (s *Service) judge(id model.PartitionID, err error) error {
	notLeader := error(nil)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, produce.ErrUnknownPartition):
		notLeader = produce.ErrNotLeader
	case errors.Is(err, fetch.ErrUnknownPartition):
		notLeader = fetch.ErrNotLeader
	}
	if notLeader == nil || !s.o.Exists(id) {
		return err
	}
	return fmt.Errorf("%w: %s here, which exists", notLeader, err) // not %w: it must not match
}

// failing are the answers of a verb that was not done: lost is that of a call
// whose outcome is unknown.
func (v verb) failing() (refused, lost error) {
	switch v {
	case verbRead, verbOffset:
		return fetch.ErrNotLeader, fetch.ErrNotLeader
	case verbSource:
		return produce.ErrNotLeader, produce.ErrNotLeader
	case verbReport, verbLines:
		return ErrUnreached, ErrUnreached
	}
	return produce.ErrNotLeader, produce.ErrTimedOut
}

// at says what is asked of whom.
func (a *ask) at(node model.NodeID) string {
	if a.Report != nil || a.Lines != nil {
		return fmt.Sprintf("%s at node %d", a.verb, node)
	}
	return fmt.Sprintf("%s in %s at node %d", a.verb, a.Partition, node)
}

// call asks a node and gives its verb's answer; the reply is never nil.
func (s *Service) call(ctx context.Context, node model.NodeID, a *ask) (*reply, error) {
	none := &reply{Offset: model.NoOffset, LogStart: model.NoOffset, HighWatermark: model.NoOffset}
	patience := answerWait
	if a.Read != nil {
		patience += time.Duration(a.Read.WaitMs) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if end, ok := ctx.Deadline(); ok {
		a.TimeoutMs = max(time.Until(end).Milliseconds(), 1)
	}
	body, err := a.encode(s.o.BodyBytesMax)
	if err != nil {
		return none, fmt.Errorf("%s: %w", a.at(node), err)
	}
	refused, lost := a.verb.failing()
	fail := func(kind, err error) (*reply, error) {
		s.o.Log.Debug("call to a peer failed", "node", node, "verb", a.verb.String(), "partition", a.Partition, "err", err)
		return none, fmt.Errorf("%w: %s: %w", kind, a.at(node), err)
	}
	answer, err := s.o.Call(ctx, node, body)
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return fail(refused, err)
	case err != nil:
		return fail(lost, err)
	}
	r, err := decodeReply(answer, a.verb)
	if err != nil {
		return fail(lost, err)
	}
	err = r.Failure.error(node)
	if a.Partition == (model.PartitionID{}) {
		return r, err
	}
	return r, s.judge(a.Partition, err)
}
