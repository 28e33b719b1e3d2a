package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	gosync "sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc/connectivity"

	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/plugins/sync"
)

// What a launched sidecar is told by its environment.
const (
	envBrokerUID = "MILLRACE_BROKER_UID"
	envLifeline  = "MILLRACE_LIFELINE" // number of a descriptor that ends with the broker
)

// FolderPrefix begins the name of the folder that Launch makes for a sidecar's
// socket, and gives it as TMPDIR.
const FolderPrefix = "millrace-sidecar-"

// startTimeMax is how long a sidecar may take to answer; a cold start takes some
// 50 ms.
const startTimeMax = 10 * time.Second

// LaunchAsk says how to start a sidecar.
type LaunchAsk struct {
	Path     string   // of the executable millrace-sidecar
	CacheDir string   // of compiled modules; empty = none
	Args     []string // more flags of `millrace-sidecar serve`
	// Stderr takes the sidecar's log lines; nil drops them.
	Stderr io.Writer
}

// Launch starts a sidecar as a child and returns when it answers. The child ends
// when this process does, however it ends.
func Launch(ctx context.Context, ask LaunchAsk) (*Sidecar, error) {
	fail := func(err error) (*Sidecar, error) { return nil, fmt.Errorf("launch sidecar %s: %w", ask.Path, err) }
	dir, err := os.MkdirTemp("", FolderPrefix)
	if err != nil {
		return fail(err)
	}
	lifeRead, lifeWrite, err := os.Pipe()
	if err != nil {
		os.RemoveAll(dir)
		return fail(err)
	}
	args := append([]string{"serve"}, ask.Args...)
	if ask.CacheDir != "" {
		args = append(args, "--cache-dir", ask.CacheDir)
	}
	command := exec.Command(ask.Path, args...)
	// Nothing of the broker's environment, which may hold secrets.
	command.Env = []string{"TMPDIR=" + dir, envBrokerUID + "=" + strconv.Itoa(os.Geteuid()), envLifeline + "=3"}
	command.ExtraFiles = []*os.File{lifeRead}
	kinds := &clientKinds{rule: onlyPID(func() int { return command.Process.Pid })}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: handshake, Plugins: kinds.set(), Cmd: command, SkipHostEnv: true, StartTimeout: startTimeMax,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(), Stderr: ask.Stderr,
		GRPCDialOptions: kinds.dialOptions(),
	})
	var once gosync.Once
	end := func() error {
		once.Do(func() {
			client.Kill()
			lifeWrite.Close()
			os.RemoveAll(dir)
		})
		return nil
	}
	kinds.addr, err = client.Start()
	lifeRead.Close()
	if err != nil {
		end()
		return fail(err)
	}
	s, err := connect(ctx, client, kinds, end)
	if err != nil {
		return fail(err)
	}
	return s, nil
}

// AttachAsk says where a sidecar serves.
type AttachAsk struct {
	Socket string // path of its unix socket
}

// Attach connects to a sidecar that was deployed on its own.
func Attach(ctx context.Context, ask AttachAsk) (*Sidecar, error) {
	fail := func(err error) (*Sidecar, error) {
		return nil, fmt.Errorf("attach to sidecar at %s: %w", ask.Socket, err)
	}
	judge, err := ownerOfSocket(ask.Socket)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", control.ErrDown, err))
	}
	kinds := &clientKinds{rule: judge, addr: &net.UnixAddr{Name: ask.Socket, Net: "unix"}}
	gone := &attached{gone: make(chan struct{})}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: handshake, Plugins: kinds.set(), Logger: hclog.NewNullLogger(),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Reattach: &goplugin.ReattachConfig{
			Protocol: goplugin.ProtocolGRPC, ProtocolVersion: control.Protocol,
			Addr:         kinds.addr,
			ReattachFunc: func() (runner.AttachedRunner, error) { return gone, nil },
			Test:         true, // so that nothing here ends it
		},
		GRPCDialOptions: kinds.dialOptions(),
	})
	var once gosync.Once
	s, err := connect(ctx, client, kinds, func() error {
		once.Do(func() { close(gone.gone) })
		if kinds.conn == nil {
			return nil
		}
		return kinds.conn.Close() // never the client's Close: it would end the sidecar
	})
	if err != nil {
		return fail(err)
	}
	return s, nil
}

// connect takes the kinds off a client, and waits until the sidecar answers.
func connect(ctx context.Context, client *goplugin.Client, kinds *clientKinds, end func() error) (*Sidecar, error) {
	s := &Sidecar{died: make(chan struct{}), close: end}
	protocol, err := client.Client()
	if err == nil {
		s.Control, err = dispense[control.Control](protocol, kindControl)
	}
	if err == nil {
		s.Sync, err = dispense[sync.Transformer](protocol, kindSync)
	}
	if err == nil {
		s.Async, err = dispense[async.Opener](protocol, kindAsync)
	}
	if err == nil {
		asking, cancel := context.WithTimeout(ctx, startTimeMax)
		defer cancel()
		err = s.Control.Health(asking)
	}
	if err != nil {
		return nil, errors.Join(err, end())
	}
	go kinds.watch(s.died)
	return s, nil
}

func dispense[T any](protocol goplugin.ClientProtocol, name string) (T, error) {
	raw, err := protocol.Dispense(name)
	if err != nil {
		var none T
		return none, fmt.Errorf("dispense %s: %w", name, err)
	}
	return raw.(T), nil
}

// watch closes died when the connection, which was good, ends for any reason. A
// link never reconnects: whatever is there afterwards is another sidecar, which
// does not know our session.
//
// gRPC lets a call through a moment before it tells that it is connected.
func (c *clientKinds) watch(died chan struct{}) {
	if s := c.conn.GetState(); s == connectivity.Connecting {
		c.conn.WaitForStateChange(context.Background(), s)
	}
	for c.conn.GetState() == connectivity.Ready {
		c.conn.WaitForStateChange(context.Background(), connectivity.Ready)
	}
	c.conn.Close()
	close(died)
}

// attached is go-plugin's view of a process that is not ours.
type attached struct{ gone chan struct{} }

// Wait implements runner.AttachedRunner.
func (a *attached) Wait(context.Context) error {
	<-a.gone
	return nil
}

// Kill implements runner.AttachedRunner; it is never ours to end.
func (a *attached) Kill(context.Context) error { return nil }

// ID implements runner.AttachedRunner.
func (a *attached) ID() string { return "attached" }

// PluginToHost implements runner.AttachedRunner.
func (a *attached) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin implements runner.AttachedRunner.
func (a *attached) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
