package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	// errFrameSize says that a frame's announced length is no request's.
	errFrameSize = errors.New("frame length out of bounds")
	// errStalled says that a peer stopped in the middle of a frame or an answer.
	errStalled = errors.New("peer made no progress")
)

// frames reads length-prefixed frames off a connection. Owned by the reader.
type frames struct {
	conn  net.Conn
	in    *bufio.Reader
	pools *requestPools
	idle  time.Duration
	// draining tells not to wait for another frame.
	draining *atomic.Bool
	// known tells that the peer has sent a request that could be read; served
	// whether a key and version are one.
	known  bool
	served func(key, version int16) bool
}

// next waits for a frame of at most max bytes and gives its body and what it
// holds of the budget. io.EOF is a peer that left between two frames.
func (f *frames) next(ctx context.Context, max int) ([]byte, *charge, error) {
	if err := f.conn.SetReadDeadline(time.Now().Add(f.idle)); err != nil {
		return nil, nil, err
	}
	if f.draining.Load() { // after the deadline: drain sets one of its own
		return nil, nil, io.EOF
	}
	head, err := f.in.Peek(4)
	if err != nil {
		if len(head) == 0 {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("read frame length: %w", noEOF(err))
	}
	size := int(int32(binary.BigEndian.Uint32(head)))
	if size > frameBytesMaxEarly && size <= max && !f.known {
		max = f.early(max)
	}
	if size < headerBytesMin || size > max {
		return nil, nil, fmt.Errorf("%w: %d bytes, allowed are %d to %d", errFrameSize, size, headerBytesMin, max)
	}
	_, _ = f.in.Discard(4)
	c := &charge{pools: f.pools}
	produce := f.isProduce()
	body, err := f.body(ctx, c, size, produce)
	if err != nil {
		c.release()
		return nil, nil, err
	}
	if produce {
		c.frame = body
	}
	return body, c, nil
}

// early gives the limit of a large frame on a connection that has not asked
// anything yet: some clients begin with a produce, and what speaks another
// protocol mostly announces gigabytes.
func (f *frames) early(limit int) int {
	head, err := f.in.Peek(8)
	if err == nil && f.served(int16(binary.BigEndian.Uint16(head[4:])), int16(binary.BigEndian.Uint16(head[6:]))) {
		return limit
	}
	return min(limit, frameBytesMaxEarly)
}

// isProduce tells whether the frame that comes is known to be a produce: most
// frames are there as a whole when their length is.
func (f *frames) isProduce() bool {
	if f.in.Buffered() < 2 {
		return false
	}
	key, err := f.in.Peek(2)
	return err == nil && binary.BigEndian.Uint16(key) == uint16(kmsg.Produce)
}

// body reads size bytes, into borrowed memory if it is a produce's: of others,
// handlers keep parts. Memory and budget follow what has arrived: a step for
// the first bytes, all of a small frame then, all of a huge one after
// frameSmallBytes of it have come.
func (f *frames) body(ctx context.Context, c *charge, size int, produce bool) ([]byte, error) {
	room := func(n int) []byte { return make([]byte, 0, n) }
	if produce {
		room = block.Borrow
	}
	have := min(size, frameStepBytes)
	var err error
	if c.step, err = f.pools.step.acquire(ctx, int64(have)); err != nil {
		return nil, err
	}
	buf := room(have)
	for _, want := range [...]int{frameStepBytes, frameSmallBytes, size} {
		want = min(want, size)
		if want > have {
			if err := f.reserve(ctx, c, want); err != nil {
				return nil, err
			}
			small := buf
			buf, have = append(room(want), small...), want
			if produce {
				block.Return(small)
			}
		}
		if buf, err = f.fill(c, buf, want); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

// reserve raises c to want bytes.
func (f *frames) reserve(ctx context.Context, c *charge, want int) error {
	if want > frameSmallBytes {
		n, err := f.pools.huge.acquire(ctx, int64(want)-c.small)
		c.huge += n
		return err
	}
	// What is held already is given back first: waiting while holding would let
	// frames that are half there starve each other.
	f.pools.step.release(c.step)
	c.step = 0
	n, err := f.pools.small.acquire(ctx, int64(want))
	c.small = n
	return err
}

// fill reads until buf holds want bytes, giving up on a peer that stalls, or is
// slower than frameRateMin while others wait for what its frame holds.
func (f *frames) fill(c *charge, buf []byte, want int) ([]byte, error) {
	start := time.Now()
	progress, patience := start, stallMaxPressed+time.Duration(want-len(buf))*time.Second/frameRateMin
	for len(buf) < want {
		if err := f.conn.SetReadDeadline(time.Now().Add(stallPoll)); err != nil {
			return nil, err
		}
		n, err := f.in.Read(buf[len(buf):min(want, len(buf)+frameStepBytes*4)])
		buf = buf[:len(buf)+n]
		if n > 0 {
			progress = time.Now()
		}
		switch {
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("read frame of %d bytes: %w", want, noEOF(err))
		case f.pools.pressed(c) && time.Since(start) > patience:
			return nil, errPressed
		case err == nil:
		case f.pools.pressed(c) && time.Since(progress) > stallMaxPressed:
			return nil, errPressed
		case time.Since(progress) > stallMax:
			return nil, fmt.Errorf("read frame of %d bytes, %d have come: %w", want, len(buf), errStalled)
		}
	}
	return buf, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
