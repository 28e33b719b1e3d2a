package partition

import "github.com/millrace-io/millrace/broker/model"

// Entry is one committed entry of the partition's raft log.
type Entry struct {
	Index uint64
	// Cmd is immutable and shared with raft, its transport and the journal.
	Cmd []byte
}

// Outcome is what an entry came to.
type Outcome struct {
	Token uint64 // the command's
	Index uint64 // of the entry, in Raft's log
	// Err refuses the command as a whole: nothing was written.
	Err error
	// Batches has an element per batch of a Produce or Marker command; for a Source
	// command that was taken too.
	Batches []BatchOutcome
	// Source is what the child knows of a Source or Activate command's key, after it.
	Source SourceState
	// Lead tells that the command was a KindLead that was taken.
	Lead             bool
	LogStart, LogEnd model.Offset // after the entry
}

// BatchOutcome is what a batch came to.
type BatchOutcome struct {
	// Base is the offset given to the batch's base; NoOffset when Err is set.
	Base model.Offset
	// AppendTime is the batch's log append time in milliseconds, -1 for CreateTime.
	AppendTime int64
	// Duplicate tells that the batch was written before, at Base.
	Duplicate bool
	Err       error
}

// SourceState is how far a child has taken one source.
type SourceState struct {
	// Activation is the newest one known, also of a source that was removed.
	Activation model.Activation
	// Announced is the newest one that is to come: see Activate.
	Announced model.Activation
	// Offset is the parent's next offset to take.
	Offset model.Offset
	// Known tells that the child takes appends of Activation.
	Known bool
	// Gap counts parent offsets that were trimmed before they were taken.
	Gap int64
	// Verdicts are the newest parent offsets that were skipped by verdict,
	// ascending; at most verdictsMax. Nobody changes them.
	Verdicts []model.Offset
}
