package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ErrUnreachable says that a Memory network has no listener at an address, or
// that the connection to it was reset: as from an operating system, try again.
var ErrUnreachable = errors.New("unreachable")

// Memory is a network inside a process, for tests and the simulator. Each node
// has its own view of it; what flows from one node to another can be held up,
// delayed or cut off, in one direction or both. As with TCP, bytes are never lost
// from the middle of a connection: a cut holds them until it heals, a reset
// breaks the connection.
type Memory struct {
	// mu guards all of the network: its connections' buffers too.
	mu        sync.Mutex
	listeners map[string]*memoryListener
	cut       map[way]bool
	delay     map[way]time.Duration
	// flows are both directions of every open connection.
	flows map[*flow]struct{}
	// changed is closed, and made anew, when a cut heals: dials wait for it.
	changed chan struct{}
}

// way is from one node to another.
type way struct{ from, to string }

// NewMemory makes a network without nodes.
func NewMemory() *Memory {
	return &Memory{
		listeners: map[string]*memoryListener{}, cut: map[way]bool{}, delay: map[way]time.Duration{},
		flows: map[*flow]struct{}{}, changed: make(chan struct{}),
	}
}

// Node gives the network as a node sees it. Any address may be listened on, by one.
func (m *Memory) Node(name string) Network { return memoryNode{m, name} }

// Cut holds up all that flows from one node to the other, and so every dial
// between the two, until Heal.
func (m *Memory) Cut(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut[way{from, to}] = true
}

// Heal undoes Cut.
func (m *Memory) Heal(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.cut, way{from, to})
	close(m.changed)
	m.changed = make(chan struct{})
	for f := range m.flows {
		f.wake()
	}
}

// Delay makes what is written from now on arrive later by d.
func (m *Memory) Delay(from, to string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delay[way{from, to}] = d
}

// Reset breaks every connection between two nodes, and what is on its way is lost.
func (m *Memory) Reset(a, b string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for f := range m.flows {
		if f.way == (way{a, b}) || f.way == (way{b, a}) {
			f.broken = fmt.Errorf("%w: reset", ErrUnreachable)
			f.wake()
		}
	}
}

type memoryNode struct {
	net  *Memory
	name string
}

// Listen implements Network.
func (n memoryNode) Listen(address string) (net.Listener, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.net.listeners[address] != nil {
		return nil, fmt.Errorf("listen on %s: it is taken", address)
	}
	l := &memoryListener{net: n.net, node: n.name, address: address, queue: make(chan net.Conn), closed: make(chan struct{})}
	n.net.listeners[address] = l
	return l, nil
}

// Dial implements Network. Through a cut it waits, as a lost packet makes TCP wait.
func (n memoryNode) Dial(ctx context.Context, address string) (net.Conn, error) {
	for {
		l, here, there, changed := n.open(address)
		if l == nil && changed == nil {
			return nil, fmt.Errorf("%w: nothing listens on %s", ErrUnreachable, address)
		}
		var queue chan<- net.Conn
		var closed <-chan struct{}
		if l != nil {
			queue, closed = l.queue, l.closed
		}
		select {
		case queue <- there:
			return here, nil
		case <-changed:
			continue
		case <-closed:
		case <-ctx.Done():
		}
		if here != nil {
			_, _ = here.Close(), there.Close()
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial %s: %w", address, ctx.Err())
		}
	}
}

// open makes both ends of a connection to who listens on address, or gives what
// to wait for if the way is cut, or neither if nobody does.
func (n memoryNode) open(address string) (l *memoryListener, here, there *memoryConn, changed <-chan struct{}) {
	m := n.net
	m.mu.Lock()
	defer m.mu.Unlock()
	l = m.listeners[address]
	if l == nil {
		return nil, nil, nil, nil
	}
	out, back := way{n.name, l.node}, way{l.node, n.name}
	if m.cut[out] || m.cut[back] {
		return nil, nil, nil, m.changed
	}
	a, b := newFlow(m, out), newFlow(m, back)
	m.flows[a], m.flows[b] = struct{}{}, struct{}{}
	return l, newMemoryConn(b, a), newMemoryConn(a, b), nil
}

// memoryListener is a net.Listener, and its own address.
type memoryListener struct {
	net           *Memory
	node, address string
	queue         chan net.Conn
	once          sync.Once
	closed        chan struct{}
}

// Accept implements net.Listener.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *memoryListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.address)
		close(l.closed)
	})
	return nil
}

// Addr implements net.Listener.
func (l *memoryListener) Addr() net.Addr { return memoryAddress(l.address) }

type memoryAddress string

func (memoryAddress) Network() string  { return "memory" }
func (a memoryAddress) String() string { return string(a) }
