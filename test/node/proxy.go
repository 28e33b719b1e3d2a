package node

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands before a node's address for others. Cut, it is a network that swallows:
// connections stay and carry nothing, new ones are taken and carry nothing.
type Proxy struct {
	Address string // where it listens
	to      string
	listen  net.Listener

	mu     sync.Mutex
	open   *sync.Cond // cut has ended, or all is closed
	cut    bool
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

func (p *Proxy) copy(to io.Writer, from io.Reader) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		for p.cut && !p.closed {
			p.open.Wait()
		}
		p.mu.Unlock()
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
