// Package node runs real brokers as processes for tests: started on free ports
// and a directory of the test's own, killed and restarted at will, always ended
// by their id when the test ends.
package node

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/port"
)

// readyLimit is how long a start may take, recovery included.
const readyLimit = 60 * time.Second

// Options says how a node is started.
type Options struct {
	// Dir is the data directory; empty: the test's own.
	Dir string
	// Keep is a directory for data and log that outlive the test; empty: the test's.
	Keep string
	// Home is the directory that the broker is started in; empty: the test's.
	Home string
	// Args are added to `millrace start`.
	Args []string
	// Wrap is a command that the broker is run under, as strace.
	Wrap []string
	// Sidecar starts one as the broker's child.
	Sidecar bool
	// Env is added to the environment.
	Env []string
	// Host is the address that Kafka clients reach it at; empty: 127.0.0.1.
	Host string
	// Inside is a command that what runs at the node's place is run by: the broker, and
	// the CLI that is asked there; empty: here.
	Inside []string
	// ID is the node's, -1 for one that is assigned; Seeds what --seeds names, empty: it
	// is alone.
	ID    int
	Seeds string
}

// Node is a running broker.
type Node struct {
	T       testing.TB
	O       Options
	Brokers string // HOST:PORT of the Kafka API
	Admin   string // HOST:PORT of the admin API
	Line    string // the ready line
	LogPath string
	cmd     *exec.Cmd
	done    chan struct{}
	mu      sync.Mutex
	status  error
}

// Bin gives the path of a binary that `make build` made.
func Bin(t testing.TB, name string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	p := filepath.Join(filepath.Dir(file), "..", "..", "bin", name)
	if dir := os.Getenv("MILLRACE_BIN"); dir != "" {
		p = filepath.Join(dir, name)
	}
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s is missing: run `make build` first (%v)", name, err)
	}
	return p
}

// Start starts a broker and waits for its ready line.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	logs := o.Keep
	if logs == "" {
		logs = t.TempDir()
	} else if o.Dir == "" {
		o.Dir = filepath.Join(o.Keep, "data")
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	n := &Node{T: t, O: o, LogPath: filepath.Join(logs, "broker.log")}
	t.Cleanup(n.Kill)
	n.Restart()
	return n
}

// Restart starts the broker again on the same data directory and the same
// ports; it must have ended.
func (n *Node) Restart() {
	n.T.Helper()
	if err := n.TryRestart(); err != nil {
		log, _ := os.ReadFile(n.LogPath) // for the message only
		n.T.Fatalf("start broker: %v\n%s", err, tail(log, 4000))
	}
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func (n *Node) args() []string {
	kafka, admin := n.Brokers, n.Admin
	switch {
	case kafka != "":
	case n.O.Host != "":
		kafka, admin = net.JoinHostPort(n.O.Host, "0"), "127.0.0.1:0"
	default:
		free := port.Free(n.T, 2)
		kafka, admin = free[0], free[1]
	}
	sidecar := "off"
	if n.O.Sidecar {
		sidecar = "child"
	}
	args := append(append([]string{}, n.O.Inside...), n.O.Wrap...)
	args = append(args, Bin(n.T, "millrace"), "start", "--data-dir", n.O.Dir, "--mode", "dev",
		"--kafka-addr", kafka, "--admin-addr", admin,
		"--proxy-addr", "off", "--registry-addr", "off", "--sidecar", sidecar)
	if n.O.ID >= 0 {
		args = append(args, "--node-id", strconv.Itoa(n.O.ID))
	}
	if n.O.Seeds != "" {
		args = append(args, "--seeds", n.O.Seeds)
	} else {
		args = append(args, "--rpc-addr", "127.0.0.1:0")
	}
	return append(args, n.O.Args...)
}

// TryRestart is Restart with an error instead of a failed test.
func (n *Node) TryRestart() error {
	args := n.args()
	cmd := exec.Command(args[0], args[1:]...)
	// Tests are over before the default would flush anything, and say themselves where
	// replicas are to be.
	env := append(os.Environ(), "MILLRACE_FLUSH_DELAY=10ms", "MILLRACE_MILLRACE_BALANCE_PAUSED=true")
	cmd.Env, cmd.Dir = append(env, n.O.Env...), n.O.Home
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.OpenFile(n.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.cmd, n.done = cmd, make(chan struct{})
	lines := make(chan string, 1)
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			if strings.HasPrefix(s.Text(), "ready ") {
				lines <- s.Text()
			}
		}
	}()
	go func(done chan struct{}) {
		err := cmd.Wait()
		n.mu.Lock()
		n.status = err
		n.mu.Unlock()
		close(done)
	}(n.done)
	select {
	case n.Line = <-lines:
	case <-n.done:
		return fmt.Errorf("it ended before it was ready: %v", n.Status())
	case <-time.After(readyLimit):
		n.Kill()
		return fmt.Errorf("not ready within %s", readyLimit)
	}
	for _, f := range strings.Fields(n.Line) {
		if v, ok := strings.CutPrefix(f, "kafka="); ok {
			n.Brokers = v
		}
		if v, ok := strings.CutPrefix(f, "admin="); ok {
			n.Admin = v
		}
	}
	return nil
}

