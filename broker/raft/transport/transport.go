package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// Options are what a transport is given beside dragonboat's own configuration.
type Options struct {
	// Network is what it dials and listens with; OS when nil.
	Network Network
	// TLS secures every connection, both ways; nil is plaintext.
	TLS TLS
	// Peer says why a node of this name may not be here; anyone may when it is nil.
	Peer func(name string) error
	// Answer does what a peer calls for; where it is nil every call is refused.
	// from is the name of the peer's hello. ctx ends with the peer's connection, so
	// when it waits no longer, and with the transport, whose Close waits for
	// Answer. body is Answer's for good, what it returns is the transport's. An
	// error goes to the peer as a Refusal. It may be called before Start has returned,
	// and by as many goroutines as there are connections for calls.
	Answer func(ctx context.Context, from string, method uint8, body []byte) ([]byte, error)
	// Traffic counts what goes to peers and comes from them; one of its own when nil.
	Traffic *Traffic
	Log     *slog.Logger
}

// Factory makes the transport of a NodeHost: config.ExpertConfig.TransportFactory.
type Factory struct{ options Options }

// NewFactory gives a factory that makes transports as o says.
func NewFactory(o Options) *Factory {
	if o.Network == nil {
		o.Network = OS{}
	}
	if o.Traffic == nil {
		o.Traffic = NewTraffic()
	}
	if o.Peer == nil {
		o.Peer = func(string) error { return nil }
	}
	return &Factory{options: o}
}

// Create implements config.TransportFactory. The transport is known by the
// NodeHost's id, or by its address where it has none.
func (f *Factory) Create(c config.NodeHostConfig, messages raftio.MessageHandler, chunks raftio.ChunkHandler) raftio.ITransport {
	name := c.NodeHostID
	if name == "" {
		name = c.RaftAddress
	}
	t := &Transport{
		Options: f.options, name: name, address: c.GetListenAddress(),
		messages: messages, chunks: chunks,
		messageBudget: newBudget(messageBudgetBytes), chunkBudget: newBudget(chunkBudgetBytes),
		callBudget: newBudget(callBudgetBytes), resultBudget: newBudget(resultBudgetBytes), calls: newPool(),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// Validate implements config.TransportFactory: an address is HOST:PORT.
func (f *Factory) Validate(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port != ""
}

// Transport is the transport of one node. Its methods may be called from any
// goroutine.
type Transport struct {
	Options
	name, address string
	messages      raftio.MessageHandler
	chunks        raftio.ChunkHandler

	messageBudget, chunkBudget, callBudget, resultBudget *budget

	calls *pool

	// ctx ends with Close.
	ctx      context.Context
	cancel   context.CancelFunc
	listener net.Listener

	// mu orders the start of goroutines and Close, which waits for them; accepted
	// counts the connections that peers have here, acceptedForCalls some of them.
	mu                         sync.Mutex
	closed                     bool
	running                    sync.WaitGroup
	accepted, acceptedForCalls int
}

// Name implements raftio.ITransport.
func (t *Transport) Name() string { return "millrace" }

// Start listens.
func (t *Transport) Start() error {
	l, err := t.Network.Listen(t.address)
	if err != nil {
		return fmt.Errorf("listen for nodes on %s: %w", t.address, err)
	}
	t.listener = l
	if !t.spawn(t.accept) {
		return errors.Join(ErrClosed, l.Close())
	}
	return nil
}

// Close ends every connection, and returns when every goroutine has ended.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	var err error
	if t.listener != nil {
		err = t.listener.Close()
	}
	t.running.Wait()
	return err
}

// spawn runs f on a goroutine that Close waits for; false after Close.
func (t *Transport) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.running.Go(f)
	return true
}

