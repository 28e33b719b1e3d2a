package node

import (
	"bufio"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// SyncCalls make bytes durable: of the journal, which is open for synced writes,
// every write does.
const SyncCalls = "fsync,fdatasync,sync_file_range,pwrite64"

// Strace attaches to every thread of a process and returns when it has.
func Strace(t testing.TB, pid int, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command("strace", append([]string{"-f", "-p", strconv.Itoa(pid)}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("strace: %v (make setup installs it)", err)
	}
	attached := make(chan struct{})
	go func() {
		s := bufio.NewScanner(stderr)
		said := false
		for s.Scan() {
			if !said && strings.Contains(s.Text(), "attached") {
				said = true
				close(attached)
			}
		}
	}()
	select {
	case <-attached:
	case <-time.After(10 * time.Second):
		t.Error("strace did not attach")
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended with its process
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// SlowDisk has every call of the broker that makes bytes durable take so much longer,
// until stop.
func (n *Node) SlowDisk(by time.Duration) (stop func()) {
	n.T.Helper()
	return Strace(n.T, n.Pid(), "-o", "/dev/null", "-e", "trace="+SyncCalls, "-e",
		"inject="+SyncCalls+":delay_exit="+strconv.FormatInt(by.Microseconds(), 10))
}

// FailSyncs has every call of the broker that makes bytes durable fail.
func (n *Node) FailSyncs() (stop func()) {
	n.T.Helper()
	return Strace(n.T, n.Pid(), "-o", "/dev/null", "-e", "trace="+SyncCalls, "-e", "inject="+SyncCalls+":error=EIO")
}
