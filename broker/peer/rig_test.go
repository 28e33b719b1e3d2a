package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/pacemaker"
)

var (
	_ script.Log         = (*Service)(nil)
	_ script.Nodes       = (*Service)(nil)
	_ pacemaker.Children = (*Service)(nil)
)

// verbs are a node's own, in memory: each call is noted and answered with what is
// set here, but AppendSource and Source, once children is set.
type verbs struct {
	mu       sync.Mutex
	calls    []string
	err      error
	state    partition.SourceState
	offset   model.Offset
	read     script.ReadAnswer
	waits    bool // Read waits for its time or for ctx
	report   script.Report
	lines    script.Lines
	children map[model.PartitionID]partition.SourceState
	applied  []string // batches that a child took
}

func (v *verbs) note(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls = append(v.calls, fmt.Sprintf(format, args...))
}

func (v *verbs) taken() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	calls := v.calls
	v.calls = nil
	return calls
}

func (v *verbs) Append(_ context.Context, id model.PartitionID, batch []byte) (model.Offset, error) {
	v.note("append %s %q", id, batch)
	return v.offset, v.err
}

func (v *verbs) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int, wait time.Duration) (script.ReadAnswer, error) {
	v.note("read %s %d %d %s", id, from, bytesMax, wait)
	if v.waits {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			v.note("gone")
		}
	}
	return v.read, v.err
}

func (v *verbs) Offset(_ context.Context, id model.PartitionID, timestamp int64) (model.Offset, error) {
	v.note("offset %s %d", id, timestamp)
	return v.offset, v.err
}

func (v *verbs) Activate(_ context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error) {
	v.note("activate %s %+v", id, a)
	return v.state, v.err
}

func (v *verbs) Source(_ context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error) {
	v.note("source %s %+v", id, key)
	if v.children != nil {
		return v.children[id], nil
	}
	return v.state, v.err
}

func (v *verbs) AppendSource(_ context.Context, id model.PartitionID, src partition.Source, batches [][]byte) (partition.SourceState, error) {
	v.note("append source %s %+v %q", id, src, batches)
	if v.children == nil {
		return v.state, v.err
	}
	s := v.children[id]
	if !s.Known || s.Activation != src.Activation || s.Offset != src.From {
		return s, partition.ErrSourceConflict
	}
	for _, b := range batches {
		v.applied = append(v.applied, string(b))
	}
	s.Offset = src.To
	v.children[id] = s
	return s, nil
}

func (v *verbs) Report(ask script.ReportAsk) script.Report {
	v.note("report %v", ask.Scripts)
	return v.report
}

func (v *verbs) Lines(_ context.Context, ask script.LinesAsk) (script.Lines, error) {
	v.note("lines %+v", ask)
	return v.lines, v.err
}

// net joins nodes; do, if not nil, stands between a call and its answer.
type net struct {
	nodes map[model.NodeID]*Service
	calls int
	do    func(body []byte, answer func() ([]byte, error)) ([]byte, error)
}

var errReset = errors.New("connection reset by peer")

// from gives a node's way to the others, as raft is to give it: what Answer
// refuses comes back as a refusal.
func (n *net) from(node model.NodeID) Caller {
	return func(ctx context.Context, to model.NodeID, body []byte) ([]byte, error) {
		n.calls++
		body = slices.Clone(body)
		answer := func() ([]byte, error) {
			out, err := n.nodes[to].Answer(ctx, node, body)
			if err != nil {
				return nil, &Refusal{Code: 7, Text: err.Error()}
			}
			return out, nil
		}
		if n.do != nil {
			return n.do(body, answer)
		}
		return answer()
	}
}

// rig is two nodes: 1 leads what there is, 2 has to ask it.
type rig struct {
	net
	own      [3]*verbs // by node
	leader   model.NodeID
	exists   bool
	led, far *Service
}

var (
	somePartition = model.PartitionID{Topic: model.TopicID{'t', 1}, Index: 3}
	someKey       = model.SourceKey{Script: 7, Parent: model.PartitionID{Topic: model.TopicID{'p'}, Index: 1}}
)

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{leader: 1, exists: true, own: [3]*verbs{{}, {}, {err: produce.ErrUnknownPartition}}}
	r.nodes = map[model.NodeID]*Service{}
	for node := model.NodeID(1); node <= 2; node++ {
		r.nodes[node] = New(Options{
			Node: node, Local: r.own[node], Call: r.from(node), BodyBytesMax: bodyBytesMin,
			Leader: func(model.PartitionID) (model.NodeID, model.LeaderEpoch) { return r.leader, 4 },
			Exists: func(model.PartitionID) bool { return r.exists },
			Log:    slog.New(slog.DiscardHandler),
		})
		r.nodes[node].UseScripts(r.own[node])
	}
	r.led, r.far = r.nodes[1], r.nodes[2]
	return r
}

// doors are the verbs as their callers use them; each gives all that it answered.
var doors = map[verb]func(ctx context.Context, s *Service) (string, error){
	verbAppend: func(ctx context.Context, s *Service) (string, error) {
		base, err := s.Append(ctx, somePartition, []byte("batch"))
		return fmt.Sprint(base), err
	},
	verbRead: func(ctx context.Context, s *Service) (string, error) {
		a, err := s.Read(ctx, somePartition, 41, 1000, 5*time.Millisecond)
		return fmt.Sprintf("%+v", a), err
	},
	verbOffset: func(ctx context.Context, s *Service) (string, error) {
		at, err := s.Offset(ctx, somePartition, -2)
		return fmt.Sprint(at), err
	},
	verbActivate: func(ctx context.Context, s *Service) (string, error) {
		state, err := s.Activate(ctx, somePartition, partition.Activate{Key: someKey, Activation: 9, Offset: 12, Keep: true, Remove: true, Announce: true})
		return fmt.Sprintf("%+v", state), err
	},
	verbSource: func(ctx context.Context, s *Service) (string, error) {
		state, err := s.Source(ctx, somePartition, someKey)
		return fmt.Sprintf("%+v", state), err
	},
	verbAppendSource: func(ctx context.Context, s *Service) (string, error) {
		state, err := s.AppendSource(ctx, somePartition, someSource(), [][]byte{[]byte("one"), []byte("two")})
		return fmt.Sprintf("%+v", state), err
	},
}

func someSource() partition.Source {
	return partition.Source{Key: someKey, Activation: 1 << 60, Seen: 1<<60 + 1, From: 10, To: 20, Gap: 2, Verdicts: []model.Offset{11, 13}}
}
