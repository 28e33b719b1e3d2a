package node

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands before a node's address for others. Cut, it is a network that swallows:
// connections stay and carry nothing, new ones are taken and carry nothing. Slow, it is a
// long way: everything arrives, later.
type Proxy struct {
	Address string // where it listens
	to      string
	listen  net.Listener

	mu     sync.Mutex
	open   *sync.Cond // cut has ended, or all is closed
	cut    bool
	delay  time.Duration
	closed bool
	conns  map[net.Conn]struct{}
}

// NewProxy listens at address and passes on what comes to the other.
func NewProxy(t testing.TB, address, to string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: address, to: to, listen: l, conns: map[net.Conn]struct{}{}}
	p.open = sync.NewCond(&p.mu)
	t.Cleanup(p.close)
	go p.accept()
	return p
}

// Cut swallows everything until Heal.
func (p *Proxy) Cut() { p.set(true) }

// Heal ends a cut. What was swallowed is lost with its connections: they are closed.
func (p *Proxy) Heal() { p.set(false) }

// Slow has what comes from now on take so much longer, each way; 0 ends it.
func (p *Proxy) Slow(by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = by
}

func (p *Proxy) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if !cut {
		for c := range p.conns {
			c.Close()
		}
	}
	p.open.Broadcast()
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listen.Close()
	p.set(false)
}

func (p *Proxy) accept() {
	for {
		in, err := p.listen.Accept()
		if err != nil {
			return
		}
		go p.serve(in)
	}
}

func (p *Proxy) serve(in net.Conn) {
	defer p.forget(in)
	if !p.keep(in) {
		return
	}
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer p.forget(out)
	if !p.keep(out) {
		return
	}
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			p.copy(way[1], way[0])
			done <- struct{}{}
		}()
	}
	<-done
}

// keep remembers a connection, so that Heal and the test's end close it.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// piece is what came in one read, and when it is to arrive.
type piece struct {
	b   []byte
	due time.Time
}

// underWay is how many pieces of up to 64 KiB a connection holds each way.
const underWay = 256

// copy passes on what comes, in order, until either end is closed.
func (p *Proxy) copy(to io.Writer, from io.Reader) {
	way, gone := make(chan piece, underWay), make(chan struct{})
	defer close(gone)
	go p.take(from, way, gone)
	for next := range way {
		if wait := time.Until(next.due); wait > 0 {
			<-time.After(wait)
		}
		p.await()
		if _, err := to.Write(next.b); err != nil {
			return
		}
	}
}

// take reads what comes until from is closed, or nobody passes it on any more.
func (p *Proxy) take(from io.Reader, way chan<- piece, gone <-chan struct{}) {
	defer close(way)
	for {
		b := make([]byte, 64<<10)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		due := time.Now().Add(p.delay)
		p.mu.Unlock()
		select {
		case way <- piece{b[:n], due}:
		case <-gone:
			return
		}
	}
}

// await returns when nothing is cut.
func (p *Proxy) await() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut && !p.closed {
		p.open.Wait()
	}
}
