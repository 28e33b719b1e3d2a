package partition

import (
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/segment"
)

// Export is a partition as it was at one moment, for another node to take. It keeps
// its segments' files from being removed, and what is not written of them in memory,
// until it is released. One goroutine at a time uses it.
type Export struct {
	applied  uint64
	manifest []byte
	views    []*segment.View
	durable  []segment.Meta // of sealed segments whose files are whole and synced
}

// Export pins the partition as it is now. It touches no disk.
func (p *Partition) Export() (*Export, error) {
	if p.failed != nil {
		return nil, fmt.Errorf("export partition %s: %w", p.o.ID, p.failed)
	}
	x := &Export{applied: p.applied, manifest: p.encodeCheckpoint(p.sequence), views: make([]*segment.View, 0, len(p.segments))}
	for _, s := range p.segments {
		x.views = append(x.views, s.PinFrom(s.Meta().End)) // what is written is read from the file
		if s.Sealed() && !s.FlushDue() {
			x.durable = append(x.durable, s.Meta())
		}
	}
	return x, nil
}

// Applied is the raft index that it stands at.
func (x *Export) Applied() uint64 { return x.applied }

// Manifest is the checkpoint as of Export: it lists the segments. Nobody changes it.
func (x *Export) Manifest() []byte { return x.manifest }

// Segments is how many segments there are.
func (x *Export) Segments() int { return len(x.views) }

// ReadAt appends up to n bytes of a segment's file from pos on, as they are; it ends
// at the segment's length.
func (x *Export) ReadAt(dst []byte, index int, pos int64, n int) ([]byte, error) {
	if index < 0 || index >= len(x.views) {
		return dst, fmt.Errorf("export has %d segments, %d is asked for", len(x.views), index)
	}
	return x.views[index].ReadRaw(dst, pos, n)
}

// Bytes is how long all segments are.
func (x *Export) Bytes() (n int64) {
	for _, v := range x.views {
		n += v.Meta.Length
	}
	return n
}

// Scrub reads every segment's file and checks every batch: see segment.View.Scrub. What
// is damaged is told to found, one range a segment; any other error ends it.
func (x *Export) Scrub(each func(bytes int) error, found func(error)) error {
	for _, v := range x.views {
		err := v.Scrub(each)
		if errors.Is(err, ErrCorrupt) {
			found(err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Release lets go. A second call does nothing.
func (x *Export) Release() {
	for _, v := range x.views {
		_ = v.Release() // as ReadAnswer.Release
	}
	x.views = nil
}
