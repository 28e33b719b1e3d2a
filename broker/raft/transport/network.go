package transport

import (
	"context"
	"net"
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
