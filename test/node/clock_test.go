package node

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestMain is also the program whose clock is moved: told so, it says the time whenever
// it is sent a line.
func TestMain(m *testing.M) {
	if os.Getenv("MILLRACE_TELL_TIME") == "" {
		os.Exit(m.Run())
	}
	began := time.Now()
	for b := make([]byte, 1); ; {
		if _, err := os.Stdin.Read(b); err != nil {
			os.Exit(0)
		}
		text, err := time.Now().Round(0).Add(-time.Since(began)).MarshalText()
		if err == nil {
			_, err = os.Stdout.Write(append(text, '\n'))
		}
		if err != nil {
			os.Exit(1)
		}
	}
}

// TestJumpClock moves the wall clock of a running program, and not its monotonic one.
func TestJumpClock(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MILLRACE_TELL_TIME=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	}()
	// began is when the program began, by its own clocks: it moves with the wall clock,
	// and would with the monotonic one.
	began := func() (at time.Time) {
		t.Helper()
		_, err := in.Write([]byte{'\n'})
		b := make([]byte, 64)
		n := 0
		if err == nil {
			n, err = out.Read(b)
		}
		if err = errors.Join(err, at.UnmarshalText(b[:max(0, n-1)])); err != nil {
			t.Fatal(err)
		}
		return at
	}
	first := began()
	n := &Node{T: t, cmd: cmd}
	for _, by := range []time.Duration{time.Hour, -time.Hour, 0} {
		if err := n.JumpClock(by); errors.Is(err, ErrNoClock) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		if got := began().Sub(first) - by; got.Abs() > time.Second {
			t.Errorf("moved by %s, it is off by %s", by, got)
		}
	}
}
