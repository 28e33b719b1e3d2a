package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrClosed says that the connection was closed at this end.
var ErrClosed = errors.New("connection is closed")

// link is one connection, of either end. in belongs to the goroutine that reads;
// all else may be used by any.
type link struct {
	// raw is the connection below TLS. Closing it ends every read and write at
	// once; TLS would first try to say goodbye to a peer that may be dead.
	raw  net.Conn
	in   *reader
	out  *writer
	peer string
	// counts are the peer's, from the end of the handshake on.
	counts *counts
	// counted says that it is one of the accepted ones for calls.
	counted bool

	once sync.Once
	over chan struct{}
	// why is set before over is closed.
	why error
}

func newLink(raw net.Conn) *link { return &link{raw: raw, over: make(chan struct{})} }

// through says what frames go through: raw, or TLS over it.
func (l *link) through(conn net.Conn, bufferBytes int) {
	l.in, l.out = newReader(conn, bufferBytes), newWriter(conn)
}

// fail closes the connection; the first reason stands.
func (l *link) fail(why error) {
	l.once.Do(func() {
		l.why = why
		close(l.over)
		_ = l.raw.Close() // nothing can be done about it, and nothing depends on it
	})
}

// endWith closes the connection when one of ctxs ends. release must be called
// once it is over: the contexts, which live longer, hold on to it until then.
func (l *link) endWith(ctxs ...context.Context) (release func()) {
	var stops []func() bool
	for _, ctx := range ctxs {
		stops = append(stops, context.AfterFunc(ctx, func() { l.fail(ErrClosed) }))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// failed gives the reason once the connection is over.
func (l *link) failed() error {
	select {
	case <-l.over:
		return l.why
	default:
		return nil
	}
}

// settle ends the handshake: from here on silence is watched, not the clock.
func (l *link) settle(peer string, c *counts) error {
	l.peer, l.in.src.handshake = peer, false
	l.counts, l.in.counts, l.out.counts = c, c, c
	return l.raw.SetDeadline(time.Time{})
}

// ping pings until the connection is over; it counts as long.
func (l *link) ping() {
	l.counts.connections.Add(1)
	defer l.counts.connections.Add(-1)
	t := time.NewTicker(pingInterval)
	defer t.Stop()
	for {
		select {
		case <-l.over:
			return
		case <-t.C:
			if err := l.out.ping(); err != nil {
				l.fail(fmt.Errorf("ping: %w", err))
			}
		}
	}
}

// sayHello sends this end's hello.
func (l *link) sayHello(us hello) error { return l.out.small(kindHello, us.appendTo(nil)) }

// hearHello reads the other's. A peer that refuses says why instead.
func (l *link) hearHello(ctx context.Context) (hello, error) {
	if err := l.in.next(ctx); err != nil {
		return hello{}, fmt.Errorf("read hello: %w", err)
	}
	defer l.in.done()
	switch l.in.head.kind {
	case kindHello:
		return parseHello(l.in.meta)
	case kindRefused:
		return hello{}, l.refused()
	}
	return hello{}, fmt.Errorf("%w: of kind %d before a hello", ErrFrame, l.in.head.kind)
}

func (l *link) refused() error { return fmt.Errorf("%w: %q", ErrRefused, l.in.meta) }

// ways are where what comes back to the end that dialed goes, each nil where its
// like does not come.
type ways struct {
	// taken gets the answers to chunks.
	taken chan<- struct{}
	// asked has where the answer to the call under way goes, with room for it.
	asked <-chan chan<- outcome
	// over is run once the connection is over.
	over func()
}

// listen reads what comes back to the end that dialed, until the connection is
// over: pings, answers to chunks and calls, a reason to close.
func (l *link) listen(ctx context.Context, w ways) {
	defer l.in.done()
	for {
		if err := l.in.next(ctx); err != nil {
			l.fail(fmt.Errorf("%q is gone: %w", l.peer, err))
			return
		}
		switch l.in.head.kind {
		case kindPing:
		case kindRefused:
			l.fail(l.refused())
			return
		case kindTaken:
			select {
			case w.taken <- struct{}{}:
			default:
				l.fail(errUnasked)
				return
			}
		case kindResult:
			if err := l.deliver(w.asked); err != nil {
				l.fail(err)
				return
			}
		default:
			l.fail(fmt.Errorf("%w: an answer of kind %d", ErrFrame, l.in.head.kind))
			return
		}
		l.in.done()
	}
}

var errUnasked = fmt.Errorf("%w: an answer that nothing waits for", ErrFrame)

// deliver reads an answer and hands it to who waits for it.
func (l *link) deliver(asked <-chan chan<- outcome) error {
	select {
	case reply := <-asked:
		a, err := l.readAnswer()
		if err == nil {
			reply <- a
		}
		return err
	default:
		return errUnasked
	}
}
