package partition

import (
	"errors"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/segment"
)

var (
	// ErrStaleEpoch says that a command's proposer no longer leads: it was dropped,
	// surely not written. Ask the new leader.
	ErrStaleEpoch = errors.New("command of an older leader epoch")
	// ErrOutOfOrderSequence says that batches between a producer's last one and this
	// are missing. The producer must send those first.
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrDuplicateSequence says that a batch was written before, too long ago to know
	// its offset. The producer takes it as written.
	ErrDuplicateSequence = errors.New("duplicate sequence number")
	// ErrProducerFenced says that a newer instance of the producer has written.
	ErrProducerFenced = errors.New("producer epoch is fenced")
	// ErrUnknownProducer says that nothing is known of a producer that must be known.
	// Apply itself takes an unknown producer's first batch at any sequence, as Kafka
	// does, since expiry may have forgotten it.
	ErrUnknownProducer = errors.New("unknown producer")
	// ErrSourceConflict says that the child stands elsewhere than the append's From,
	// or knows another activation: nothing was written. Go on from the Source in the
	// outcome.
	ErrSourceConflict = errors.New("source offset conflict")
	// ErrOffsetOutOfRange says that an offset lies before the log start or behind the
	// high watermark.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrCorrupt says that stored bytes are not what was written. They are never
	// served; other ranges are.
	ErrCorrupt = segment.ErrCorrupt
	// ErrFormat says that files were written by a newer version. Start that one.
	ErrFormat = segment.ErrFormat
	// ErrCommand says that an entry of the raft log cannot be read or contradicts
	// what came before it. The node must stop.
	ErrCommand = errors.New("invalid command")
	// ErrMalformedBatch is the outcome of a batch that cannot be stored.
	ErrMalformedBatch = errors.New("malformed batch in command")
	// ErrReplaced says that what was being read is gone: the partition's files were
	// replaced by another node's. Ask again.
	ErrReplaced = disk.ErrFenced
	// ErrClosed says that the partition was closed.
	ErrClosed = errors.New("partition is closed")
)

// DamageOf tells what an ErrCorrupt found; false for another error, or one that
// names no range.
func DamageOf(err error) (Damage, bool) {
	var c *segment.CorruptError
	if !errors.As(err, &c) {
		return Damage{}, false
	}
	return c.Damage, true
}
