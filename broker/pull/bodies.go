package pull

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
)

// Method is what a call is about.
type Method uint8

// The methods.
const (
	MethodLease Method = iota + 1
	MethodPiece
	MethodRelease
)

// The codes of a Refusal.
const (
	// CodeBusy says that the node has given all the leases it gives at once. Ask later.
	CodeBusy uint8 = iota + 1
	// CodeGone says that the lease is over. Ask for another.
	CodeGone
	// CodeUnknown says that the node has no such partition now. Ask another node.
	CodeUnknown
	// CodeBehind says that the node's partition has not got that far. Ask another.
	CodeBehind
	// CodeDamaged says that the node cannot read its own files. Ask another.
	CodeDamaged
	// CodeMalformed says that the body cannot be read.
	CodeMalformed
)

// Refusal is an answer that is none.
type Refusal struct {
	Code uint8
	Text string
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("refused with code %d: %s", r.Code, r.Text) }

func refuse(code uint8, format string, args ...any) error {
	return &Refusal{Code: code, Text: fmt.Sprintf(format, args...)}
}

// codeOf gives an error's code, 0 if it is no Refusal.
func codeOf(err error) uint8 {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return 0
}

const (
	// PieceBytesMax is the longest piece.
	PieceBytesMax = 1 << 20
	// manifestBytesMax bounds a manifest: that of a checkpoint.
	manifestBytesMax = 256 << 20

	noteVersion    = 1
	noteSize       = 21
	leaseAskSize   = 16
	leaseSize      = 32
	pieceAskSize   = 24
	releaseAskSize = 8
	// ofManifest stands for the manifest in the place of a segment's index.
	ofManifest = 1<<32 - 1
)

// errNote says that a note is of a version that this one does not read.
var errNote = errors.New("not a note that this version reads")

// note says where a partition is to be had, and how far it had got.
type note struct {
	maker model.NodeID
	shard model.ShardID
	index uint64
}

// Note says, for raft, that node has a shard's partition as of a raft index.
func Note(node model.NodeID, shard model.ShardID, index uint64) []byte {
	b := append(make([]byte, 0, noteSize), noteVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(node))
	b = binary.LittleEndian.AppendUint64(b, uint64(shard))
	return binary.LittleEndian.AppendUint64(b, index)
}

func decodeNote(b []byte) (note, error) {
	if len(b) != noteSize || b[0] != noteVersion {
		return note{}, fmt.Errorf("%w: %x", errNote, b)
	}
	return note{
		maker: model.NodeID(int32(binary.LittleEndian.Uint32(b[1:]))),
		shard: model.ShardID(binary.LittleEndian.Uint64(b[5:])), index: binary.LittleEndian.Uint64(b[13:]),
	}, nil
}

type leaseAsk struct {
	shard   model.ShardID
	atLeast uint64
}

func (a leaseAsk) encode() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(a.shard)), a.atLeast)
}

func decodeLeaseAsk(b []byte) (leaseAsk, error) {
	if len(b) != leaseAskSize {
		return leaseAsk{}, refuse(CodeMalformed, "%d bytes ask for a lease", len(b))
	}
	return leaseAsk{model.ShardID(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:])}, nil
}

// granted is the answer to a leaseAsk.
type granted struct{ lease, boot, applied, manifest uint64 }

func (g granted) encode() []byte {
	b := make([]byte, 0, leaseSize)
	for _, v := range []uint64{g.lease, g.boot, g.applied, g.manifest} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func decodeGranted(b []byte) (g granted, err error) {
	if len(b) != leaseSize {
		return g, fmt.Errorf("%d bytes answer for a lease", len(b))
	}
	for i, v := range []*uint64{&g.lease, &g.boot, &g.applied, &g.manifest} {
		*v = binary.LittleEndian.Uint64(b[8*i:])
	}
	return g, nil
}

type pieceAsk struct {
	lease   uint64
	segment uint32
	pos     uint64
	n       uint32
}

func (a pieceAsk) encode() []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, pieceAskSize), a.lease)
	b = binary.LittleEndian.AppendUint32(b, a.segment)
	b = binary.LittleEndian.AppendUint64(b, a.pos)
	return binary.LittleEndian.AppendUint32(b, a.n)
}

func decodePieceAsk(b []byte) (pieceAsk, error) {
	if len(b) != pieceAskSize {
		return pieceAsk{}, refuse(CodeMalformed, "%d bytes ask for a piece", len(b))
	}
	a := pieceAsk{
		lease: binary.LittleEndian.Uint64(b), segment: binary.LittleEndian.Uint32(b[8:]),
		pos: binary.LittleEndian.Uint64(b[12:]), n: binary.LittleEndian.Uint32(b[20:]),
	}
	if a.n > PieceBytesMax || int64(a.pos) < 0 {
		return a, refuse(CodeMalformed, "a piece of %d bytes at %d", a.n, a.pos)
	}
	return a, nil
}
