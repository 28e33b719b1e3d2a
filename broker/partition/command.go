package partition

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
)

// Kind says what a command does. The numbers are stored: never reuse one.
type Kind uint8

// The kinds of command.
const (
	// KindLead raises the leader epoch; it carries nothing else.
	KindLead Kind = 1
	// KindProduce appends clients' batches, with an outcome each.
	KindProduce Kind = 2
	// KindSource appends a fiber's batches by compare-and-set of a source offset.
	KindSource Kind = 3
	// KindActivate makes a child take input from a source.
	KindActivate Kind = 4
	// KindTrim raises the log start.
	KindTrim Kind = 5
	// KindHorizon lets compaction drop tombstones that lie before it.
	KindHorizon Kind = 6
	// KindExpire forgets idle producers.
	KindExpire Kind = 7
	// KindMarker appends control batches, which end transactions.
	KindMarker Kind = 8

	kindLast = KindMarker
)

var kindNames = [...]string{"none", "lead", "produce", "source", "activate", "trim", "horizon", "expire", "marker"}

// String gives the kind's name.
func (k Kind) String() string {
	if k > kindLast {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// commandVersion is the first byte of every command.
const commandVersion = 2

// Command is what a leader proposes. Which fields count depends on Kind.
type Command struct {
	Kind  Kind
	Epoch model.LeaderEpoch
	// Token comes back in the Outcome, for the proposer to find its own; 0 is nobody's.
	Token uint64
	// Batches are whole record batches: Produce, Source and Marker.
	Batches [][]byte
	// LogStart is Trim's; OffsetMax means the high watermark.
	LogStart model.Offset
	Source   Source
	Activate Activate
	// Horizon is the offset before which tombstones may go.
	Horizon model.Offset
	// Expired are Expire's producers.
	Expired []Expired
}

// Source is a fiber's append to a child: it happens only if the child knows
// Activation for Key and has taken everything before From, and if the fiber has
// Seen every activation that was announced to the child.
type Source struct {
	Key        model.SourceKey
	Activation model.Activation
	Seen       model.Activation // the newest one that the fiber knows
	From, To   model.Offset     // parent offsets: taken so far, taken after this
	Gap        int64            // parent offsets in the range that were trimmed unread
	Verdicts   []model.Offset
}

// Activate makes a child take input from Key under Activation, from Offset on, or
// with Keep from where it stands. Announce only says that Activation will come:
// whoever has not seen it can move the child no more, so that the children of
// one parent stay at one offset while they change to it one after the other.
type Activate struct {
	Key          model.SourceKey
	Activation   model.Activation
	Offset       model.Offset
	Keep, Remove bool
	Announce     bool
}

// Expired names a producer to forget, unless it has written past LastOffset or
// has a transaction open.
type Expired struct {
	Producer   model.ProducerID
	LastOffset model.Offset
}

// Append appends the encoded command to dst: version, kind, epoch, token, then
// what the kind needs. Batches come last and are aliased by Decode.
func (c *Command) Append(dst []byte) []byte {
	dst = append(dst, commandVersion, byte(c.Kind))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.Epoch))
	dst = binary.LittleEndian.AppendUint64(dst, c.Token)
	switch c.Kind {
	case KindProduce, KindMarker:
		dst = appendBatches(dst, c.Batches)
	case KindSource:
		s := &c.Source
		dst = appendKey(dst, s.Key)
		dst = binary.AppendUvarint(dst, uint64(s.Activation))
		dst = binary.AppendUvarint(dst, uint64(s.Seen))
		dst = binary.AppendVarint(dst, int64(s.From))
		dst = binary.AppendVarint(dst, int64(s.To))
		dst = binary.AppendVarint(dst, s.Gap)
		dst = appendOffsets(dst, s.Verdicts)
		dst = appendBatches(dst, c.Batches)
	case KindActivate:
		a := &c.Activate
		dst = appendKey(dst, a.Key)
		dst = binary.AppendUvarint(dst, uint64(a.Activation))
		dst = binary.AppendVarint(dst, int64(a.Offset))
		dst = append(dst, boolByte(a.Keep), boolByte(a.Remove), boolByte(a.Announce))
	case KindTrim:
		dst = binary.AppendVarint(dst, int64(c.LogStart))
	case KindHorizon:
		dst = binary.AppendVarint(dst, int64(c.Horizon))
	case KindExpire:
		dst = binary.AppendUvarint(dst, uint64(len(c.Expired)))
		for _, e := range c.Expired {
			dst = binary.AppendVarint(dst, int64(e.Producer))
			dst = binary.AppendVarint(dst, int64(e.LastOffset))
		}
	}
	return dst
}

// Decode reads a command. Its batches alias b; they are framed but not checked.
func Decode(b []byte) (Command, error) {
	d := decoder{b: b}
	if v := d.byte(); v != commandVersion && d.err == nil {
		return Command{}, fmt.Errorf("%w: version %d, this node reads %d", ErrFormat, v, commandVersion)
	}
	c := Command{Kind: Kind(d.byte()), Epoch: model.LeaderEpoch(d.u32()), Token: d.u64()}
	switch c.Kind {
	case KindLead:
	case KindProduce, KindMarker:
		c.Batches = d.batches()
	case KindSource:
		c.Source = Source{
			Key: d.key(), Activation: model.Activation(d.uvarint()), Seen: model.Activation(d.uvarint()),
			From: d.offset(), To: d.offset(), Gap: d.varint(), Verdicts: d.offsets(),
		}
		c.Batches = d.batches()
	case KindActivate:
		c.Activate = Activate{
			Key: d.key(), Activation: model.Activation(d.uvarint()),
			Offset: d.offset(), Keep: d.bool(), Remove: d.bool(), Announce: d.bool(),
		}
	case KindTrim:
		c.LogStart = d.offset()
	case KindHorizon:
		c.Horizon = d.offset()
	case KindExpire:
		for range d.count(2) {
			c.Expired = append(c.Expired, Expired{model.ProducerID(d.varint()), d.offset()})
		}
	default:
		d.fail("kind %d", c.Kind)
	}
	if len(d.b) != 0 {
		d.fail("%d bytes behind the end", len(d.b))
	}
	if d.err != nil {
		return Command{}, fmt.Errorf("%w: %w", ErrCommand, d.err)
	}
	return c, nil
}

func appendBatches(dst []byte, batches [][]byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(batches)))
	for _, b := range batches {
		dst = binary.AppendUvarint(dst, uint64(len(b)))
		dst = append(dst, b...)
	}
	return dst
}

func appendKey(dst []byte, k model.SourceKey) []byte {
	dst = binary.AppendUvarint(dst, uint64(k.Script))
	dst = append(dst, k.Parent.Topic[:]...)
	return binary.AppendVarint(dst, int64(k.Parent.Index))
}

func appendOffsets(dst []byte, offsets []model.Offset) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(offsets)))
	for _, o := range offsets {
		dst = binary.AppendVarint(dst, int64(o))
	}
	return dst
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
