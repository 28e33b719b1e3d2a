package plugins

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// ErrPeer means that the process at the other end of the socket is not one we
// talk to. Somebody else holds the socket's path: look who.
var ErrPeer = errors.New("the socket's other end is not trusted")

// peer is who is at the other end, as the kernel knows it.
type peer struct {
	pid    int
	uid    int
	groups []int
}

// rule judges a peer; nil = welcome.
type rule func(p peer) error

// peercred is gRPC's transport security for unix sockets: nothing is encrypted,
// but both ends ask the kernel who the other is. A server gives the connections
// that are not gRPC's to lines.
type peercred struct {
	rule  rule
	lines *lines
}

// ClientHandshake implements credentials.TransportCredentials.
func (c peercred) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.handshake(conn)
}

// ServerHandshake implements credentials.TransportCredentials.
func (c peercred) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if _, _, err := c.handshake(conn); err != nil {
		return nil, nil, err
	}
	return c.lines.sort(conn)
}

func (c peercred) handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p, err := peerOf(conn)
	if err == nil {
		err = c.rule(p)
	}
	if err != nil {
		return nil, nil, err
	}
	return conn, peerInfo{}, nil
}

// Info implements credentials.TransportCredentials.
func (peercred) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: peerInfo{}.AuthType()}
}

// Clone implements credentials.TransportCredentials.
func (c peercred) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (peercred) OverrideServerName(string) error { return nil }

type peerInfo struct{}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "peercred" }

// peerOf asks the kernel who is at the other end.
func peerOf(conn net.Conn) (peer, error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return peer{}, fmt.Errorf("%w: it is no unix socket", ErrPeer)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, fmt.Errorf("ask for the peer: %w", err)
	}
	var p peer
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		p = peer{pid: int(cred.Pid), uid: int(cred.Uid), groups: append(peerGroups(int(fd)), int(cred.Gid))}
	})
	if err = errors.Join(err, failed); err != nil {
		return peer{}, fmt.Errorf("ask for the peer: %w", err)
	}
	return p, nil
}

// peerGroupsMax bounds a peer's supplementary groups; Linux allows 65,536.
const peerGroupsMax = 1024

// peerGroups are the peer's supplementary groups; none if the kernel will not
// say, which only makes a rule stricter.
func peerGroups(fd int) []int {
	var ids [peerGroupsMax]uint32
	size := uint32(unsafe.Sizeof(ids))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&ids)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	groups := make([]int, 0, size/4)
	for _, id := range ids[:size/4] {
		groups = append(groups, int(id))
	}
	return groups
}

// onlyUID welcomes one user.
func onlyUID(uid int) rule {
	return func(p peer) error {
		if p.uid != uid {
			return fmt.Errorf("%w: it is user %d, expected %d", ErrPeer, p.uid, uid)
		}
		return nil
	}
}

// onlyPID welcomes the process that was launched.
func onlyPID(pid func() int) rule {
	return func(p peer) error {
		if want := pid(); p.pid != want {
			return fmt.Errorf("%w: it is process %d, the sidecar is %d", ErrPeer, p.pid, want)
		}
		return nil
	}
}

// usersOfSocket is a server's rule: its own user, root, and the members of the
// socket's group when the socket is open to it.
func usersOfSocket(path string) (rule, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("judge the socket: %w", err)
	}
	group := -1
	if info.Mode().Perm()&0o060 != 0 {
		group = int(info.Sys().(*syscall.Stat_t).Gid)
	}
	own := os.Geteuid()
	return func(p peer) error {
		if p.uid == own || p.uid == 0 || group >= 0 && slices.Contains(p.groups, group) {
			return nil
		}
		return fmt.Errorf("%w: it is user %d", ErrPeer, p.uid)
	}, nil
}

// ownerOfSocket is a client's rule: itself, root, or who owns the socket's
// directory, if nobody else may write there.
func ownerOfSocket(path string) (rule, error) {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("judge the socket: %w", err)
	}
	owner := os.Geteuid()
	if info.Mode().Perm()&0o002 == 0 {
		owner = int(info.Sys().(*syscall.Stat_t).Uid)
	}
	socket, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("judge the socket: %w", err)
	}
	socketOwner := int(socket.Sys().(*syscall.Stat_t).Uid)
	return func(p peer) error {
		if p.uid == os.Geteuid() || p.uid == 0 || p.uid == owner || p.uid == socketOwner && info.Mode().Perm()&0o002 == 0 {
			return nil
		}
		return fmt.Errorf("%w: it is user %d, who does not own %s", ErrPeer, p.uid, dir)
	}, nil
}
