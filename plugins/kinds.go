package plugins

import (
	"context"
	"net"
	gosync "sync"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/plugins/sync"
)

// Host is what serves all three kinds; a sidecar's engine, or a trusted native
// executable.
type Host interface {
	control.Host
	sync.Host
	async.Host
}

// The names of the kinds in go-plugin's terms.
const (
	kindControl = "control"
	kindSync    = "sync"
	kindAsync   = "async"
)

// handshake keeps a sidecar from being started by hand, and a broker from
// talking to some other plugin. It is no secret.
var handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  control.Protocol,
	MagicCookieKey:   "MILLRACE_SIDECAR",
	MagicCookieValue: "3f6f1d5b6c1e4a0f",
}

// windowBytes is what one end may send before the other has read it: the next
// batch lies ready while one is transformed.
const windowBytes = 4 << 20

// kind is one of them, on either side.
type kind struct {
	goplugin.NetRPCUnsupportedPlugin
	serve  func(grpc.ServiceRegistrar)
	client func(*grpc.ClientConn) any
}

// GRPCServer implements go-plugin's GRPCPlugin.
func (k *kind) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	k.serve(s)
	return nil
}

// GRPCClient implements go-plugin's GRPCPlugin.
func (k *kind) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return k.client(conn), nil
}

// serverKinds serve a host.
func serverKinds(h Host) goplugin.PluginSet {
	return goplugin.PluginSet{
		kindControl: &kind{serve: func(r grpc.ServiceRegistrar) { control.Serve(r, h) }},
		kindSync:    &kind{serve: func(grpc.ServiceRegistrar) {}}, // see lines
		kindAsync:   &kind{serve: func(r grpc.ServiceRegistrar) { async.Serve(r, h) }},
	}
}

// clientKinds share the link that they make of the first connection.
type clientKinds struct {
	once gosync.Once
	conn *grpc.ClientConn
	link *control.Link
	rule rule
	addr net.Addr // of the sidecar's socket; set before the kinds are used
}

// dial makes another connection to the sidecar, and asks the kernel who is there.
func (c *clientKinds) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, c.addr.Network(), c.addr.String())
	if err != nil {
		return nil, err
	}
	if _, _, err := (peercred{rule: c.rule}).ClientHandshake(ctx, "", conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c *clientKinds) linkOf(conn *grpc.ClientConn) *control.Link {
	c.once.Do(func() { c.conn, c.link = conn, &control.Link{Conn: conn, Dial: c.dial} })
	return c.link
}

func (c *clientKinds) set() goplugin.PluginSet {
	return goplugin.PluginSet{
		kindControl: &kind{client: func(conn *grpc.ClientConn) any { return control.NewClient(c.linkOf(conn)) }},
		kindSync:    &kind{client: func(conn *grpc.ClientConn) any { return sync.NewClient(c.linkOf(conn)) }},
		kindAsync:   &kind{client: func(conn *grpc.ClientConn) any { return async.NewClient(c.linkOf(conn)) }},
	}
}

func (c *clientKinds) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(peercred{rule: c.rule}),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(4 * windowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(control.MessageBytesMax), grpc.MaxCallSendMsgSize(control.MessageBytesMax)),
		grpc.WithReadBufferSize(256 << 10), grpc.WithWriteBufferSize(256 << 10),
		grpc.WithIdleTimeout(0), // the connection's end is the sidecar's
	}
}

func serverOptions(r rule, l *lines) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(peercred{rule: r, lines: l}),
		grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(4 * windowBytes),
		grpc.MaxRecvMsgSize(control.MessageBytesMax), grpc.MaxSendMsgSize(control.MessageBytesMax),
		grpc.ReadBufferSize(256 << 10), grpc.WriteBufferSize(256 << 10),
	}
}
