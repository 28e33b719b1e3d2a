package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ends gives both ends of a connection from a to b.
func ends(t *testing.T, m *Memory) (a, b net.Conn) {
	t.Helper()
	l, err := m.Node("b").Listen("b:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Node("c").Listen("b:1"); err == nil {
		t.Error("two listen on one address")
	}
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	if a, err = m.Node("a").Dial(t.Context(), "b:1"); err != nil {
		t.Fatal(err)
	}
	b = <-accepted
	t.Cleanup(func() { _, _, _ = a.Close(), b.Close(), l.Close() })
	return a, b
}

func say(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); err != nil || n != len(s) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(s), err)
	}
}

// hear reads as many bytes as s has by a deadline, and says how many came.
func hear(t *testing.T, c net.Conn, s string, by time.Duration) int {
	t.Helper()
	b := make([]byte, len(s))
	if err := c.SetReadDeadline(time.Now().Add(by)); err != nil {
		t.Fatal(err)
	}
	n, err := io.ReadFull(c, b)
	if string(b[:n]) != s[:n] {
		t.Errorf("heard %q, want %q", b[:n], s[:n])
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard %d bytes: %v", n, err)
	}
	return n
}

// TestMemoryCut cuts one direction: the other flows on, and nothing is lost.
func TestMemoryCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		a, b := ends(t, m)
		say(t, a, "one")
		m.Cut("a", "b")
		say(t, a, "two")
		if n := hear(t, b, "one", time.Hour); n != 0 {
			t.Errorf("%d bytes came through a cut", n)
		}
		say(t, b, "back")
		if n := hear(t, a, "back", time.Second); n != 4 {
			t.Errorf("%d bytes came the other way, want 4", n)
		}
		if err := a.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := a.Write(make([]byte, 2*flowBytesMax)); !errors.Is(err, os.ErrDeadlineExceeded) || n != flowBytesMax-len("onetwo") {
			t.Errorf("wrote %d bytes into a cut: %v", n, err)
		}
		m.Heal("a", "b")
		if n := hear(t, b, "onetwo", time.Second); n != 6 {
			t.Errorf("%d bytes came after it healed, want 6", n)
		}
	})
}

// TestMemoryDelay: what is written arrives later and in order; a shorter delay
// overtakes nothing.
func TestMemoryDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		a, b := ends(t, m)
		m.Delay("a", "b", time.Minute)
		began := time.Now()
		say(t, a, "one")
		m.Delay("a", "b", 0)
		say(t, a, "two")
		if n := hear(t, b, "o", time.Minute-1); n != 0 {
			t.Error("it came early")
		}
		if n := hear(t, b, "onetwo", time.Hour); n != 6 || time.Since(began) != time.Minute {
			t.Errorf("%d bytes came after %v, want 6 after a minute", n, time.Since(began))
		}
	})
}

// TestMemoryEnds: close lets what was written arrive, reset does not.
func TestMemoryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		a, b := ends(t, m)
		say(t, a, "last")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); string(got) != "last" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("wrote to who has closed: %v", err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if err := b.Close(); err != nil || len(m.flows) != 0 {
			t.Errorf("%v, %d flows are left", err, len(m.flows))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		a, b := ends(t, m)
		say(t, a, "lost")
		m.Reset("b", "a")
		_, read := b.Read(make([]byte, 4))
		_, write := a.Write([]byte("x"))
		if !errors.Is(read, ErrUnreachable) || !errors.Is(write, ErrUnreachable) {
			t.Errorf("after a reset: %v, %v", read, write)
		}
	})
}

// TestMemoryLong writes more than a direction holds.
func TestMemoryLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := ends(t, NewMemory())
		long := strings.Repeat("0123456789", flowBytesMax)
		go func() {
			_, err := a.Write([]byte(long))
			if err := errors.Join(err, a.Close()); err != nil {
				t.Error(err)
			}
		}()
		if got, err := io.ReadAll(b); string(got) != long || err != nil {
			t.Errorf("%d bytes came of %d: %v", len(got), len(long), err)
		}
	})
}