// Status is how the process ended; nil while it runs or when it ended well.
func (n *Node) Status() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

// Log is the end of what the broker has logged, in bytes.
func (n *Node) Log(last int) string {
	log, _ := os.ReadFile(n.LogPath) // for messages only
	return string(tail(log, last))
}

// Pid is the process started; under Wrap that is the wrapper's.
func (n *Node) Pid() int { return n.cmd.Process.Pid }

// Done is closed when the process has ended.
func (n *Node) Done() <-chan struct{} { return n.done }

// Signal sends s to the broker's process alone.
func (n *Node) Signal(s syscall.Signal) { _ = n.cmd.Process.Signal(s) } // it may have ended already

// Kill ends the broker and what it started with SIGKILL, and waits.
func (n *Node) Kill() {
	if n.cmd == nil || n.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL) // the group is ours: Setpgid
	<-n.done
}

// KillAlone ends the broker's process with SIGKILL, not what it started, and
// waits for it: a child that outlives it is a fault.
func (n *Node) KillAlone() {
	n.Signal(syscall.SIGKILL)
	<-n.done
}

// SidecarPid finds the sidecar that the broker started; ok is false while there
// is none. It is told by its arguments: it executes itself anew, so that its
// name is the kernel's choice.
func (n *Node) SidecarPid() (pid int, ok bool) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // a constant pattern
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PPID ...
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(n.Pid()) {
			continue
		}
		args, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err != nil || !strings.HasPrefix(filepath.Base(strings.SplitN(string(args), "\x00", 2)[0]), "millrace-sidecar") {
			continue
		}
		if pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid > 1 {
			return pid, true
		}
	}
	return 0, false
}

// SignalSidecar sends s to the broker's sidecar; ok is false when it has none
// just now.
func (n *Node) SignalSidecar(s syscall.Signal) (ok bool, err error) {
	pid, ok := n.SidecarPid()
	if !ok {
		return false, nil // never to pid 0, which is the caller's own group
	}
	err = syscall.Kill(pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	return err == nil, err
}

// Stop ends the broker with SIGTERM and waits; it must leave cleanly.
func (n *Node) Stop() {
	n.T.Helper()
	n.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(readyLimit):
		n.Kill()
		n.T.Fatal("broker did not stop on SIGTERM")
	}
	if err := n.Status(); err != nil {
		log, _ := os.ReadFile(n.LogPath)
		n.T.Fatalf("broker stopped with %v\n%s", err, tail(log, 4000))
	}
}

// Client gives a Kafka client that ends with the test.
func (n *Node) Client(opts ...kgo.Opt) *kgo.Client {
	n.T.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.Brokers)}, opts...)...)
	if err != nil {
		n.T.Fatal(err)
	}
	n.T.Cleanup(cl.Close)
	return cl
}

// CLI runs `millrace` against this node and returns its stdout.
func (n *Node) CLI(args ...string) (string, error) {
	command := append(append([]string{}, n.O.Inside...), Bin(n.T, "millrace"))
	command = append(append(command, args...), "-X", "brokers="+n.Brokers, "-X", "admin.hosts="+n.Admin)
	cmd := exec.Command(command[0], command[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("millrace %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