// GetSnapshotConnection connects to target for one snapshot.
func (t *Transport) GetSnapshotConnection(ctx context.Context, target string) (raftio.ISnapshotConnection, error) {
	taken := make(chan struct{}, 1)
	l, err := t.connect(ctx, target, forSnapshot, ways{taken: taken}, ctx, t.ctx)
	if err != nil {
		return nil, err
	}
	return snapshotConn{link: l, taken: taken}, nil
}

// connect dials and greets as long as ctx lasts; the connection ends with any of until.
func (t *Transport) connect(ctx context.Context, target string, p purpose, w ways, until ...context.Context) (*link, error) {
	name, address := splitTarget(target)
	dialing, cancel := context.WithTimeout(ctx, connectTimeMax)
	defer cancel()
	raw, err := t.dial(dialing, address, p)
	if err != nil {
		return nil, fmt.Errorf("dial node %q at %s: %w", name, address, err)
	}
	l := newLink(raw)
	release := l.endWith(until...)
	defer l.endWith(ctx)()
	err = t.greet(dialing, l, address, hello{lowest: version, highest: version, purpose: p, name: t.name, expects: name})
	started := err == nil && t.spawn(func() {
		l.ping()
		release()
		if w.over != nil {
			w.over()
		}
	}) && t.spawn(func() { l.listen(t.ctx, w) })
	if !started {
		release()
		if err == nil {
			err = ErrClosed
		}
		l.fail(err)
		return nil, fmt.Errorf("connect to node %q at %s: %w", name, address, err)
	}
	return l, nil
}

// dial makes a connection. Where a kernel repeats what is lost after pauses that double,
// until those are longer than the cut was, one for messages is given up and made again.
func (t *Transport) dial(ctx context.Context, address string, p purpose) (net.Conn, error) {
	if p != forMessages {
		return t.Network.Dial(ctx, address)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeMax)
	defer cancel()
	raw, err := t.Network.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := limitUnheard(raw, unheardTimeMax); err != nil {
		_ = raw.Close() // it is broken, or the kernel is not one that we know
		return nil, err
	}
	return raw, nil
}

// greet is the dialing end's part of the handshake.
func (t *Transport) greet(ctx context.Context, l *link, address string, us hello) error {
	if err := l.raw.SetDeadline(time.Now().Add(connectTimeMax)); err != nil {
		return err
	}
	conn := l.raw
	if t.TLS != nil {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		c := tls.Client(l.raw, t.TLS.Client(host))
		if err := c.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS handshake: %w", err)
		}
		conn = c
	}
	l.through(conn, answerBufferBytes)
	if us.purpose == forCalls {
		l.in.budget = t.resultBudget
	}
	if err := l.sayHello(us); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	them, err := l.hearHello(ctx)
	if err != nil {
		return err
	}
	if err := them.meets(us); err != nil {
		return err
	}
	return l.settle(them.name, t.Traffic.of(them.name))
}

// snapshotConn is a raftio.ISnapshotConnection. It has one chunk on its way.
type snapshotConn struct {
	*link
	taken <-chan struct{}
}

// SendChunk returns nil once the receiver has the chunk in its file, so that
// dragonboat hears of a refused snapshot, and Close loses nothing.
func (c snapshotConn) SendChunk(chunk pb.Chunk) error {
	if err := c.failed(); err != nil {
		return err
	}
	if err := c.out.chunk(chunk); err != nil {
		c.fail(fmt.Errorf("send chunk %d of a snapshot of shard %d to %q: %w", chunk.ChunkId, chunk.ShardID, c.peer, err))
		return c.failed()
	}
	slow := time.NewTimer(takenTimeMax)
	defer slow.Stop()
	select {
	case <-c.taken:
		return nil
	case <-slow.C:
		c.fail(fmt.Errorf("%w: %q has not taken chunk %d of a snapshot of shard %d", ErrSlow, c.peer, chunk.ChunkId, chunk.ShardID))
	case <-c.over:
	}
	return c.failed()
}

// Close ends the connection.
func (c snapshotConn) Close() { c.fail(ErrClosed) }
