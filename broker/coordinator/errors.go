package coordinator

import (
	"errors"
	"fmt"
)

var (
	// ErrNotCoordinator says that another node serves the group: find it.
	ErrNotCoordinator = errors.New("this node does not coordinate the group")
	// ErrLoading says that the group's partition is being read: try again.
	ErrLoading = errors.New("the group's offsets are being loaded")
	// ErrUnavailable says that the group cannot be served now: try again. A write
	// that was under way may have happened.
	ErrUnavailable = errors.New("the group's coordinator is not available")
	// ErrRecordTooLarge says that what was to be stored exceeds the limit of
	// __consumer_offsets; nothing was written.
	ErrRecordTooLarge = errors.New("too large to be stored in __consumer_offsets")
	// ErrInvalidGroup says that no group can have this name.
	ErrInvalidGroup = errors.New("invalid group id")

	// errUnknownOutcome says that a record may be written, or may be yet.
	errUnknownOutcome = errors.New("outcome of the write is unknown")
	// errMalformed says that __consumer_offsets holds what nobody should have
	// written there.
	errMalformed = errors.New("malformed record in __consumer_offsets")
)

// must stops the process: a broken invariant here would write what no load can
// read.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf("coordinator: "+format, args...))
	}
}
