package segment

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
)

const (
	// sizeMin is how large a file grows before space is taken ahead of it: most
	// partitions of a large number stay small.
	sizeMin = 1 << 20
	// sizeStepMax is how much space is taken at once: files that grow side by side lie
	// in pieces of this size, and are read in whole blocks. The seal gives the rest back.
	sizeStepMax = 16 << 20
	// writeStep is how much is written, and synced, at once: a sync of the journal that
	// comes meanwhile waits for about as much.
	writeStep = 256 << 10
)

// Flush writes what the view has and the file lacks, and makes it survive a power
// cut. One Flush of a segment runs at a time, on any goroutine; Flushed follows.
func (v *View) Flush() error {
	f, err := v.write()
	if err != nil {
		return err
	}
	if v.sealed { // padding and space ahead are of no use any more
		if err := f.Truncate(v.Meta.Length); err != nil {
			return fmt.Errorf("cut segment %s to %d: %w", v.file.Name(), v.Meta.Length, err)
		}
	}
	if v.file.synced.Load() && !v.sealed {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync segment %s: %w", v.file.Name(), err)
	}
	return nil
}

// write hands whole pages to the file, from the one that holds the first new byte.
//
// The last page of an earlier write is written again, with what has been appended
// since behind what it held. A power cut may leave any of its sectors old or new:
// both hold the same bytes up to the length that was written before, so none that
// was synced can be lost by it.
func (v *View) write() (disk.File, error) {
	open := v.file.openDirect
	if v.written == 0 {
		open = v.file.create
	}
	f, err := v.file.Writer(open)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", v.file.Name(), err)
	}
	if err := v.takeSpace(f); err != nil {
		return nil, fmt.Errorf("size segment %s: %w", v.file.Name(), err)
	}
	at, whole := disk.AlignDown(v.written), disk.AlignDown(v.Meta.Length)
	for i := range v.chunks {
		c := &v.chunks[i]
		end := min(c.end(), whole)
		if at = max(at, c.at); at >= end {
			continue
		}
		if err := v.put(f, c.buf.Bytes()[at-c.at:end-c.at], at); err != nil {
			return nil, err
		}
		at = end
	}
	must(at == whole, "%s is in memory up to %d of %d", v.file.Name(), at, whole)
	return f, v.writeLast(f, whole)
}

// writeLast writes the page that is not full from a copy: the loop appends to the
// original.
func (v *View) writeLast(f disk.File, at int64) error {
	if at == v.Meta.Length || v.written == v.Meta.Length {
		return nil
	}
	page := v.file.place.Memory.Get(block.Page)
	defer page.Release()
	c := &v.chunks[len(v.chunks)-1]
	n := copy(page.Bytes(), c.buf.Bytes()[at-c.at:v.Meta.Length-c.at])
	clear(page.Bytes()[n:])
	return v.put(f, page.Bytes(), at)
}

func (v *View) put(f disk.File, b []byte, at int64) error {
	for len(b) > 0 {
		n := min(len(b), writeStep)
		if v.steps++; v.steps > 1 && v.file.place.Breathe != nil {
			v.file.place.Breathe()
		}
		if _, err := f.WriteAt(b[:n], at); err != nil {
			return fmt.Errorf("write %d bytes to segment %s at %d: %w", n, v.file.Name(), at, err)
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// takeSpace has the file system set space aside for what is written next.
func (v *View) takeSpace(f disk.File) error {
	need := disk.AlignUp(v.Meta.Length)
	if v.sealed || need < sizeMin || need <= v.file.sized {
		return nil
	}
	v.file.sized = need + min(need, sizeStepMax)
	err := f.Preallocate(v.file.sized)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil // there may be enough for what is to be written now
	}
	return err
}

// Flushed records that a View's Flush covered the first length bytes: their memory
// may go. A sealed segment lets go of its file once it is whole.
func (s *Segment) Flushed(v *View) error {
	s.wrote(v.Meta.Length)
	s.synced = max(s.synced, v.Meta.Length)
	s.ended = s.ended || v.sealed
	if !s.FlushDue() && s.sealed {
		return s.file.Let()
	}
	return nil
}

func (s *Segment) wrote(length int64) { s.tail.written = max(s.tail.written, length) }

// Spill writes what was appended on the caller's goroutine and frees its memory: for
// an owner that may wait for the disk. Nothing is synced.
func (s *Segment) Spill() error {
	v := s.Pin()
	defer v.Release()
	if _, err := v.write(); err != nil {
		return err
	}
	s.wrote(v.Meta.Length)
	s.Shrink(0)
	return nil
}
