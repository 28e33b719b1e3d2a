package kafka

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one connection. It belongs to its reader, the goroutine of serve;
// drain and the fields marked atomic may be touched by others.
type conn struct {
	server *Server
	nc     net.Conn
	// listener is the name of the one that it came in by.
	listener string
	frames   frames
	out      writer // the writer's; the reader's while queued is 0

	answers  chan answer
	queued   atomic.Int32 // answers that the writer has not sent yet
	broken   atomic.Bool  // nothing can be sent any more
	draining atomic.Bool

	software string // bounded name of the client's library; the reader's
	// sent are the partitions that its consumer was told to read elsewhere; the reader's.
	sent map[model.PartitionID]sent
	// late is since when replicas here are behind its consumer; the reader's.
	late map[model.PartitionID]time.Time
}

// answer is what one request gets: a response, or a pending one. Handed to the
// writer; nobody else touches it then.
type answer struct {
	r        *request
	response kmsg.Response
	pending  pending
	charge   *charge
}

// pending is a response to come. done may be asked again and again; response
// waits for it and says whether the connection must end instead (acks=0).
type pending interface {
	done() bool
	response() (kmsg.Response, error)
}

// request is one request as its handler sees it, besides the message.
type request struct {
	header
	conn     *conn
	row      *row
	received time.Time
	bytesIn  int
	decoded  int // bytes of the message, records excepted
	charge   *charge
	silent   bool     // not to be answered
	size     int      // a hint: bytes of the answer
	held     int64    // of the budget of answers
	lent     [][]byte // borrowed memory in the answer, to give back with it
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, nc: nc, answers: make(chan answer, answersMax)}
	c.frames = frames{conn: nc, in: bufio.NewReaderSize(nc, 8<<10), pools: s.requests, idle: s.limits.Idle, draining: &c.draining, served: s.serves}
	c.out = writer{conn: nc, pool: s.responses}
	return c
}

// serve reads requests until the peer leaves, misbehaves, or the server drains.
func (c *conn) serve() {
	written := make(chan struct{})
	go func() { defer close(written); c.write() }()
	err := c.read()
	close(c.answers)
	<-written
	_ = c.nc.Close()
	if err != nil && !c.broken.Load() && !ordinary(err) { // fail has said so itself
		c.server.complaints.warn("connection closed", c.nc.RemoteAddr(), c.listener, err)
		c.server.metrics.ProtocolError()
	}
}

// ordinary tells the ends of connections that nobody needs to hear of.
func ordinary(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, context.Canceled) || isReset(err)
}

func (c *conn) read() error {
	for !c.broken.Load() {
		body, charge, err := c.frames.next(c.server.ctx, c.server.limits.FrameBytesMax)
		if err != nil {
			return err
		}
		a, err := c.handle(body, charge)
		if err != nil {
			charge.release()
			return err
		}
		c.frames.known = true
		if err := c.reply(a); err != nil {
			return err
		}
	}
	return nil
}

// handle decodes and dispatches one frame.
func (c *conn) handle(body []byte, charge *charge) (answer, error) {
	r := &request{conn: c, received: c.server.o.Now(), bytesIn: len(body), charge: charge}
	message, err := c.server.decode(r, body)
	if err != nil {
		return answer{}, err
	}
	a := answer{r: r, charge: charge}
	if r.row.start != nil {
		a.pending, err = r.row.start(c.server, r, message)
		return a, err
	}
	ctx, stop := c.attend()
	defer stop()
	a.response = r.row.handle(ctx, c.server, r, message)
	return a, nil
}

// reply hands a to the writer, or sends it right away when nothing is queued:
// the writer is then idle, and only this goroutine can give it work.
func (c *conn) reply(a answer) error {
	if a.pending == nil && c.queued.Load() == 0 {
		return c.settle(c.out.send(&a), &a)
	}
	c.queued.Add(1)
	c.answers <- a
	return nil
}

// write sends what is queued, in order, several answers in one write when they
// are ready. After a failure it only waits for the outcomes, since the frames
// of pending requests are in use until then.
func (c *conn) write() {
	var batch []answer
	flush := func() {
		err := c.out.flush()
		for i := range batch {
			_ = c.settle(err, &batch[i])
		}
		c.queued.Add(-int32(len(batch)))
		clear(batch)
		batch = batch[:0]
	}
	for a := range c.answers {
		if a.pending != nil && !a.pending.done() {
			flush()
		}
		if err := c.out.gather(&a); err != nil {
			c.fail(err)
		}
		batch = append(batch, a)
		if len(c.answers) == 0 || c.out.bytes >= writeBytesMax {
			flush()
		}
	}
}

// settle ends an answer: gives back what it held, and breaks the connection on
// an error.
func (c *conn) settle(err error, a *answer) error {
	a.charge.release()
	c.server.responses.release(a.r.held)
	a.r.held = 0
	for _, b := range a.r.lent {
		block.Return(b)
	}
	a.r.lent = nil
	now := c.server.o.Now()
	c.server.metrics.Request(a.r.row.name, now.Sub(a.r.received), a.r.bytesIn, a.r.size)
	if err != nil {
		c.fail(err)
	}
	return err
}

// fail gives the connection up; the reader notices by its next read.
func (c *conn) fail(err error) {
	if c.broken.Swap(true) {
		return
	}
	c.out.broken = true
	_ = c.nc.Close()
	if errors.Is(err, errPressed) || errors.Is(err, errStalled) {
		c.server.complaints.warn("connection dropped: its answers are not read", c.nc.RemoteAddr(), c.listener, err)
		c.server.metrics.ProtocolError()
	}
}

// drain lets the reader end after the request that it is at.
func (c *conn) drain() {
	c.draining.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// attendAfter is how long a handler runs before the connection is watched for
// the peer's leaving: a waiting fetch or join is then given up.
const attendAfter = time.Second

// attend gives the context of a handler: it ends with the server, or when the
// peer leaves during a long wait. stop must be called before the next read.
func (c *conn) attend() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(c.server.ctx)
	w := &lurker{conn: c, cancel: cancel, gone: make(chan struct{})}
	t := time.AfterFunc(attendAfter, w.run)
	return ctx, func() {
		if !t.Stop() {
			w.stop()
		}
		cancel()
	}
}

// lurker reads ahead while the reader is in a handler. mu guards stopped, so
// that the deadline that wakes it cannot be overwritten by its own.
type lurker struct {
	conn    *conn
	cancel  context.CancelFunc
	gone    chan struct{}
	mu      sync.Mutex
	stopped bool
}

func (l *lurker) run() {
	defer close(l.gone)
	l.mu.Lock()
	if !l.stopped {
		_ = l.conn.nc.SetReadDeadline(time.Time{})
	}
	l.mu.Unlock()
	if _, err := l.conn.frames.in.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.cancel()
	}
}

func (l *lurker) stop() {
	l.mu.Lock()
	l.stopped = true
	_ = l.conn.nc.SetReadDeadline(time.Unix(1, 0))
	l.mu.Unlock()
	<-l.gone
}
