package coordinator

import (
	"context"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
)

// Log is what a loop asks of the partitions of __consumer_offsets that this node
// serves; NewLog makes one of produce and fetch.
type Log interface {
	// Append starts the write of one batch and does not wait. Writes to one
	// partition enter the log in the order of Append.
	Append(id model.PartitionID, batch []byte, timeout time.Duration) Appending
	// Read gives whole batches from an offset on, or from the log's start for
	// NoOffset. It does not wait for more to come.
	Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int) (Chunk, error)
	// Barrier returns once this node is known to have led the partition at some
	// time since the call, and to have applied all that was committed before it.
	Barrier(ctx context.Context, id model.PartitionID) error
}

// Appending is a write under way.
type Appending interface {
	Done() <-chan struct{}
	// Err waits, and gives nil, ErrNotCoordinator, ErrRecordTooLarge or
	// ErrUnavailable (surely not written), or another error: the outcome is unknown.
	Err() error
}

// Chunk is a part of a log.
type Chunk struct {
	// Records are whole batches; the first may begin before the offset asked for.
	Records []byte
	// Start is the log's first offset, End the offset after its last committed one.
	Start, End model.Offset
}

// Cluster is what the coordinator asks of the cluster's metadata.
type Cluster interface {
	Metadata() *cluster.Metadata
	Leader(id model.PartitionID) (model.NodeID, model.LeaderEpoch)
	Watch() (changed <-chan struct{}, cancel func())
	CreateTopics(ctx context.Context, topics []cluster.CreateTopic, validateOnly bool) ([]cluster.TopicResult, error)
}

var _ Cluster = (*cluster.Cluster)(nil)
