package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/broker/script"
)

// code stands for a sentinel on the wire. Never reuse a number: nodes of two
// versions talk to each other while a cluster is upgraded.
type code uint8

// sentinels are the errors that stay what they are between nodes: those that
// callers of the doors test for, and those that the verbs' doors name. A
// context.Canceled is left out: whose context it was means nothing elsewhere. A
// DeadlineExceeded is the caller's own deadline, which goes with the call.
var sentinels = []struct {
	code code
	is   error
}{
	{1, produce.ErrNotLeader},
	{2, produce.ErrUnknownPartition},
	{3, produce.ErrTimedOut},
	{4, produce.ErrTooLarge},
	{5, produce.ErrInvalidRecord},
	{6, produce.ErrInvalidTimestamp},
	{7, produce.ErrStorage},
	{8, script.ErrScriptUnavailable},
	{9, script.ErrScriptFailed},

	{20, fetch.ErrNotLeader},
	{21, fetch.ErrUnknownPartition},
	{22, fetch.ErrOffsetOutOfRange},
	{23, fetch.ErrFencedEpoch},
	{24, fetch.ErrUnknownEpoch},
	{25, fetch.ErrOffsetNotAvailable},

	{40, partition.ErrSourceConflict},
	{41, partition.ErrStaleEpoch},
	{42, partition.ErrOffsetOutOfRange},
	{43, partition.ErrCorrupt},
	{44, partition.ErrFormat},
	{45, partition.ErrMalformedBatch},
	{46, partition.ErrClosed},
	{47, partition.ErrOutOfOrderSequence},
	{48, partition.ErrDuplicateSequence},
	{49, partition.ErrProducerFenced},
	{50, partition.ErrUnknownProducer},

	{60, record.ErrShort},
	{61, record.ErrMagic},
	{62, record.ErrCRC},
	{63, record.ErrMalformed},
	{64, record.ErrInflated},
	{65, record.ErrCodec},

	{80, ErrBodyTooLarge},
	{81, context.DeadlineExceeded},
}

// textBytesMax bounds an error's text on its way.
const textBytesMax = 4 << 10

// failure is an error on the wire.
type failure struct {
	// Codes are all sentinels that it wraps. Codes not known here are left out by
	// who reads them.
	Codes []uint16 `json:"codes,omitempty"`
	Text  string   `json:"text"`
}

// failureOf puts err on the wire; nil stays nil.
func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	if len(f.Text) > textBytesMax {
		f.Text = strings.ToValidUTF8(f.Text[:textBytesMax], "") + "..."
	}
	for _, s := range sentinels {
		if errors.Is(err, s.is) {
			f.Codes = append(f.Codes, uint16(s.code))
		}
	}
	return f
}

// error takes f off the wire.
func (f *failure) error(node model.NodeID) error {
	if f == nil {
		return nil
	}
	e := &remoteError{node: node, text: f.Text}
	for _, s := range sentinels {
		if slices.Contains(f.Codes, uint16(s.code)) {
			e.is = append(e.is, s.is)
		}
	}
	return e
}

// remoteError is what another node's verb answered.
type remoteError struct {
	node model.NodeID
	text string
	is   []error
}

// Error gives the other node's text.
func (e *remoteError) Error() string { return fmt.Sprintf("node %d: %s", e.node, e.text) }

// Unwrap gives the sentinels that the error wrapped there.
func (e *remoteError) Unwrap() []error { return e.is }
