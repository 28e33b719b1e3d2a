package transport

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// flowBytesMax is what a direction holds, as socket buffers do; beyond it writes wait.
const flowBytesMax = 256 << 10

// flow is one direction of a connection of a Memory network, whose mu guards it.
type flow struct {
	net *Memory
	way way
	// parts are what was written and when it arrives; bytes is their size.
	parts []part
	bytes int
	// ended says that the writing end is closed, gone that the reading end is.
	ended, gone bool
	broken      error
	// changed has a token when the state may have changed, for the one reader and
	// the one writer each.
	readable, writable chan struct{}
}

type part struct {
	at    time.Time
	bytes []byte
}

func newFlow(m *Memory, w way) *flow {
	return &flow{net: m, way: w, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

// wake lets reader and writer look again.
func (f *flow) wake() {
	for _, c := range []chan struct{}{f.readable, f.writable} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// read takes what has arrived. Without error or bytes it says how long to wait,
// 0 for a wake-up.
func (f *flow) read(p []byte) (n int, wait time.Duration, err error) {
	f.net.mu.Lock()
	defer f.net.mu.Unlock()
	switch {
	case f.gone:
		return 0, 0, net.ErrClosed
	case f.broken != nil:
		return 0, 0, f.broken
	case f.net.cut[f.way]:
		return 0, 0, nil
	}
	now := time.Now()
	for n < len(p) && len(f.parts) > 0 && !f.parts[0].at.After(now) {
		k := copy(p[n:], f.parts[0].bytes)
		n += k
		if f.parts[0].bytes = f.parts[0].bytes[k:]; len(f.parts[0].bytes) == 0 {
			f.parts = f.parts[1:]
		}
	}
	f.bytes -= n
	switch {
	case n > 0:
		f.wake()
	case len(f.parts) > 0:
		wait = f.parts[0].at.Sub(now)
	case f.ended:
		err = io.EOF
	}
	return n, wait, err
}

// write puts in what there is room for.
func (f *flow) write(p []byte) (n int, err error) {
	f.net.mu.Lock()
	defer f.net.mu.Unlock()
	switch {
	case f.ended:
		return 0, net.ErrClosed
	case f.broken != nil:
		return 0, f.broken
	// The news that the reader is gone is held up like all else it sends.
	case f.gone && !f.net.cut[way{f.way.to, f.way.from}]:
		return 0, io.ErrClosedPipe
	}
	n = min(len(p), flowBytesMax-f.bytes)
	if n == 0 {
		return 0, nil
	}
	at := time.Now().Add(f.net.delay[f.way])
	if k := len(f.parts); k > 0 && f.parts[k-1].at.After(at) {
		at = f.parts[k-1].at // a shorter delay overtakes nothing
	}
	f.parts = append(f.parts, part{at: at, bytes: append([]byte(nil), p[:n]...)})
	f.bytes += n
	f.wake()
	return n, nil
}

// memoryConn is one end of a connection: a net.Conn with one reader and one writer.
type memoryConn struct {
	in, out                     *flow
	readDeadline, writeDeadline deadline
}

func newMemoryConn(in, out *flow) *memoryConn {
	c := &memoryConn{in: in, out: out}
	c.readDeadline.passed, c.writeDeadline.passed = make(chan struct{}), make(chan struct{})
	return c
}

// Read implements net.Conn.
func (c *memoryConn) Read(p []byte) (int, error) {
	for {
		if c.readDeadline.over() {
			return 0, os.ErrDeadlineExceeded
		}
		n, wait, err := c.in.read(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		c.await(c.in.readable, &c.readDeadline, wait)
	}
}

// Write implements net.Conn.
func (c *memoryConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if c.writeDeadline.over() {
			return n, os.ErrDeadlineExceeded
		}
		k, err := c.out.write(p[n:])
		if n += k; err != nil {
			return n, err
		}
		if k == 0 {
			c.await(c.out.writable, &c.writeDeadline, 0)
		}
	}
	return n, nil
}

// await returns when there may be something to do; wait is 0 for no limit.
func (c *memoryConn) await(changed <-chan struct{}, d *deadline, wait time.Duration) {
	var arrived <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		arrived = t.C
	}
	select {
	case <-changed:
	case <-arrived:
	case <-d.channel():
	}
}

// Close implements net.Conn. What was written still arrives.
func (c *memoryConn) Close() error {
	m := c.in.net
	m.mu.Lock()
	defer m.mu.Unlock()
	c.in.gone, c.out.ended = true, true
	for _, f := range []*flow{c.in, c.out} {
		f.wake()
		if f.gone && f.ended {
			delete(m.flows, f)
		}
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *memoryConn) LocalAddr() net.Addr { return memoryAddress(c.out.way.from) }

// RemoteAddr implements net.Conn.
func (c *memoryConn) RemoteAddr() net.Addr { return memoryAddress(c.out.way.to) }

// SetDeadline implements net.Conn.
func (c *memoryConn) SetDeadline(t time.Time) error {
	c.readDeadline.set(t)
	c.writeDeadline.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *memoryConn) SetReadDeadline(t time.Time) error { c.readDeadline.set(t); return nil }

// SetWriteDeadline implements net.Conn.
func (c *memoryConn) SetWriteDeadline(t time.Time) error { c.writeDeadline.set(t); return nil }

// deadline closes a channel when its time has passed.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		d.passed = make(chan struct{}) // the old one is closed, or about to be
	}
	d.timer = nil
	if !t.IsZero() {
		passed := d.passed
		d.timer = time.AfterFunc(time.Until(t), func() { close(passed) })
	}
}

func (d *deadline) channel() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

func (d *deadline) over() bool {
	select {
	case <-d.channel():
		return true
	default:
		return false
	}
}
