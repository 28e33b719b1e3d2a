package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// messageConn is a raftio.IConnection: a route, and the next when that breaks. Were
// dragonboat told at once it would send nothing to the peer for half a second and
// longer: over a network that breaks connections more often than that, never again.
// It belongs to the goroutine that sends.
type messageConn struct {
	t      *Transport
	ctx    context.Context
	cancel context.CancelFunc
	target string

	*route
	// next, unless nil, gets the route that comes after one that broke.
	next chan reached
}

// route is a link for messages, and what waits to be sent on it.
type route struct {
	*link
	hold  *hold
	began time.Time
}

type reached struct {
	route *route
	err   error
}

// GetConnection connects to target for messages. The connection ends with ctx,
// which dragonboat ends before it waits for its senders.
func (t *Transport) GetConnection(ctx context.Context, target string) (raftio.IConnection, error) {
	c := &messageConn{t: t, target: target}
	c.ctx, c.cancel = context.WithCancel(ctx)
	var err error
	if c.route, err = c.reach(); err != nil {
		c.cancel()
		return nil, err
	}
	return c, nil
}

// passing are ends of a dial, what a starting node or a network that flaps gives, after
// which another may go through.
var passing = []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, context.DeadlineExceeded, os.ErrDeadlineExceeded}

// left are ends of a route that do not mend by dialing.
var left = []error{ErrClosed, ErrSlow, os.ErrDeadlineExceeded}

func isAny(err error, of []error) bool {
	return slices.ContainsFunc(of, func(e error) bool { return errors.Is(err, e) })
}

// reach dials until somebody answers, or has not for reachTimeMax. A dial that is not through
// after hedgePause is not waited for: the kernel repeats what a cut has swallowed after
// pauses that double, and the next goes at once. The first to be through is taken.
func (c *messageConn) reach() (*route, error) {
	ctx, cancel := context.WithTimeout(c.ctx, reachTimeMax)
	defer cancel()
	ends, under := make(chan dialed), 0
	dial := func() bool {
		under++
		return c.t.spawn(func() {
			l, err := c.t.connect(ctx, c.target, forMessages, ways{}, c.ctx, c.t.ctx)
			select {
			case ends <- dialed{l, err}:
			case <-ctx.Done():
				if l != nil {
					l.fail(ErrClosed)
				}
			}
		})
	}
	if !dial() {
		return nil, ErrClosed
	}
	next := time.NewTimer(hedgePause)
	defer next.Stop()
	var err error
	for pause := redialPause; ; {
		select {
		case d := <-ends:
			under--
			switch {
			case d.err == nil:
				return c.take(d.link)
			case !isAny(d.err, passing):
				return nil, d.err
			}
			err = d.err
			if under == 0 {
				next.Reset(pause)
				pause = min(2*pause, redialPauseMax)
			}
		case <-next.C:
			if under < hedgesMax && !dial() {
				return nil, ErrClosed
			}
			next.Reset(hedgePause)
		case <-ctx.Done():
			return nil, cmp.Or(err, fmt.Errorf("dial %s: %w", c.target, ctx.Err()))
		case <-c.t.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// dialed is how a dial has ended.
type dialed struct {
	link *link
	err  error
}

func (c *messageConn) take(l *link) (*route, error) {
	h := newHold()
	if !c.t.spawn(func() { h.run(l) }) {
		l.fail(ErrClosed)
		return nil, ErrClosed
	}
	return &route{l, h, time.Now()}, nil
}

// ready tells whether there is a route. Where it broke the next is dialed, which is waited
// for but redialWait: what is to be sent meanwhile is lost, as on a network, and Raft's
// heartbeats show what a follower lacks. An error says that none is to be had.
func (c *messageConn) ready() (bool, error) {
	if c.next == nil {
		why := c.failed()
		switch {
		case why == nil:
			return true, nil
		case time.Since(c.began) < redialPause || isAny(why, left):
			return false, why
		}
		next := make(chan reached, 1)
		if !c.t.spawn(func() {
			l, err := c.reach()
			if err != nil {
				err = errors.Join(why, err)
			}
			next <- reached{l, err}
		}) {
			return false, ErrClosed
		}
		c.next = next
	}
	wait := time.NewTimer(redialWait)
	defer wait.Stop()
	select {
	case r := <-c.next:
		c.next = nil
		if r.err != nil {
			return false, r.err
		}
		c.route = r.route
		return true, nil
	case <-wait.C:
		return false, nil
	}
}

// SendMessageBatch writes the batch, but for what may wait. It is on its way when nil
// is returned, not there, or lost on a way that is broken.
func (c *messageConn) SendMessageBatch(b pb.MessageBatch) error {
	if ready, err := c.ready(); !ready {
		c.counts.lostMessages.Add(uint64(len(b.Requests)))
		return err
	}
	b.Requests = c.hold.sift(b)
	defer c.hold.forget()
	if len(b.Requests) == 0 {
		return nil
	}
	if err := c.out.messages(&b); err != nil {
		c.fail(fmt.Errorf("send %d messages to %q: %w", len(b.Requests), c.peer, err))
	}
	c.hold.gather()
	_, err := c.ready()
	return err
}

// Close ends the connection.
func (c *messageConn) Close() {
	c.cancel()
	c.fail(ErrClosed)
}
