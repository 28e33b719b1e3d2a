package transport

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

var rewrite = flag.Bool("rewrite", false, "accept what the tests got as what they want")

// buffer is a net.Conn that keeps what is written for who reads.
type buffer struct {
	net.Conn
	bytes.Buffer
}

func (b *buffer) Read(p []byte) (int, error)       { return b.Buffer.Read(p) }
func (b *buffer) Write(p []byte) (int, error)      { return b.Buffer.Write(p) }
func (b *buffer) SetReadDeadline(time.Time) error  { return nil }
func (b *buffer) SetWriteDeadline(time.Time) error { return nil }

// frame gives the bytes of what send writes.
func frame(t testing.TB, send func(w *writer) error) []byte {
	t.Helper()
	b := &buffer{}
	if err := send(newWriter(b)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// reading gives a reader of bytes that have arrived already.
func reading(b []byte) *reader {
	c := &buffer{}
	c.Buffer.Write(b)
	return newReader(c, readBufferBytes)
}

// decodeFrame reads one frame and what it holds: a pb.MessageBatch, a pb.Chunk, a
// hello, a text, a called, an outcome, or nil.
func decodeFrame(r *reader, peer string) (any, error) {
	if err := r.next(context.Background()); err != nil {
		return nil, err
	}
	defer r.done()
	switch r.head.kind {
	case kindHello:
		return parseHello(r.meta)
	case kindMessages:
		var b batch
		if err := b.decode(r.meta, peer); err != nil {
			return nil, err
		}
		if b.bytes != r.head.data {
			return nil, ErrLength
		}
		return b.MessageBatch, b.read(r.take)
	case kindChunk:
		var c pb.Chunk
		if err := c.Unmarshal(r.meta); err != nil {
			return nil, err
		}
		var err error
		c.Data, err = r.take(r.head.data)
		return c, err
	case kindRefused:
		return string(r.meta), nil
	case kindCall:
		method, err := parseCall(r.meta)
		if err != nil {
			return nil, err
		}
		body, err := r.take(r.head.data)
		return called{method, string(body)}, err
	case kindResult:
		return (&link{in: r}).readAnswer()
	}
	return nil, nil
}

// called is what a call frame holds.
type called struct {
	method uint8
	body   string
}

// samples are frames whose bytes are for ever.
func samples() []struct {
	name string
	send func(w *writer) error
	want any
} {
	h := hello{lowest: 1, highest: 1, purpose: forMessages, name: "node-a", expects: "node-b"}
	b := pb.MessageBatch{
		DeploymentId: 1, BinVer: 210, SourceAddress: "node-a",
		Requests: []pb.Message{
			{Type: pb.Heartbeat, To: 2, From: 1, ShardID: 7, Term: 3, Commit: 9, Hint: 5, HintHigh: 6},
			{Type: pb.Replicate, To: 2, From: 1, ShardID: 8, Term: 3, LogTerm: 2, LogIndex: 9, Commit: 9, Reject: true, Entries: []pb.Entry{
				{Term: 3, Index: 10, Type: pb.EncodedEntry, Key: 11, ClientID: 12, SeriesID: 13, RespondedTo: 14, Cmd: []byte("first")},
				{Term: 3, Index: 11, Type: pb.ConfigChangeEntry},
				{Term: 3, Index: 12, Cmd: []byte("second")},
			}},
			{Type: pb.InstallSnapshot, To: 2, From: 1, ShardID: 9, Snapshot: pb.Snapshot{
				Index: 5, Term: 2, Filepath: "f", Membership: pb.Membership{Addresses: map[uint64]string{1: "a"}}}},
		},
	}
	c := pb.Chunk{ShardID: 7, ReplicaID: 2, From: 1, ChunkCount: 1, ChunkSize: 4, Index: 5, Term: 2, Filepath: "f", FileSize: 4,
		DeploymentId: 1, FileChunkCount: 1, BinVer: 210, Membership: pb.Membership{Addresses: map[uint64]string{1: "a"}}, Data: []byte("data")}
	no := Refusal{Code: 9, Text: "no"}
	return []struct {
		name string
		send func(w *writer) error
		want any
	}{
		{"hello", func(w *writer) error { return w.small(kindHello, h.appendTo(nil)) }, h},
		{"messages", func(w *writer) error { return w.messages(&b) }, b},
		{"chunk", func(w *writer) error { return w.chunk(c) }, c},
		{"taken", func(w *writer) error { return w.small(kindTaken, nil) }, nil},
		{"ping", func(w *writer) error { return w.small(kindPing, nil) }, nil},
		{"refused", func(w *writer) error { return w.refuse(errors.New("why")) }, "why"},
		{"call", func(w *writer) error { return w.frame(kindCall, []byte{5}, []byte("body")) }, called{5, "body"}},
		{"call without a body", func(w *writer) error { return w.frame(kindCall, []byte{5}, nil) }, called{5, ""}},
		{"result", func(w *writer) error { return w.frame(kindResult, appendResult(nil, nil), []byte("reply")) }, outcome{body: []byte("reply")}},
		{"result of a refusal", func(w *writer) error { return w.frame(kindResult, appendResult(nil, &no), nil) }, outcome{refusal: &no}},
	}
}

// TestGolden holds every kind of frame to bytes that nodes of other versions send.
func TestGolden(t *testing.T) {
	const name = "testdata/frames.txt"
	var b strings.Builder
	for _, s := range samples() {
		got := frame(t, s.send)
		b.WriteString(s.name + "\n----\n" + hex.Dump(got) + "\n")
		back, err := decodeFrame(reading(got), "node-a")
		if err != nil || !reflect.DeepEqual(back, s.want) {
			t.Errorf("%s comes back as %+v, %v", s.name, back, err)
		}
	}
	if *rewrite {
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || string(want) != b.String() {
		t.Errorf("frames changed (%v), -rewrite if that is meant; now:\n%s", err, b.String())
	}
}

// TestDamage flips every bit of every frame, and cuts it everywhere: each is an
// error with a name, none is a frame.
func TestDamage(t *testing.T) {
	for _, s := range samples() {
		whole := frame(t, s.send)
		for bit := range 8 * len(whole) {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			if got, err := decodeFrame(reading(b), "node-a"); !errors.Is(err, ErrChecksum) && !errors.Is(err, ErrMagic) && !errors.Is(err, ErrVersion) {
				t.Fatalf("%s with bit %d flipped: %v, %v", s.name, bit, got, err)
			}
		}
		for n := range len(whole) {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if got, err := decodeFrame(reading(whole[:n]), "node-a"); err != want {
				t.Fatalf("%d bytes of %s: %v, %v, want %v", n, s.name, got, err, want)
			}
		}
	}
}

// sealed gives a header with a right checksum.
func sealed(h header) []byte {
	b := make([]byte, headerBytes)
	h.put(b)
	return b
}

// TestBadHeaders has headers that are whole and wrong.
func TestBadHeaders(t *testing.T) {
	old := sealed(header{kind: kindPing})
	old[2] = 9
	for name, c := range map[string]struct {
		b    []byte
		want error
		text string
	}{
		"http":              {[]byte("GET / HTTP/1.1\r\nHost: node\r\n\r\n"), ErrMagic, "4745"},
		"version":           {old, ErrVersion, "version 9"},
		"kind":              {sealed(header{kind: 77}), ErrFrame, "kind 77"},
		"kind zero":         {sealed(header{}), ErrFrame, "kind 0"},
		"meta too long":     {sealed(header{kind: kindMessages, meta: metaBytesMax + 1}), ErrLength, "33554433"},
		"data too long":     {sealed(header{kind: kindMessages, data: dataBytesMax + 1}), ErrLength, "67108865"},
		"chunk too long":    {sealed(header{kind: kindChunk, data: chunkDataBytesMax + 1}), ErrLength, "4194305"},
		"call too long":     {sealed(header{kind: kindCall, meta: 1, data: CallBytesMax + 1}), ErrLength, "69206017"},
		"call's meta":       {sealed(header{kind: kindCall, meta: 2}), ErrLength, "2 bytes of meta"},
		"call of nothing":   {sealed(header{kind: kindCall}), ErrFrame, "0 bytes of meta"},
		"result too long":   {sealed(header{kind: kindResult, meta: 1, data: CallBytesMax + 1}), ErrLength, "69206017"},
		"text too long":     {sealed(header{kind: kindResult, meta: 2 + refusalBytesMax}), ErrLength, "1026"},
		"result of nothing": {sealed(header{kind: kindResult}), ErrFrame, "0 bytes of meta"},
		"text of no reason": {frameOf(header{kind: kindResult, meta: 2}, []byte("\x00x")), ErrFrame, "2 bytes of meta"},
		"refusal with body": {frameOf(header{kind: kindResult, meta: 1, data: 1}, []byte("\x01x")), ErrFrame, "body of 1"},
		"hello too long":    {sealed(header{kind: kindHello, meta: helloBytesMax + 1}), ErrLength, "1025"},
		"hello with data":   {sealed(header{kind: kindHello, data: 1}), ErrLength, "data"},
		"ping with meta":    {sealed(header{kind: kindPing, meta: 1}), ErrLength, "meta"},
		"sum of nothing":    {sealed(header{kind: kindPing, dataSum: 1}), ErrChecksum, "no data"},
		"longest of all":    {sealed(header{kind: kindMessages, meta: 1<<32 - 1, data: 1<<32 - 1}), ErrLength, "4294967295"},
		"sum of empty meta": {sealed(header{kind: kindPing, metaSum: 5}), ErrChecksum, "meta"},
	} {
		if got, err := decodeFrame(reading(c.b), ""); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, %v, want %v with %q", name, got, err, c.want, c.text)
		}
	}
}

// TestSenderKeepsLimits: what the receiver would refuse is not sent.
func TestSenderKeepsLimits(t *testing.T) {
	b := &buffer{}
	w := newWriter(b)
	long := pb.MessageBatch{Requests: []pb.Message{{To: 1, Entries: []pb.Entry{{Cmd: make([]byte, dataBytesMax)}, {Cmd: []byte("x")}}}}}
	if err := w.messages(&long); !errors.Is(err, ErrLength) {
		t.Errorf("a batch beyond the limit: %v", err)
	}
	if err := w.messages(&pb.MessageBatch{SourceAddress: strings.Repeat("x", nameBytesMax+1)}); !errors.Is(err, ErrLength) {
		t.Errorf("a name beyond the limit: %v", err)
	}
	if err := w.chunk(pb.Chunk{Data: make([]byte, chunkDataBytesMax+1)}); !errors.Is(err, ErrLength) {
		t.Errorf("a chunk beyond the limit: %v", err)
	}
	if err := w.frame(kindCall, []byte{1}, make([]byte, CallBytesMax+1)); !errors.Is(err, ErrLength) {
		t.Errorf("a call beyond the limit: %v", err)
	}
	if b.Len() > 0 {
		t.Errorf("%d bytes were sent", b.Len())
	}
}

// TestLengthsAloneAllocateLittle announces the longest frame and sends a few bytes.
func TestLengthsAloneAllocateLittle(t *testing.T) {
	for _, h := range []header{{kind: kindMessages, meta: metaBytesMax}, {kind: kindChunk, data: chunkDataBytesMax}, {kind: kindCall, data: CallBytesMax}} {
		r := reading(append(sealed(h), "a few bytes"...))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := r.next(context.Background())
		if err == nil {
			_, err = r.take(h.data)
		}
		runtime.ReadMemStats(&after)
		if err != io.ErrUnexpectedEOF && !errors.Is(err, ErrChecksum) {
			t.Errorf("kind %d: %v", h.kind, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 2*stepBytes {
			t.Errorf("kind %d: %d bytes were allocated for a length", h.kind, got)
		}
	}
}

// FuzzFrames gives strangers' bytes to the reader, as they are and with headers
// and checksums made right, so that what lies behind those is reached.
func FuzzFrames(f *testing.F) {
	for _, s := range samples() {
		f.Add(frame(f, s.send))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reading(b)
		for {
			if _, err := decodeFrame(r, "node-a"); err != nil {
				break
			}
		}
		if len(b) < headerBytes {
			return
		}
		h := header{kind: kind(b[3]), meta: min(int(b[4])|int(b[5])<<8, len(b)-headerBytes)}
		h.data = len(b) - headerBytes - h.meta
		right := frameOf(h, b[headerBytes:])
		got, err := decodeFrame(reading(right), "node-a")
		if batch, ok := got.(pb.MessageBatch); ok && err == nil {
			again := frame(t, func(w *writer) error { return w.messages(&batch) })
			if back, err := decodeFrame(reading(again), "node-a"); err != nil || !reflect.DeepEqual(back, got) {
				t.Fatalf("%+v comes back as %+v, %v", got, back, err)
			}
		}
	})
}
