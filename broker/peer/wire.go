package peer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/script"
)

var (
	// ErrMalformed says that a body is not what this version writes: damage, or a
	// bug. A call was not executed; what an answer answers may have been.
	ErrMalformed = errors.New("malformed body of a call between nodes")
	// ErrVersion says that a body is of another version. Upgrade the older node.
	ErrVersion = errors.New("unsupported version of a call between nodes")
	// ErrBodyTooLarge says that a call or an answer holds more than nodes give each
	// other at once. Nothing was written, and the same will not pass another time:
	// it is a produce.ErrTooLarge, though another limit than a topic's.
	ErrBodyTooLarge error = tooLarge{}
)

type tooLarge struct{}

// Error is the sentinel's text.
func (tooLarge) Error() string { return "larger than what nodes give each other at once" }

// Is makes it be judged as produce's error is.
func (tooLarge) Is(target error) bool { return target == produce.ErrTooLarge }

const (
	wireVersion = 1
	// prefixBytes are version, verb and the header's length.
	prefixBytes = 1 + 1 + 4
	// answerBit marks the verb of an answer.
	answerBit = 0x80
)

// verb says which door a call is for. The numbers are the wire's: never reuse one.
type verb uint8

const (
	verbAppend       verb = 1
	verbRead         verb = 2
	verbOffset       verb = 3
	verbActivate     verb = 4
	verbSource       verb = 5
	verbAppendSource verb = 6
	verbReport       verb = 7
	verbLines        verb = 8

	verbLast = verbLines
)

var verbNames = [...]string{"none", "append", "read", "find an offset", "activate", "ask for a source", "append from a source",
	"ask how scripts stand", "ask what a script printed"}

// String gives the verb's name.
func (v verb) String() string {
	if v > verbLast {
		return fmt.Sprintf("verb(%d)", uint8(v))
	}
	return verbNames[v]
}

// ask is a call. Which fields count depends on the verb.
type ask struct {
	Partition model.PartitionID `json:"partition"`
	// TimeoutMs is what is left of the caller's patience; 0 is no bound.
	TimeoutMs int64             `json:"timeout_ms,omitempty"`
	Source    *wireSource       `json:"source,omitempty"`
	Activate  *wireActivate     `json:"activate,omitempty"`
	Key       *model.SourceKey  `json:"key,omitempty"`
	Read      *wireRead         `json:"read,omitempty"`
	Timestamp int64             `json:"timestamp,omitempty"`
	Lengths   []uint32          `json:"lengths,omitempty"` // of batches
	Report    *script.ReportAsk `json:"report,omitempty"`
	Lines     *script.LinesAsk  `json:"lines,omitempty"`

	verb    verb
	batches [][]byte
}

// reply is an answer. Which fields count depends on the verb.
type reply struct {
	Failure *failure `json:"failure,omitempty"`
	// State comes with a source conflict too.
	State         wireState      `json:"state"`
	Offset        model.Offset   `json:"offset"` // base of what was appended, or the one found
	LogStart      model.Offset   `json:"log_start"`
	HighWatermark model.Offset   `json:"high_watermark"`
	Lengths       []uint32       `json:"lengths,omitempty"` // of records: one piece, or none
	Report        *script.Report `json:"report,omitempty"`
	Lines         *script.Lines  `json:"lines,omitempty"`

	verb    verb
	records []byte
}

// wireRead is what script.Log's Read asks.
type wireRead struct {
	From     model.Offset `json:"from"`
	BytesMax int          `json:"bytes_max"`
	WaitMs   int64        `json:"wait_ms"`
}

// The types below are those of package partition with the wire's names. They
// convert into one another: a field that is added there does not compile here
// before the version is raised.

type wireSource struct {
	Key        model.SourceKey  `json:"key"`
	Activation model.Activation `json:"activation"`
	Seen       model.Activation `json:"seen"`
	From       model.Offset     `json:"from"`
	To         model.Offset     `json:"to"`
	Gap        int64            `json:"gap,omitempty"`
	Verdicts   []model.Offset   `json:"verdicts,omitempty"`
}

type wireActivate struct {
	Key        model.SourceKey  `json:"key"`
	Activation model.Activation `json:"activation"`
	Offset     model.Offset     `json:"offset"`
	Keep       bool             `json:"keep,omitempty"`
	Remove     bool             `json:"remove,omitempty"`
	Announce   bool             `json:"announce,omitempty"`
}

type wireState struct {
	Activation model.Activation `json:"activation"`
	Announced  model.Activation `json:"announced"`
	Offset     model.Offset     `json:"offset"`
	Known      bool             `json:"known,omitempty"`
	Gap        int64            `json:"gap,omitempty"`
	Verdicts   []model.Offset   `json:"verdicts,omitempty"`
}

var (
	_ = partition.Source(wireSource{})
	_ = partition.Activate(wireActivate{})
	_ = partition.SourceState(wireState{})
)

