package plugins

import (
	"errors"
	"fmt"
	"io"
	"net"
	gosync "sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/millrace-io/millrace/plugins/sync"
)

// lines are a server's connections that are not gRPC's: the sync kind's.
type lines struct {
	host Host

	mu     gosync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	served gosync.WaitGroup
}

func newLines(h Host) *lines { return &lines{host: h, conns: map[net.Conn]struct{}{}} }

// sort tells by a connection's first byte whose it is, and serves it if it is a
// line: gRPC is then told to leave it alone.
func (l *lines) sort(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var first [1]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return nil, nil, err
	}
	if first[0] != sync.Preface[0] {
		return &begun{Conn: conn, first: first[:]}, peerInfo{}, nil
	}
	rest := make([]byte, len(sync.Preface)-1)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return nil, nil, err
	}
	if string(rest) != sync.Preface[1:] {
		return nil, nil, fmt.Errorf("%w: it begins with %q", ErrPeer, string(first[:])+string(rest))
	}
	if err := conn.SetDeadline(time.Time{}); err != nil { // gRPC's, for the handshake
		return nil, nil, err
	}
	if !l.serve(conn) {
		return nil, nil, errors.New("closed")
	}
	return nil, nil, credentials.ErrConnDispatched
}

func (l *lines) serve(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.conns[conn] = struct{}{}
	l.served.Go(func() {
		sync.Serve(conn, l.host)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, conn)
	})
	return true
}

// close ends all lines and waits for what still runs on them.
func (l *lines) close() {
	l.mu.Lock()
	l.closed = true
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.served.Wait()
}

// begun is a connection of which the first bytes were read.
type begun struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}
