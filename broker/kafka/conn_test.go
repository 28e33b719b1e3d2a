package kafka

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// serveTest serves o on a loopback listener until the test ends.
func serveTest(t testing.TB, o Options) (*Server, string) {
	t.Helper()
	s := New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-done; err != ErrClosed {
			t.Errorf("serve: %v, want ErrClosed", err)
		}
	})
	return s, l.Addr().String()
}

// wire is a client that sees every byte.
type wire struct {
	t  testing.TB
	nc net.Conn
}

func dialWire(t testing.TB, addr string) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &wire{t: t, nc: nc}
}

// frameOf gives the frame of a request.
func frameOf(m kmsg.Request, correlation int32) []byte {
	b := make([]byte, 4, 64)
	b = binary.BigEndian.AppendUint16(b, uint16(m.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(m.GetVersion()))
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	b = binary.BigEndian.AppendUint16(b, 4)
	b = append(b, "test"...)
	if m.IsFlexible() {
		b = append(b, 0)
	}
	b = m.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.nc.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// frame reads one answer: correlation id and what follows.
func (w *wire) frame() (int32, []byte) {
	w.t.Helper()
	_ = w.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	var head [4]byte
	if _, err := io.ReadFull(w.nc, head[:]); err != nil {
		w.t.Fatalf("read answer: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(w.nc, b); err != nil {
		w.t.Fatalf("read answer: %v", err)
	}
	return int32(binary.BigEndian.Uint32(b)), b[4:]
}

// read reads the answer to m.
func (w *wire) read(m kmsg.Request, correlation int32) kmsg.Response {
	w.t.Helper()
	got, b := w.frame()
	if got != correlation {
		w.t.Fatalf("answer to %d, want %d", got, correlation)
	}
	return decodeResponse(w.t, m, b)
}

func decodeResponse(t testing.TB, m kmsg.Request, b []byte) kmsg.Response {
	t.Helper()
	response := m.ResponseKind()
	response.SetVersion(m.GetVersion())
	if response.IsFlexible() && m.Key() != keyAPIVersions {
		b = b[1:]
	}
	if err := response.ReadFrom(b); err != nil {
		t.Fatalf("decode answer of key %d: %v", m.Key(), err)
	}
	return response
}

// ask sends m in version v and reads its answer.
func (w *wire) ask(m kmsg.Request, v int16) kmsg.Response {
	w.t.Helper()
	m.SetVersion(v)
	w.write(frameOf(m, 7))
	return w.read(m, 7)
}

// closed waits for the broker to close the connection.
func (w *wire) closed() {
	w.t.Helper()
	_ = w.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := w.nc.Read(make([]byte, 1)); err == nil || n > 0 {
		w.t.Fatalf("connection answers, want it closed")
	} else if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		w.t.Fatalf("connection stays open, want it closed")
	}
}

func TestApiVersions(t *testing.T) {
	_, addr := serveTest(t, Options{})
	w := dialWire(t, addr)
	for v := int16(0); v <= 4; v++ {
		m := kmsg.NewApiVersionsRequest()
		m.ClientSoftwareName, m.ClientSoftwareVersion = "kgo", "1"
		r := w.ask(&m, v).(*kmsg.ApiVersionsResponse)
		if r.ErrorCode != 0 || len(r.ApiKeys) == 0 {
			t.Fatalf("v%d: %+v", v, r)
		}
	}
	// An unknown version is answered in v0.
	m := kmsg.NewApiVersionsRequest()
	m.SetVersion(4)
	b := frameOf(&m, 9)
	b[7] = 99
	w.write(b)
	m.SetVersion(0)
	r := w.read(&m, 9).(*kmsg.ApiVersionsResponse)
	if r.ErrorCode != codeUnsupportedVersion || len(r.ApiKeys) != 1 || r.ApiKeys[0].MaxVersion != 4 {
		t.Fatalf("%+v", r)
	}
	// Kafka's quirk is kept: the answer has no tags after its correlation id.
	w.ask(&m, 0)
}

func TestUnservedEndsConnection(t *testing.T) {
	_, addr := serveTest(t, Options{})
	for name, b := range map[string][]byte{
		"huge frame":     {0x7f, 0xff, 0xff, 0xff},
		"negative frame": {0xff, 0xff, 0xff, 0xff},
		"http":           []byte("GET / HTTP/1.1\r\n\r\n"),
		"unknown key":    {0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
		"bad version":    {0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff},
		"bad client id":  {0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0x7f, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, addr)
			w.write(b)
			w.closed()
		})
	}
}