// encode gives the body of a, or ErrBodyTooLarge.
func (a *ask) encode(bytesMax int) ([]byte, error) {
	a.Lengths = nil
	for _, b := range a.batches {
		a.Lengths = append(a.Lengths, uint32(min(len(b), 1<<31))) // what is larger than that fails below
	}
	return encode(byte(a.verb), a, a.batches, bytesMax)
}

// encode gives the body of r, or ErrBodyTooLarge.
func (r *reply) encode(bytesMax int) ([]byte, error) {
	var batches [][]byte
	r.Lengths = nil
	if len(r.records) > 0 {
		batches, r.Lengths = [][]byte{r.records}, []uint32{uint32(min(len(r.records), 1<<31))}
	}
	return encode(byte(r.verb)|answerBit, r, batches, bytesMax)
}

func encode(kind byte, header any, batches [][]byte, bytesMax int) ([]byte, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("encode a header: %w", err)
	}
	size := prefixBytes + len(h)
	for _, b := range batches {
		size += len(b)
	}
	if size > bytesMax {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrBodyTooLarge, size, bytesMax)
	}
	out := make([]byte, 0, size)
	out = append(out, wireVersion, kind)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(h)))
	out = append(out, h...)
	for _, b := range batches {
		out = append(out, b...)
	}
	return out, nil
}

// decodeAsk reads a call. Its batches alias b.
func decodeAsk(b []byte) (*ask, error) {
	a := &ask{}
	kind, rest, err := decode(b, a)
	if err != nil {
		return nil, err
	}
	a.verb = verb(kind)
	if a.batches, err = split(rest, a.Lengths); err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	return a, nil
}

// check tells whether a has what its verb needs.
func (a *ask) check() error {
	whole, batches := true, 0
	switch a.verb {
	case verbAppend:
		batches = 1
	case verbRead:
		whole = a.Read != nil
	case verbOffset:
	case verbActivate:
		whole = a.Activate != nil
	case verbSource:
		whole = a.Key != nil
	case verbAppendSource:
		whole, batches = a.Source != nil, len(a.batches)
	case verbReport:
		whole = a.Report != nil
	case verbLines:
		whole = a.Lines != nil
	default:
		return fmt.Errorf("%w: %s", ErrMalformed, a.verb)
	}
	if !whole || len(a.batches) != batches || a.TimeoutMs < 0 {
		return fmt.Errorf("%w: the header is not one of %q, with %d batches", ErrMalformed, a.verb, len(a.batches))
	}
	return nil
}

// decodeReply reads the answer to a call of v. Its records alias b.
func decodeReply(b []byte, v verb) (*reply, error) {
	r := &reply{verb: v}
	kind, rest, err := decode(b, r)
	if err != nil {
		return nil, err
	}
	if kind != byte(v)|answerBit {
		return nil, fmt.Errorf("%w: kind %d is not an answer to %q", ErrMalformed, kind, v)
	}
	pieces, err := split(rest, r.Lengths)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Failure == nil && (v == verbReport && r.Report == nil || v == verbLines && r.Lines == nil):
		return nil, fmt.Errorf("%w: nothing in an answer to %q", ErrMalformed, v)
	case len(pieces) > 1 || len(pieces) == 1 && v != verbRead:
		return nil, fmt.Errorf("%w: %d pieces of records in an answer to %q", ErrMalformed, len(pieces), v)
	case len(pieces) == 1:
		r.records = pieces[0]
	}
	return r, nil
}

// decode reads what calls and answers have in common: the header goes to into.
func decode(b []byte, into any) (kind byte, rest []byte, err error) {
	if len(b) < prefixBytes {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	if b[0] != wireVersion {
		return 0, nil, fmt.Errorf("%w: %d, this node speaks %d", ErrVersion, b[0], wireVersion)
	}
	n, rest := binary.LittleEndian.Uint32(b[2:]), b[prefixBytes:]
	if uint64(n) > uint64(len(rest)) {
		return 0, nil, fmt.Errorf("%w: a header of %d bytes, %d are there", ErrMalformed, n, len(rest))
	}
	d := json.NewDecoder(bytes.NewReader(rest[:n]))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return 0, nil, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return 0, nil, fmt.Errorf("%w: bytes behind the header's end", ErrMalformed)
	}
	return b[1], rest[n:], nil
}

// split cuts b into pieces of the given lengths, which must be all of it. None is
// empty, so that there are no more pieces than bytes.
func split(b []byte, lengths []uint32) ([][]byte, error) {
	left := uint64(len(b))
	for _, n := range lengths {
		if n == 0 || uint64(n) > left {
			return nil, fmt.Errorf("%w: a batch of %d bytes, %d are there", ErrMalformed, n, left)
		}
		left -= uint64(n)
	}
	if left > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the last batch", ErrMalformed, left)
	}
	if len(lengths) == 0 {
		return nil, nil
	}
	pieces := make([][]byte, len(lengths))
	for i, n := range lengths {
		pieces[i], b = b[:n:n], b[n:]
	}
	return pieces, nil
}
