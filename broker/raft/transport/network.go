package transport

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Network is what a transport dials and listens with: the operating system's, or
// a simulator's.
type Network interface {
	// Dial connects to HOST:PORT, or fails by the end of ctx.
	Dial(ctx context.Context, address string) (net.Conn, error)
	// Listen accepts connections to HOST:PORT.
	Listen(address string) (net.Listener, error)
}

// OS is the operating system's TCP.
type OS struct{}

// Dial implements Network.
func (OS) Dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// Listen implements Network.
func (OS) Listen(address string) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(context.Background(), "tcp", address)
}

// limitUnheard has a TCP connection end when what was sent on it is not acknowledged
// for so long.
func limitUnheard(c net.Conn, d time.Duration) error {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("set the user timeout: %w", failed)
	}
	return nil
}
