package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// accept takes connections until Close.
func (t *Transport) accept() {
	for {
		raw, err := t.listener.Accept()
		if t.ctx.Err() != nil {
			if err == nil {
				_ = raw.Close()
			}
			return
		}
		if err != nil {
			t.Log.Warn("accept failed", "address", t.address, "error", err)
			select {
			case <-time.After(acceptPause):
			case <-t.ctx.Done():
				return
			}
			continue
		}
		if !t.admit() || !t.spawn(func() { t.serve(raw) }) {
			_ = raw.Close()
		}
	}
}

// admit counts a connection in, or says that there are too many.
func (t *Transport) admit() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.accepted >= acceptedMax {
		t.Log.Warn("connection from a node refused: too many", "limit", acceptedMax)
		return false
	}
	t.accepted++
	return true
}

// admitForCalls counts a connection in that is for calls.
func (t *Transport) admitForCalls(l *link) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.acceptedForCalls >= acceptedCallsMax {
		return fmt.Errorf("%d connections for calls are too many", acceptedCallsMax)
	}
	t.acceptedForCalls++
	l.counted = true
	return nil
}

func (t *Transport) leave(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.accepted--
	if l.counted {
		t.acceptedForCalls--
	}
}

// serve reads one connection until it is over.
func (t *Transport) serve(raw net.Conn) {
	l := newLink(raw)
	defer t.leave(l)
	d := newDesk(t, l)
	defer d.close()
	defer l.endWith(t.ctx)()
	p, err := t.welcome(l)
	if err == nil {
		if t.spawn(l.ping) {
			err = t.receive(d, p)
		}
		l.in.done()
	}
	if err != nil && !errors.Is(err, io.EOF) && l.failed() == nil {
		t.Log.Warn("connection from a node failed", "node", l.peer, "remote", raw.RemoteAddr().String(), "error", err)
		if l.out != nil {
			_ = l.out.refuse(err) // it may be gone
		}
	}
	l.fail(err)
}

// welcome is the accepting end's part of the handshake.
func (t *Transport) welcome(l *link) (purpose, error) {
	if err := l.raw.SetDeadline(time.Now().Add(connectTimeMax)); err != nil {
		return 0, err
	}
	conn := l.raw
	if t.TLS != nil {
		c := tls.Server(l.raw, t.TLS.Server())
		if err := c.HandshakeContext(t.ctx); err != nil {
			return 0, fmt.Errorf("TLS handshake: %w", err)
		}
		conn = c
	}
	l.through(conn, readBufferBytes)
	them, err := l.hearHello(t.ctx)
	if err != nil {
		return 0, err
	}
	us := hello{lowest: version, highest: version, purpose: them.purpose, name: t.name}
	switch them.purpose {
	case forMessages:
		l.in.budget = t.messageBudget
	case forSnapshot:
		l.in.budget = t.chunkBudget
	case forCalls:
		l.in.budget = t.callBudget
	default:
		return 0, fmt.Errorf("%w: a connection for %d", ErrFrame, them.purpose)
	}
	if err := them.meets(us); err != nil {
		return 0, err
	}
	if err := t.Peer(them.name); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrPeer, err)
	}
	if them.purpose == forCalls {
		if err := t.admitForCalls(l); err != nil {
			return 0, err
		}
	}
	if err := l.sayHello(us); err != nil {
		return 0, err
	}
	return them.purpose, l.settle(them.name, t.Traffic.of(them.name))
}

// receive hands over what comes until the connection is over; a clean end is io.EOF.
func (t *Transport) receive(d *desk, p purpose) error {
	var scratch batch
	l := d.link
	for {
		if err := l.in.next(t.ctx); err != nil {
			return err
		}
		var err error
		switch k := l.in.head.kind; {
		case k == kindPing:
		case k == kindMessages && p == forMessages:
			err = t.receiveBatch(l, &scratch)
		case k == kindChunk && p == forSnapshot:
			err = t.receiveChunk(l)
		case k == kindCall && p == forCalls:
			err = d.receive()
		default:
			err = fmt.Errorf("%w: of kind %d on a connection for %d", ErrFrame, k, p)
		}
		if err != nil {
			return err
		}
		l.in.done()
	}
}

func (t *Transport) receiveBatch(l *link, b *batch) error {
	if err := b.decode(l.in.meta, l.peer); err != nil {
		return err
	}
	if b.bytes != l.in.head.data {
		return fmt.Errorf("%w: commands of %d bytes, data of %d", ErrLength, b.bytes, l.in.head.data)
	}
	if err := b.read(l.in.take); err != nil {
		return err
	}
	l.counts.receivedMessages.Add(uint64(len(b.Requests)))
	t.messages(b.MessageBatch)
	b.release()
	return nil
}

func (t *Transport) receiveChunk(l *link) (err error) {
	var c pb.Chunk
	if err := c.Unmarshal(l.in.meta); err != nil {
		return fmt.Errorf("%w: chunk: %w", ErrFrame, err)
	}
	if c.Data, err = l.in.take(l.in.head.data); err != nil {
		return err
	}
	if !t.chunks(c) {
		return fmt.Errorf("chunk %d of a snapshot of shard %d at index %d is not wanted", c.ChunkId, c.ShardID, c.Index)
	}
	return l.out.small(kindTaken, nil)
}
