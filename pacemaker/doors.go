package pacemaker

import (
	"context"
	"log/slog"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/plugins/async"
)

// Reader is what fibers ask of broker/fetch of their parents, which this node leads.
type Reader interface {
	Fetch(ctx context.Context, ask fetch.Ask) []fetch.PartitionAnswer
	ListOffset(ctx context.Context, ask fetch.ListAsk) (fetch.ListAnswer, error)
}

// Children is what fibers ask of the partitions that they write to, whoever leads
// them: the compare-and-set appends, and what dead letters there are.
type Children interface {
	AppendSource(ctx context.Context, id model.PartitionID, src partition.Source, batches [][]byte) (partition.SourceState, error)
	Activate(ctx context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error)
	Source(ctx context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error)
	// Read and Offset are script.Log's.
	Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int, wait time.Duration) (script.ReadAnswer, error)
	Offset(ctx context.Context, id model.PartitionID, timestamp int64) (model.Offset, error)
}

// View gives the async scripts as the cluster's metadata has them.
type View interface {
	// Specs gives those that shall run, removed ones left out.
	Specs() []*Spec
	// Watch ticks after each change; ticks that nobody took yet are one.
	Watch() (changed <-chan struct{}, cancel func())
}

// Plans remembers what each activation of a script was: a fiber that finds
// children under an older one has to finish it as it was begun.
type Plans interface {
	// Remember stores s unless its activation is known, and gives what is known.
	Remember(ctx context.Context, s *Spec) (*Spec, error)
	// Recall gives script.ErrNoPlan for an activation that nobody remembered.
	Recall(ctx context.Context, script model.ScriptID, a model.Activation) (*Spec, error)
}

// ErrNoPlan says that nothing is known of an activation. What it left behind
// cannot be finished.
var ErrNoPlan = script.ErrNoPlan

// Journal takes the records of __pacemaker; script.Topic does.
type Journal interface {
	Put(ctx context.Context, records []script.KV) (model.Offset, error)
}

// Options wires a Pacemaker.
type Options struct {
	Node     model.NodeID
	Reader   Reader
	Children Children
	Sidecar  async.Opener // fails with control.ErrDown while there is none
	Nudge    <-chan struct{}
	View     View
	Plans    Plans
	Journal  Journal          // nil: nothing is written for inspection
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: slog.Default
}
