package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"time"
)

// Why a connection that sends nothing wrong is given up all the same.
var (
	// ErrSilent says that the peer, which pings, was not heard: it is dead, or cut off.
	ErrSilent = errors.New("peer is silent")
	// ErrSlow says that a frame or an answer took too long.
	ErrSlow = errors.New("peer is too slow")
)

// source reads from a connection and gives up on a silent or slow peer.
type source struct {
	conn net.Conn
	// until is when the frame being read must be complete, zero between frames.
	until time.Time
	// handshake leaves the deadline to whoever set it for the hello.
	handshake bool
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	if s.handshake {
		return s.conn.Read(p)
	}
	deadline, why := time.Now().Add(silenceTimeMax), ErrSilent
	if !s.until.IsZero() && s.until.Before(deadline) {
		deadline, why = s.until, ErrSlow
	}
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := s.conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = why
	}
	return n, err
}

// reader takes frames off a connection. It belongs to one goroutine, which calls
// next, then take until the frame's data is read, then done.
type reader struct {
	src *source
	buf *bufio.Reader
	// budget is nil where only small frames come.
	budget *budget
	counts *counts // nobody's before the peer is known

	head header
	// meta is scratch of the connection: valid until the next frame.
	meta []byte
	// left is how much of the frame's data has not been read, sum the checksum of
	// what has, taken what the budget gave.
	left  int
	sum   uint32
	taken int64
}

func newReader(conn net.Conn, bufferBytes int) *reader {
	s := &source{conn: conn, handshake: true}
	return &reader{src: s, buf: bufio.NewReaderSize(s, bufferBytes), counts: &counts{}}
}

// next reads a frame's header and meta, and waits for the budget of the rest.
// io.EOF says that the peer is gone, between two frames.
func (r *reader) next(ctx context.Context) error {
	b, err := r.buf.Peek(headerBytes)
	if err != nil {
		if errors.Is(err, io.EOF) && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if r.head, err = parseHeader(b); err != nil {
		return err
	}
	_, _ = r.buf.Discard(headerBytes) // it was peeked
	if err := r.admit(ctx); err != nil {
		return err
	}
	if r.meta, err = r.fill(r.meta[:0], r.head.meta); err != nil {
		return err
	}
	if got := crc32.Checksum(r.meta, castagnoli); got != r.head.metaSum {
		return fmt.Errorf("%w: meta %08x, it says %08x", ErrChecksum, got, r.head.metaSum)
	}
	r.left, r.sum = r.head.data, 0
	r.counts.receivedBytes.Add(uint64(headerBytes + r.head.meta + r.head.data))
	return nil
}

// admit waits for the frame's budget, and starts its clock if it is not here yet.
func (r *reader) admit(ctx context.Context) (err error) {
	h := &r.head
	if r.budget != nil {
		if r.taken, err = r.budget.take(ctx, int64(decodedFactor*h.meta+h.data)); err != nil {
			r.taken = 0
			return fmt.Errorf("wait for the budget of a frame: %w", err)
		}
	}
	if n := h.meta + h.data; n > r.buf.Buffered() && !r.src.handshake {
		r.src.until = time.Now().Add(frameTimeMax(n))
	}
	return nil
}

// take reads the next n bytes of data into memory of their own. An error on the
// last of them may be the checksum of all: nothing may be used before.
func (r *reader) take(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if n > r.left {
		return nil, fmt.Errorf("%w: %d bytes wanted, %d are left of the frame", ErrLength, n, r.left)
	}
	b, err := r.fill(nil, n)
	if err != nil {
		return nil, err
	}
	r.left -= n
	r.sum = crc32.Update(r.sum, castagnoli, b)
	if r.left == 0 && r.sum != r.head.dataSum {
		return nil, fmt.Errorf("%w: data %08x, it says %08x", ErrChecksum, r.sum, r.head.dataSum)
	}
	return b, nil
}

// fill reads n bytes into b's memory, or new memory where that is too small: a
// step ahead of what came, never all that a length promises.
func (r *reader) fill(b []byte, n int) ([]byte, error) {
	for len(b) < n {
		at := len(b)
		if cap(b) <= at {
			grown := make([]byte, at, min(n, max(2*at, stepBytes)))
			copy(grown, b)
			b = grown
		}
		b = b[:min(n, cap(b))]
		if _, err := io.ReadFull(r.buf, b[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b, nil
}

// keep takes what the frame has of the budget from done: who keeps it gives it back.
func (r *reader) keep() (taken int64) {
	taken, r.taken = r.taken, 0
	return taken
}

// done ends a frame that has been handed over, and one that failed: its budget is
// for others.
func (r *reader) done() {
	if r.taken > 0 {
		r.budget.give(r.taken)
		r.taken = 0
	}
	r.src.until = time.Time{}
	if cap(r.meta) > scratchBytesMax {
		r.meta = nil
	}
}
