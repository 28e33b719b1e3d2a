package node

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo answers what it is sent, at an address of its own.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // until the other end is closed
			}()
		}
	}()
	return l.Addr().String()
}

// TestProxySlow: what is sent one after the other arrives so much later, in order, and
// not one wait after the other.
func TestProxySlow(t *testing.T) {
	p := NewProxy(t, "127.0.0.1:0", echo(t))
	c, err := net.Dial("tcp", p.listen.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const by, bytes = 100 * time.Millisecond, 20
	p.Slow(by)
	began := time.Now()
	for i := range bytes {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, bytes)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*by || took > bytes*by {
		t.Errorf("there and back took %s", took)
	}
	for i := range b {
		if b[i] != byte(i) {
			t.Fatalf("out of order: %v", b)
		}
	}
}
