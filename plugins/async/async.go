package async

import (
	"context"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
)

// Opener opens fibers.
type Opener interface {
	// Open makes a fiber ready. Errors wrap control.ErrUnknownScript,
	// ErrSession, ErrDown, ErrMemory (the reason is in the text: park the
	// fiber and try later) or ErrRequest, or are ctx's error. The fiber
	// outlives ctx.
	Open(ctx context.Context, spec FiberSpec) (Fiber, error)
}

// Fiber transforms the batches of one parent partition for one script.
type Fiber interface {
	// Transform runs the script on a batch. It may be called again before an
	// earlier call is answered, from one goroutine each: batches are taken in
	// the order of the calls. Errors are as Open's; after one of them the
	// fiber is good for nothing but Close. If ctx ends, the call returns its
	// error and the answer is dropped; the fiber goes on.
	Transform(ctx context.Context, b Batch) (Result, error)
	// Close gives the fiber back. Calls under way fail.
	Close() error
}

// FiberSpec says what a fiber is.
type FiberSpec struct {
	Digest     model.Digest
	Script     model.ScriptID
	Activation model.Activation
	Topic      string            // of the parent; for names in errors and logs
	Parent     model.PartitionID // its topic id and partition seed the guest's random numbers
	Input      int               // index of the parent in the script's inputs
	Outputs    []Output          // as the module's Outputs, same order
	Retries    int               // runs again that a failing record is given before it is reported; 0 = none
}

// Output is how a script's output is written.
type Output struct {
	Partitions int32 // used for routing; > 0
	Routing    Routing
	Codec      Codec
}

// Routing chooses the child's partition where a guest gave no hint.
type Routing int32

// The ways of routing.
const (
	RouteSame Routing = iota // the parent's partition, modulo Partitions
	RouteKey                 // Kafka's murmur2 of the key, modulo Partitions; a null key as RouteSame
)

// Codec is a batch's compression, numbered as in Kafka's attributes.
type Codec int32

// The codecs.
const (
	CodecNone Codec = iota
	CodecGzip
	CodecSnappy
	CodecLZ4
	CodecZstd
)

// Batch is a range of the parent.
type Batch struct {
	From, To model.Offset   // [From, To); records outside of it are not looked at
	Records  []byte         // whole Kafka v2 batches, maybe compressed, without aborted ones; control batches are passed over; only read
	Avoid    []model.Offset // ascending; records not to run, as if they were not there; the caller knows them as failed
}

// Result is what became of a range.
type Result struct {
	Outputs        []OutputBatches // in order of output, then partition; only those with records
	Failed         []FailedRecord  // ascending
	RecordsIn      int64           // given to the guest
	RecordsOut     int64
	RecordsDropped int64         // sources without any output, without those that failed
	CPU            time.Duration // spent in the guest
}

// OutputBatches go to one child partition, in order.
type OutputBatches struct {
	Output    int
	Partition int32
	Batches   [][]byte // Kafka v2, at most BatchBytesMax each unless one record is larger; the receiver owns them
}

// BatchBytesMax bounds a result's batch, before compression, so that a child's
// batches stay below Kafka's default message.max.bytes.
const BatchBytesMax = 1 << 20

// FailedRecord is a record that the script failed on, all retries used.
type FailedRecord struct {
	Offset model.Offset
	Kind   control.FailureKind
	Text   string
}
