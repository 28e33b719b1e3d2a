package sync

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
)

// Transformer runs sync scripts.
type Transformer interface {
	// Transform runs the script on one batch. The deadline is ctx's, at most
	// the script's own limit; a guest that exceeds it is a Failure.
	//
	// A returned error means that the script did not run, or that its answer
	// was lost: it wraps control.ErrUnknownScript, ErrSession, ErrDown,
	// ErrMemory or ErrRequest, or is ctx's error.
	Transform(ctx context.Context, b Batch) (Result, error)
}

// Batch is what a script is given. Offsets are not known yet: guests see each
// record's delta in the batch as its offset.
type Batch struct {
	Digest    model.Digest
	Topic     string // must be one of the script's inputs
	TopicID   model.TopicID
	Partition int32
	Records   []byte // exactly one Kafka v2 record batch, as received, maybe compressed; only read
}

// Result is what became of a batch. At most one of Unchanged, Records and
// Failure is set.
type Result struct {
	Unchanged  bool   // store the batch as it came
	Records    []byte // the new batch; the receiver owns it
	Failure    *Failure
	RecordsIn  int
	RecordsOut int
	CPU        time.Duration // spent in the guest
}

// Failure says that the script failed; the batch is as it was.
type Failure struct {
	Source int // index of the record in the batch, -1 = the whole batch
	Kind   control.FailureKind
	Text   string
}

// Error says which record failed and why.
func (f *Failure) Error() string {
	if f.Source < 0 {
		return fmt.Sprintf("script failed (%s): %s", f.Kind, f.Text)
	}
	return fmt.Sprintf("script failed on record %d of the batch (%s): %s", f.Source, f.Kind, f.Text)
}
