package abi

import (
	"errors"
	"fmt"
)

// What a host refuses. Each means that the guest is wrong, not the data: the batch failed, and the instance should be dropped.
var (
	// ErrBounds: a range is not inside the guest's memory.
	ErrBounds = errors.New("range outside the guest's memory")
	// ErrFrameBytes: the frame is larger than its limit.
	ErrFrameBytes = errors.New("frame is too large")
	// ErrTruncated: the frame is shorter than its header.
	ErrTruncated = errors.New("frame is shorter than its header")
	// ErrMagic: the first four bytes are not the frame's magic.
	ErrMagic = errors.New("not a millrace frame")
	// ErrVersion: the frame is of another version of the ABI.
	ErrVersion = errors.New("frame of another ABI version")
	// ErrReserved: a reserved field is not 0.
	ErrReserved = errors.New("reserved field is not zero")
	// ErrFrameSize: the size in the header is not the length of the frame.
	ErrFrameSize = errors.New("frame size does not match its length")
	// ErrEntryCount: more entries than allowed, or than the frame has room for.
	ErrEntryCount = errors.New("too many entries")
	// ErrTrailing: bytes follow the last entry or record.
	ErrTrailing = errors.New("bytes after the last entry")
	// ErrEntrySize: an entry's size is beyond the frame, below its fixed part, or not a multiple of 8.
	ErrEntrySize = errors.New("bad entry size")
	// ErrSource: an entry names a record that the batch does not have.
	ErrSource = errors.New("source index beyond the batch")
	// ErrOrder: an entry's source is before that of the entry before it.
	ErrOrder = errors.New("entries are not in the order of their sources")
	// ErrOutput: an entry names an output that the script does not declare.
	ErrOutput = errors.New("undeclared output")
	// ErrFlags: an unknown flag is set.
	ErrFlags = errors.New("unknown flag")
	// ErrPartition: a partition hint is below -1.
	ErrPartition = errors.New("bad partition hint")
	// ErrLength: a key, value or header length is below -1, or beyond its entry.
	ErrLength = errors.New("bad length")
	// ErrHeaderCount: more headers than allowed, or than the entry has room for.
	ErrHeaderCount = errors.New("too many headers")
	// ErrPadding: 8 or more bytes are left over at the end of an entry.
	ErrPadding = errors.New("entry has bytes left over")

	// ErrSyncFanOut: a sync script answered two entries for one record.
	ErrSyncFanOut = errors.New("a sync script may answer one record at most for each record")
	// ErrSyncOutput: a sync script named another output than 0.
	ErrSyncOutput = errors.New("a sync script has no other output than its topic")
	// ErrSyncPartition: a sync script gave a partition hint.
	ErrSyncPartition = errors.New("a sync script may not choose a partition")
	// ErrSyncKey: a sync script changed a key, after the client chose the partition by it.
	ErrSyncKey = errors.New("a sync script may not change a record's key")

	// ErrRecord: a record that was given to the encoder cannot be put in a frame. The host is wrong, not the guest.
	ErrRecord = errors.New("record does not fit an input frame")
)

// refuse wraps a sentinel with what was met.
func refuse(err error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", err, fmt.Sprintf(format, args...))
}
