package transform

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

const (
	passing = "inputs: [in]\nenv: { ROLE: pass }\n"
	// backLimit is how soon scripts go on after their sidecar was killed.
	backLimit = 2 * time.Second
	// calm bounds what a write to a topic without scripts may wait meanwhile. It
	// tells a path that is blocked from a machine that is busy; how slow is bench's.
	calm = 2 * time.Second
)

// TestSidecarKilled kills the sidecar again and again: topics without scripts do
// not notice, and scripts go on by a new one.
func TestSidecarKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, node.Options{Sidecar: true})
	r.topic("in")
	r.topic("plain")
	r.put("copy", "go", passing)
	r.write("in", 0, 100)
	r.took("copy", 100)
	stop := r.plainAcks("plain")
	soonest, n := time.Hour, 100
	for range 3 {
		before, _ := r.Node.SidecarPid()
		if killed, err := r.Node.SignalSidecar(syscall.SIGKILL); err != nil || !killed {
			t.Fatalf("kill the sidecar: %v, %v", killed, err)
		}
		begun := time.Now()
		r.write("in", n, n+100)
		n += 100
		r.took("copy", n)
		soonest = min(soonest, time.Since(begun))
		if now, ok := r.Node.SidecarPid(); now == before || !ok {
			t.Errorf("sidecar %d was killed, now there is %d", before, now)
		}
	}
	acks, worst := stop()
	t.Logf("scripts went on after %s; %d plain acks, the slowest took %s", soonest, acks, worst)
	if soonest > backLimit {
		t.Errorf("scripts went on after %s at the soonest, the limit is %s", soonest, backLimit)
	}
	if worst > calm {
		t.Errorf("an ack of a topic without scripts took %s", worst)
	}
	if got := r.all("in.copy"); len(got) != n {
		t.Errorf("the child has %d records, want %d", len(got), n)
	}
}

// TestBrokerKilledLeavesNoSidecar kills the broker alone: its child must end.
func TestBrokerKilledLeavesNoSidecar(t *testing.T) {
	t.Parallel()
	r := newRig(t, node.Options{Sidecar: true})
	pid, ok := r.Node.SidecarPid()
	if !ok {
		t.Fatal("there is no sidecar")
	}
	r.Node.KillAlone()
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; pause(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("sidecar %d outlives its broker", pid)
		}
	}
}

// TestSidecarOnItsOwn runs a sidecar that no broker started: it survives the
// broker's death and serves the next start; and the broker survives its death.
func TestSidecarOnItsOwn(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s.sock")
	start := func() *exec.Cmd {
		cmd := exec.Command(node.Bin(t, "millrace-sidecar"), "serve", "--socket", socket, "--walls=false")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // it may have been killed and waited for
			_ = cmd.Wait()
		})
		return cmd
	}
	first := start()
	r := newRig(t, node.Options{Args: []string{"--sidecar", "unix:" + socket}})
	r.topic("in")
	r.topic("plain")
	r.put("copy", "js", passing)
	r.write("in", 0, 100)
	r.took("copy", 100)
	r.Node.Kill()
	r.Node.Restart()
	if err := first.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("the sidecar ended with the broker: %v", err)
	}
	r.write("in", 100, 200)
	r.took("copy", 200)

	_ = first.Process.Kill() // asked above whether it lives
	_ = first.Wait()
	stop := r.plainAcks("plain")
	start()
	r.write("in", 200, 300)
	r.took("copy", 300)
	if _, worst := stop(); worst > calm {
		t.Errorf("an ack of a topic without scripts took %s", worst)
	}
	if got := r.all("in.copy"); len(got) != 300 {
		t.Errorf("the child has %d records, want 300", len(got))
	}
}

// TestSidecarStopped holds the sidecar up with SIGSTOP: nothing but its scripts
// waits for it.
func TestSidecarStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, node.Options{Sidecar: true})
	r.topic("in")
	r.topic("plain")
	r.put("copy", "go", passing)
	r.write("in", 0, 100)
	r.took("copy", 100)
	if stopped, err := r.Node.SignalSidecar(syscall.SIGSTOP); err != nil || !stopped {
		t.Fatalf("stop the sidecar: %v, %v", stopped, err)
	}
	stop := r.plainAcks("plain")
	r.write("in", 100, 200)
	child := r.Node.Client(kgo.ConsumeTopics("in.copy"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	child.PollRecords(ctx, 100) // the child can be read meanwhile
	if _, worst := stop(); worst > calm {
		t.Errorf("an ack of a topic without scripts took %s", worst)
	}
	if _, err := r.Node.SignalSidecar(syscall.SIGCONT); err != nil { // the broker may have replaced it
		t.Error(err)
	}
	r.took("copy", 200)
	if got := r.all("in.copy"); len(got) != 200 {
		t.Errorf("the child has %d records, want 200", len(got))
	}
}
