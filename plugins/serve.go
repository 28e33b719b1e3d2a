package plugins

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
)

// Lifeline is the broker's end of a launched sidecar's life; nil when this
// process was not launched by Launch. It reads as ended when the broker is gone.
func Lifeline() *os.File {
	fd, err := strconv.Atoi(os.Getenv(envLifeline))
	if err != nil || fd < 3 {
		return nil
	}
	return os.NewFile(uintptr(fd), "lifeline")
}

// Launched tells whether this process was started by Launch.
func Launched() bool { return os.Getenv(envLifeline) != "" }

// LaunchEnv names what Launch tells by the environment, for a sidecar that
// executes itself again.
func LaunchEnv() []string { return []string{envBrokerUID, envLifeline, handshake.MagicCookieKey} }

// Serve answers the broker that launched this process, until it hangs up. What
// is printed afterwards to os.Stdout and os.Stderr goes to the broker: keep the
// real ones before.
func Serve(h Host) error {
	uid, err := strconv.Atoi(os.Getenv(envBrokerUID))
	if err != nil {
		return fmt.Errorf("serve the broker: %s is not set: this is for `millrace start`; give --socket PATH to serve on one", envBrokerUID)
	}
	l := newLines(h)
	defer l.close()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake, Plugins: serverKinds(h), Logger: hclog.NewNullLogger(),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, serverOptions(onlyUID(uid), l)...)...)
		},
	})
	return nil
}

// Listen makes the socket of a sidecar deployed on its own: mode 0600, or 0660
// for a group (its gid; -1 = none). A socket that nobody serves is replaced.
func Listen(path string, gid int) (*net.UnixListener, error) {
	fail := func(err error) (*net.UnixListener, error) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return fail(err)
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
		return fail(fmt.Errorf("everybody may write in its directory (mode %o); make it 0750", info.Mode().Perm()))
	}
	if err := removeStale(path); err != nil {
		return fail(err)
	}
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return fail(err)
	}
	if gid >= 0 {
		if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o660)); err != nil {
			l.Close()
			return fail(err)
		}
	}
	return l, nil
}

// removeStale removes a socket that refuses connections.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return errors.New("there is something else than a socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return errors.New("another sidecar serves there")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// ServeSocket answers brokers on a socket until ctx ends.
func ServeSocket(ctx context.Context, h Host, l net.Listener) error {
	judge, err := usersOfSocket(l.Addr().String())
	if err != nil {
		return err
	}
	beside := newLines(h)
	defer beside.close()
	s := grpc.NewServer(serverOptions(judge, beside)...)
	control.Serve(s, h)
	async.Serve(s, h)
	// go-plugin's clients ask this service whether a plugin lives.
	answers := health.NewServer()
	answers.SetServingStatus(goplugin.GRPCServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s, answers)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}
