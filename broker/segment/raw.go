package segment

import (
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/record"
)

// ReadRaw appends up to n bytes of the segment's file from pos on, as they are: who
// gets them checks them. It ends at the segment's length. What it reads is not kept
// for others; positions at multiples of block.Size read no block twice.
func (v *View) ReadRaw(dst []byte, pos int64, n int) ([]byte, error) {
	end := min(pos+int64(n), v.Meta.Length)
	if pos < 0 {
		return dst, fmt.Errorf("read segment %s at %d", v.file.Name(), pos)
	}
	for pos < end {
		p, err := v.adjacent(pos, v.Meta.Base, false)
		if err != nil {
			return dst, err
		}
		b := p.b[:min(int64(len(p.b)), end-pos)]
		dst = append(dst, b...)
		pos += int64(len(b))
		p.release()
	}
	return dst, nil
}

// Incoming is a segment's file that comes in pieces from elsewhere, into a directory
// that nobody reads yet. It has one user at a time.
type Incoming struct {
	place  Place
	meta   Meta
	f      disk.File
	synced bool   // what is written is durable at once
	at     int64  // how much there is
	step   []byte // aligned
	steps  int
}

// Receive makes the file of a segment that is to come. With keep, what there is of
// it already is kept; it must be the beginning of the same.
func Receive(p Place, m Meta, keep bool) (*Incoming, error) {
	in := &Incoming{place: p, meta: m, step: disk.Aligned(writeStep)}
	file := newFile(p, &m)
	open := file.create
	if info, err := p.FS.Stat(file.Name()); keep && err == nil {
		in.at = min(info.Size, m.Length)
		open = file.openDirect
	}
	if in.at < m.Length {
		in.at = disk.AlignDown(in.at)
	}
	var err error
	if in.f, err = open(file.Name()); err != nil {
		return nil, fmt.Errorf("receive segment %s: %w", file.Name(), err)
	}
	in.synced = file.synced.Load()
	return in, nil
}

// At is the position that the next piece begins at; the segment's length when there
// is nothing to come.
func (in *Incoming) At() int64 { return in.at }

// Put takes the piece at At: whole pages, unless it is the last.
func (in *Incoming) Put(b []byte) error {
	if in.at+int64(len(b)) > in.meta.Length {
		return fmt.Errorf("segment %s has %d bytes, a piece ends at %d", in.meta.Name(), in.meta.Length, in.at+int64(len(b)))
	}
	last := in.at+int64(len(b)) == in.meta.Length
	if int64(len(b))%disk.DirectAlign != 0 && !last {
		return fmt.Errorf("segment %s: a piece of %d bytes at %d is no number of pages", in.meta.Name(), len(b), in.at)
	}
	for len(b) > 0 {
		if in.steps++; in.steps > 1 && in.place.Breathe != nil {
			in.place.Breathe()
		}
		n := copy(in.step, b)
		page := in.step[:disk.AlignUp(int64(n))]
		clear(page[n:])
		if _, err := in.f.WriteAt(page, in.at); err != nil {
			return fmt.Errorf("write segment %s at %d: %w", in.meta.Name(), in.at, err)
		}
		if !in.synced {
			if err := in.f.Sync(); err != nil {
				return fmt.Errorf("sync segment %s: %w", in.meta.Name(), err)
			}
		}
		b, in.at = b[n:], in.at+int64(n)
	}
	return nil
}

// Close ends receiving. A file that is whole gets its exact length and is made
// durable; another keeps what there is.
func (in *Incoming) Close() error {
	var err error
	if in.at == in.meta.Length {
		if err = in.f.Truncate(in.meta.Length); err == nil {
			err = in.f.Sync()
		}
	}
	if err = errors.Join(err, in.f.Close()); err != nil {
		return fmt.Errorf("end segment %s: %w", in.meta.Name(), err)
	}
	return nil
}

// Verify reads a segment's file from the beginning and compares it with what is known
// of it: every batch, its place, and what they come to. ErrCorrupt says that the file
// is not the segment. Of one that is, it writes the index. each, if not nil, is called
// now and then; its error ends it.
func Verify(p Place, m Meta, each func() error) error {
	s, damage := OpenSealed(p, m)
	if damage != nil {
		return &CorruptError{*damage}
	}
	v := s.Pin()
	defer v.Release()
	if _, err := s.file.open(&m); err != nil {
		return err
	}
	found, err := v.walkAll(each)
	if err != nil {
		return err
	}
	if found.meta != m {
		return v.file.corrupt(m.Length, m.Base, m.End-1, fmt.Sprintf("it holds %+v, want %+v", found.meta, m))
	}
	return writeIndex(p.FS, p.Dir, &m, found.index)
}

// Scrub reads what the view has in its file from the beginning and checks every batch;
// it keeps nothing for readers. ErrCorrupt names the first that cannot be read. each,
// if not nil, is called for each step of bytes; its error ends it.
func (v *View) Scrub(each func(bytes int) error) error {
	if v.written <= HeaderSize {
		return nil
	}
	f, err := v.file.open(&v.Meta)
	if err != nil {
		return err
	}
	v.file.checked.Store(false) // it was right once
	if err := v.file.check(f, &v.Meta); err != nil {
		return err
	}
	v.memoryFrom = v.written // the file is what is looked at
	step := func() error { return nil }
	if each != nil {
		step = func() error { return each(verifyStep) }
	}
	_, err = v.walkAll(step)
	return err
}

// verifyStep is how much Verify reads between two calls of each.
const verifyStep = 1 << 20

// walkAll checks every batch and gives what they come to, with its index.
func (v *View) walkAll(each func() error) (*Segment, error) {
	found := &Segment{place: Place{IntervalBytes: v.interval}, entry: HeaderSize, meta: NewMeta(v.Meta.Base, v.Meta.Generation)}
	w := v.walk(HeaderSize, v.Meta.Base)
	defer w.Close()
	latest, next := record.NoTimestamp, int64(verifyStep)
	for {
		b, at, err := w.next()
		if err != nil || b == nil {
			return found, err
		}
		if at >= next && each != nil {
			if err := each(); err != nil {
				return nil, err
			}
			next = at + verifyStep
		}
		found.mark(at, b.BaseOffset(), latest)
		latest = max(latest, b.MaxTimestamp())
		found.meta.add(b, len(b))
	}
}
