package script

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/plugins"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
)

var (
	// ErrScriptUnavailable says that a sync script of the topic does not run on
	// this node; nothing was written, and trying again is right.
	ErrScriptUnavailable = errors.New("a sync script of the topic is not running on this node")
	// ErrScriptFailed says that a sync script failed on the batch, and that the
	// batch is refused for it; nothing was written.
	ErrScriptFailed = errors.New("a sync script refused the batch")
)

// Log is what this room asks of the verbs produce and fetch, which lie above
// it: server gives them. Append may write internal topics.
type Log interface {
	Append(ctx context.Context, id model.PartitionID, batch []byte) (base model.Offset, err error)
	// Read waits at most wait for records at from, and gives whole batches that
	// may begin before it, with the bounds of the log.
	Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int, wait time.Duration) (ReadAnswer, error)
	// Offset is ListOffsets with read_committed: fetch's special timestamps, or
	// ms; NoOffset when no record is that young.
	Offset(ctx context.Context, id model.PartitionID, timestamp int64) (model.Offset, error)
	Activate(ctx context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error)
	Source(ctx context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error)
}

// ReadAnswer answers Log.Read.
type ReadAnswer struct {
	LogStart, HighWatermark model.Offset
	Records                 []byte
}

// The special timestamps of Log.Offset.
const (
	timestampLatest   = -1
	timestampEarliest = -2
)

// Fibers tells of the async scripts that run on this node; pacemaker does.
type Fibers interface {
	Fibers(script model.ScriptID) []FiberState
}

// Sidecar is a link to a running sidecar.
type Sidecar struct {
	Control control.Control
	Sync    plugsync.Transformer
	Async   async.Opener
	Died    <-chan struct{} // closed when it is gone
	Close   func() error    // drops the link
}

// FromPlugins takes what plugins.Launch and plugins.Attach give.
func FromPlugins(s *plugins.Sidecar) Sidecar {
	return Sidecar{Control: s.Control, Sync: s.Sync, Async: s.Async, Died: s.Died(), Close: s.Close}
}

// ErrNoPlan says that nothing is known of an activation. What it left behind
// cannot be finished.
var ErrNoPlan = errors.New("the activation is not remembered")
