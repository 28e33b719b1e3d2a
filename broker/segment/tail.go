package segment

import (
	"slices"
	"sort"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

// chunk is a piece of a file in memory. Views read it while its owner appends
// behind what they may read.
type chunk struct {
	at  int64 // in the file; a multiple of disk.DirectAlign
	buf *block.Buffer
	// first is at most the base of the first batch that begins at or behind at: where
	// a search for an offset begins.
	first model.Offset
}

func (c *chunk) size() int64 { return int64(len(c.buf.Bytes())) }
func (c *chunk) end() int64  { return c.at + c.size() }

// tail is the newest part of a file in memory without a gap, up to the file's end:
// what is not written yet, and as much before it as memory allows. It is owned by a
// Segment. Views hold a part of chunks, whose elements therefore never change: they
// are extended, or replaced in a new slice.
type tail struct {
	memory *block.Memory
	chunks []chunk
	bytes  int64 // of all chunks' buffers
	// length is the file's with all that was appended, written what of it is in the
	// file. grows: more will be appended.
	length, written int64
	grows           bool
}

// append takes bytes of a batch that ends before next.
func (t *tail) append(b []byte, next model.Offset) {
	for len(b) > 0 {
		c := t.room(len(b), next)
		n := copy(c.buf.Bytes()[t.length-c.at:], b)
		b = b[n:]
		t.length += int64(n)
	}
}

// room gives a chunk with room for at least one of n bytes: the last one, a larger
// copy in its place (a partition that writes little holds a page), or a new one.
func (t *tail) room(n int, next model.Offset) *chunk {
	last := len(t.chunks) - 1
	switch {
	case last < 0:
		must(t.length%disk.DirectAlign == 0, "append at %d without the page before it", t.length)
		t.push(chunk{at: t.length, buf: t.memory.Get(min(n, block.Size)), first: next})
	case t.length < t.chunks[last].end():
	case t.chunks[last].size() < block.Size:
		t.resize(t.chunks[last].at, int(t.chunks[last].size())+n)
	default:
		t.push(chunk{at: t.length, buf: t.memory.Get(block.Size), first: next})
	}
	return &t.chunks[len(t.chunks)-1]
}

func (t *tail) push(c chunk) {
	t.chunks = append(t.chunks, c)
	t.bytes += c.size()
}

// resize puts a copy of the last chunk from at on in its place, with size bytes if
// there are such buffers.
func (t *tail) resize(at int64, size int) {
	n := len(t.chunks) - 1
	old := t.chunks[n]
	c := chunk{at: at, buf: t.memory.Get(min(size, block.Size)), first: old.first}
	copy(c.buf.Bytes(), old.buf.Bytes()[at-old.at:t.length-old.at])
	t.chunks = append(slices.Clone(t.chunks[:n]), c)
	t.bytes += c.size() - old.size()
	old.buf.Release()
}

// needed is how much of chunk i must stay: all of it while a part is not written,
// and the last page of a file that grows, which the next write begins with.
func (t *tail) needed(i int) int64 {
	c := &t.chunks[i]
	switch {
	case i < len(t.chunks)-1 && t.chunks[i+1].at > t.written, t.written < t.length:
		return c.size()
	case i == len(t.chunks)-1 && t.grows && t.length%disk.DirectAlign != 0:
		return block.Page
	}
	return 0
}

// clean is how many bytes shrink can free.
func (t *tail) clean() int64 {
	n := t.bytes
	for i := len(t.chunks) - 1; i >= 0; i-- {
		if i < len(t.chunks)-1 && t.chunks[i+1].at <= t.written {
			break // as are those before it
		}
		n -= t.needed(i)
	}
	return n
}

// shrink frees the oldest clean memory until at most keep bytes of it are left.
func (t *tail) shrink(keep int64) {
	clean, n := t.clean(), 0
	for n < len(t.chunks)-1 && clean > keep && t.chunks[n+1].at <= t.written {
		clean -= t.chunks[n].size()
		t.drop(n)
		n++
	}
	if last := len(t.chunks) - 1; n == last && clean > keep {
		if t.needed(last) == 0 {
			t.drop(last)
			n++
		} else {
			t.resize(disk.AlignDown(t.length), block.Page)
		}
	}
	if n > 0 {
		t.chunks = slices.Clone(t.chunks[n:])
	}
}

func (t *tail) drop(i int) {
	t.bytes -= t.chunks[i].size()
	t.chunks[i].buf.Release()
}

// free lets go of everything; nothing is written or appended any more.
func (t *tail) free() {
	for i := range t.chunks {
		t.drop(i)
	}
	t.chunks = nil
}

// since holds the chunks that serve a reader of batches at or behind from, and all
// that is not written.
func (t *tail) since(from model.Offset) []chunk {
	// The index points to a batch before the one that holds from.
	i := sort.Search(len(t.chunks), func(i int) bool { return t.chunks[i].first > from }) - 2
	i = max(min(i, len(t.chunks)-1), 0)
	for i > 0 && t.chunks[i].at > t.written {
		i--
	}
	held := t.chunks[i:len(t.chunks):len(t.chunks)]
	for i := range held {
		held[i].buf.Hold()
	}
	return held
}
