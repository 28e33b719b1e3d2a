package segment

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

// piece is a part of a file in memory. It is not changed, and valid until release.
type piece struct {
	b   []byte
	buf *block.Buffer // nil: a View's own
}

func (p *piece) release() {
	if p.buf != nil {
		p.buf.Release()
	}
	*p = piece{}
}

// inMemory is the position from which on the segment is read from memory; what lies
// before it is in the file.
func (v *View) inMemory() int64 {
	if len(v.chunks) == 0 {
		return v.Meta.Length
	}
	return max(v.chunks[0].at, v.memoryFrom)
}

// piece gives what lies at pos: need bytes at least, which end within the segment.
// keep leaves what is read from the file to the next reader. A file that ends too
// soon is corrupt.
func (v *View) piece(pos int64, need int, expect model.Offset, keep bool) (piece, error) {
	p, err := v.adjacent(pos, expect, keep)
	if err != nil || len(p.b) >= need {
		return p, err
	}
	whole := piece{buf: v.file.place.Memory.Get(need)}
	whole.b = whole.buf.Bytes()[:need]
	n := copy(whole.b, p.b)
	p.release()
	for n < need {
		p, err := v.adjacent(pos+int64(n), expect, keep)
		if err != nil {
			whole.release()
			return piece{}, err
		}
		n += copy(whole.b[n:], p.b)
		p.release()
	}
	return whole, nil
}

// adjacent gives what lies together from pos on: the rest of a chunk or block.
func (v *View) adjacent(pos int64, expect model.Offset, keep bool) (piece, error) {
	if pos < v.inMemory() {
		return v.fromFile(pos, expect, keep)
	}
	i := sort.Search(len(v.chunks), func(i int) bool { return v.chunks[i].at > pos }) - 1
	c := &v.chunks[i]
	return piece{b: c.buf.Bytes()[pos-c.at : min(c.end(), v.Meta.Length)-c.at]}, nil
}

// fromFile reads the block that holds pos, or finds it read.
func (v *View) fromFile(pos int64, expect model.Offset, keep bool) (piece, error) {
	at := pos - pos%block.Size
	want := v.wantedAt(at)
	read := func(b []byte) (int, error) { return v.readBlock(b, at, want) }
	var buf *block.Buffer
	var n int
	var err error
	if keep {
		buf, n, err = v.file.place.Past.Get(v.file.id, at/block.Size, want, read)
	} else {
		buf, n, err = block.Fresh(v.file.place.Memory, want, read)
	}
	if err != nil {
		return piece{}, err
	}
	if int64(n) <= pos-at {
		buf.Release()
		return piece{}, v.damaged(at+int64(n), expect, "file is too short")
	}
	return piece{b: buf.Bytes()[pos-at : min(n, want)], buf: buf}, nil
}

// wantedAt is how much of the block at a position is the file's to give.
func (v *View) wantedAt(at int64) int { return int(min(block.Size, v.inMemory()-at)) }

// readStep is how much is read at once: a sync of the journal that comes meanwhile
// waits for one step.
const readStep = 256 << 10

// readBlock reads a block in steps and tells how much of want bytes there is.
func (v *View) readBlock(b []byte, at int64, want int) (int, error) {
	f, err := v.file.open(&v.Meta)
	if err != nil {
		return 0, err
	}
	end := int(disk.AlignUp(int64(want)))
	for n := 0; n < want; {
		got, err := f.ReadAt(b[n:min(n+readStep, end)], at+int64(n))
		n += got
		switch {
		case n >= want || err == nil:
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return n, nil
		default:
			return 0, fmt.Errorf("read segment %s at %d: %w", v.file.Name(), at+int64(n), err)
		}
	}
	return want, nil
}

// readAhead has the block behind the one that holds pos read, if it is in the file:
// who stopped at pos will ask for it while others use the processor.
func (v *View) readAhead(pos int64) {
	at := pos - pos%block.Size + block.Size
	want := v.wantedAt(at)
	if want <= 0 {
		return
	}
	v.file.Hold()
	v.file.place.Past.Ahead(v.file.id, at/block.Size, want,
		func(b []byte) (int, error) { return v.readBlock(b, at, want) },
		func() { _ = v.file.Release() }) // as View.Release of who only reads
}
