package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// seeds adds a frame's body of every key and version.
func seeds(f *testing.F) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, row := range everyRow() {
		for v := row.min; v <= row.max; v++ {
			f.Add(frameOf(randomRequest(rnd, row.key, v), 1)[4:])
		}
	}
}

// FuzzDecode: any bytes decode, or are refused, and take no more memory than
// was measured.
func FuzzDecode(f *testing.F) {
	seeds(f)
	s := &Server{rows: map[int16]*row{}}
	for _, r := range everyRow() {
		s.rows[r.key] = &r
		for v := r.min; v <= r.max; v++ {
			shapeOf(r.key, v)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := &request{}
		_, err := s.decode(r, body)
		runtime.ReadMemStats(&after)
		// Twice: a slice's size is rounded up to its class, and errors have texts.
		if took, most := after.TotalAlloc-before.TotalAlloc, uint64(2*r.decoded+4*len(body)+64<<10); took > most {
			t.Fatalf("%d bytes decoded took %d, measured %d, err %v", len(body), took, r.decoded, err)
		}
	})
}

// FuzzDispatch: whatever a client asks is answered in the form it asked for.
func FuzzDispatch(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		n, o := newFakeRooms()
		n.register(t, "localhost", 9092)
		n.topic(t, "abc", 2)
		s := New(o)
		gone, cancel := context.WithCancel(context.Background())
		cancel() // a fetch does not wait
		r := &request{conn: newConn(s, nil)}
		m, err := s.decode(r, body)
		if err != nil {
			return
		}
		var response kmsg.Response
		if r.row.start != nil {
			p, err := r.row.start(s, r, m)
			if err != nil {
				t.Fatal(err)
			}
			if response, err = p.response(); err != nil {
				return
			}
		} else {
			response = r.row.handle(gone, s, r, m)
		}
		b := bytes.Join(encode(r, response), nil)
		if int(binary.BigEndian.Uint32(b)) != len(b)-4 || int32(binary.BigEndian.Uint32(b[4:])) != r.correlation {
			t.Fatalf("frame % x", b[:8])
		}
		if m.GetVersion() == unknownVersion {
			m.SetVersion(0)
		}
		decodeResponse(t, m, b[8:])
	})
}

// FuzzFrames: any bytes on a connection end it or are answered; nothing hangs.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, o := newFakeRooms()
		s := New(o)
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); newConn(s, server).serve() }()
		go func() {
			_, _ = client.Write(b)
			_ = client.Close()
		}()
		for buf := make([]byte, 4096); ; {
			if _, err := client.Read(buf); err != nil {
				break
			}
		}
		<-done
		if s.requests.used() != 0 || s.responses.used.Load() != 0 {
			t.Fatal("a connection that ended still holds some budget")
		}
	})
}
