package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/plugins/sync"
)

var (
	session = control.Session{Cluster: "c", Node: 1, Boot: "b"}
	digest  = model.Digest{1, 2, 3}
)

// fakeHost serves fakes of all three kinds to the one session of its token.
type fakeHost struct {
	control *control.Fake
	sync    *sync.Fake
	async   *async.Fake
	token   string
	socket  string // where attach serves it
}

func newFakeHost() *fakeHost {
	c := &control.Fake{}
	return &fakeHost{control: c, sync: &sync.Fake{Control: c}, async: &async.Fake{Control: c}, token: "token"}
}

func (h *fakeHost) Open(s control.Session) (control.Hello, string, error) {
	hello, err := h.control.Hello(context.Background(), s)
	hello.Walls = []control.Wall{{Name: "w", Text: "why"}}
	return hello, h.token, err
}

func (h *fakeHost) check(token string) error {
	if token != h.token {
		return control.ErrSession
	}
	return nil
}

func (h *fakeHost) Control(token string) (control.Control, error) { return h.control, h.check(token) }
func (h *fakeHost) Sync(token string) (sync.Transformer, error)   { return h.sync, h.check(token) }
func (h *fakeHost) Async(token string) (async.Opener, error)      { return h.async, h.check(token) }

// attach serves a host on a socket and attaches to it; end stops the server.
func attach(t testing.TB, h Host) (s *Sidecar, end func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "millrace-test-") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	if f, ok := h.(*fakeHost); ok {
		f.socket = path
	}
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ServeSocket(ctx, h, l) }()
	end = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(end)
	if s, err = Attach(context.Background(), AttachAsk{Socket: path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, end
}

func hello(t testing.TB, s *Sidecar) control.Hello {
	t.Helper()
	h, err := s.Control.Hello(context.Background(), session)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func loadFake(t testing.TB, s *Sidecar) {
	t.Helper()
	if _, err := s.Control.Load(context.Background(), control.Module{Digest: digest, Name: "n", Mode: control.Async, Wasm: []byte("x")}); err != nil {
		t.Fatal(err)
	}
}

func TestControlOverTheLink(t *testing.T) {
	h := newFakeHost()
	var got control.Module
	h.control.CheckModule = func(m control.Module) (control.Report, error) {
		got = m
		return control.Report{ABI: "a", Cached: true, CompileTime: 5, MemoryBytes: 6, Imports: []string{"i"}}, nil
	}
	s, _ := attach(t, h)
	ctx := context.Background()
	if _, err := s.Control.Inspect(ctx); !errors.Is(err, control.ErrSession) {
		t.Fatalf("before hello: %v", err)
	}
	if answer := hello(t, s); answer.Limits.ModuleBytesMax != control.ModuleBytesMax || answer.Boot != "fake" || len(answer.Walls) != 1 || answer.Walls[0].Text != "why" {
		t.Fatalf("hello %+v", answer)
	}
	m := control.Module{
		Digest: digest, Name: "n", Mode: control.Sync, Wasm: bytes.Repeat([]byte("wasm"), chunksOfTest), Inputs: []string{"a", "b"},
		Outputs: []string{"c"}, Env: map[string]string{"K": "V"}, MemoryBytesMax: 7, BatchTimeMax: 8,
	}
	report, err := s.Control.Load(ctx, m)
	if err != nil || report.ABI != "a" || !report.Cached || report.CompileTime != 5 || report.MemoryBytes != 6 || len(report.Imports) != 1 {
		t.Fatalf("load: %+v, %v", report, err)
	}
	if fmt.Sprint(got) != fmt.Sprint(m) {
		t.Fatal("the module changed on its way")
	}
	states, err := s.Control.Inspect(ctx)
	if err != nil || len(states) != 1 || states[0].Digest != digest || states[0].Mode != control.Sync {
		t.Fatalf("inspect: %+v, %v", states, err)
	}
	m.Wasm = make([]byte, control.ModuleBytesMax+1)
	if _, err := s.Control.Check(ctx, m); !errors.Is(err, control.ErrModule) {
		t.Fatalf("too large: %v", err)
	}
	h.control.CheckModule = func(control.Module) (control.Report, error) {
		return control.Report{}, fmt.Errorf("%w: because", control.ErrModule)
	}
	m.Wasm = nil
	if _, err := s.Control.Check(ctx, m); !errors.Is(err, control.ErrModule) || err.Error() != "module refused: because" {
		t.Fatalf("refused: %v", err)
	}
	if err := s.Control.Unload(ctx, digest); err != nil || h.control.Loaded(digest) {
		t.Fatalf("unload: %v", err)
	}
	if _, err := s.Control.Hello(ctx, control.Session{Cluster: "c", Node: 2}); !errors.Is(err, control.ErrOtherNode) {
		t.Fatalf("another node: %v", err)
	}
}

// chunksOfTest makes a module of more than one message.
const chunksOfTest = 600 << 10

func TestLogsOverTheLink(t *testing.T) {
	h := newFakeHost()
	s, _ := attach(t, h)
	hello(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	logs, err := s.Control.Logs(ctx, control.LogAsk{Script: "n"})
	if err != nil {
		t.Fatal(err)
	}
	h.control.Log(control.LogLine{Script: "other"})
	h.control.Log(control.LogLine{Script: "n", Text: "text", Level: "warn", Digest: digest, Lost: 3, Time: time.UnixMilli(5)})
	line, err := logs.Next()
	if err != nil || line.Seq != 2 || line.Text != "text" || line.Level != "warn" || line.Digest != digest || line.Lost != 3 || line.Time.UnixMilli() != 5 {
		t.Fatalf("got %+v, %v", line, err)
	}
	cancel()
	if _, err := logs.Next(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestSyncOverTheLink(t *testing.T) {
	h := newFakeHost()
	s, _ := attach(t, h)
	ctx := context.Background()
	ask := sync.Batch{Digest: digest, Topic: "t", TopicID: model.TopicID{9}, Partition: 4, Records: []byte("records")}
	if _, err := s.Sync.Transform(ctx, ask); !errors.Is(err, control.ErrSession) {
		t.Fatalf("before hello: %v", err)
	}
	hello(t, s)
	if _, err := s.Sync.Transform(ctx, ask); !errors.Is(err, control.ErrUnknownScript) {
		t.Fatalf("before load: %v", err)
	}
	loadFake(t, s)
	want := sync.Result{Records: []byte("new"), RecordsIn: 2, RecordsOut: 1, CPU: 9}
	h.sync.Do = func(_ context.Context, b sync.Batch) (sync.Result, error) {
		if fmt.Sprint(b) != fmt.Sprint(ask) {
			return sync.Result{}, fmt.Errorf("%w: got %v", control.ErrRequest, b)
		}
		return want, nil
	}
	if got, err := s.Sync.Transform(ctx, ask); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	h.sync.Do = func(context.Context, sync.Batch) (sync.Result, error) {
		return sync.Result{Failure: &sync.Failure{Source: 3, Kind: control.FailureKey, Text: "t"}}, nil
	}
	if got, err := s.Sync.Transform(ctx, ask); err != nil || *got.Failure != (sync.Failure{Source: 3, Kind: control.FailureKey, Text: "t"}) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestSyncDeadlineTravels(t *testing.T) {
	h := newFakeHost()
	s, _ := attach(t, h)
	hello(t, s)
	loadFake(t, s)
	h.sync.Do = func(ctx context.Context, _ sync.Batch) (sync.Result, error) {
		if _, ok := ctx.Deadline(); !ok {
			return sync.Result{}, control.ErrRequest
		}
		<-ctx.Done()
		return sync.Result{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if _, err := s.Sync.Transform(ctx, sync.Batch{Digest: digest}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// Batches under way at one time have lines of their own: none gets another's
// answer, also after callers gave up while theirs was on its way.
func TestSyncLinesAreNotMixed(t *testing.T) {
	h := newFakeHost()
	s, _ := attach(t, h)
	hello(t, s)
	loadFake(t, s)
	h.sync.Do = func(ctx context.Context, b sync.Batch) (sync.Result, error) {
		if b.Partition%3 == 0 {
			<-time.After(time.Millisecond)
		}
		return sync.Result{Records: b.Records}, nil
	}
	const callers, rounds = 100, 30
	done := make(chan error, callers)
	for i := range callers {
		go func() {
			for n := range rounds {
				ctx, cancel := context.WithCancel(context.Background())
				if n%5 == 4 {
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				want := bytes.Repeat(fmt.Appendf(nil, "%d of %d;", n, i), 1+i*n)
				got, err := s.Sync.Transform(ctx, sync.Batch{Digest: digest, Partition: int32(i), Records: want})
				cancel()
				switch {
				case err != nil && (n%5 != 4 || !errors.Is(err, context.Canceled)):
					done <- err
					return
				case err == nil && !bytes.Equal(got.Records, want):
					done <- fmt.Errorf("%d of %d got %d bytes of somebody else", n, i, len(got.Records))
					return
				}
			}
			done <- nil
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// What is neither gRPC nor a line, or sends a message larger than any, is hung up
// on; others go on.
func TestStrangersOnTheSocket(t *testing.T) {
	h := newFakeHost()
	s, _ := attach(t, h)
	hello(t, s)
	loadFake(t, s)
	for name, sent := range map[string]string{
		"another protocol":  "millrace-sync 2\n",
		"another session":   sync.Preface + "\x08\x00\x00\x00\x0a\x06others",
		"garbage":           sync.Preface + "\x02\x00\x00\x00\xff\xff",
		"a message too big": sync.Preface + "\xff\xff\xff\xff",
	} {
		conn, err := net.Dial("unix", h.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: still connected", name)
		}
	}
	if _, err := s.Sync.Transform(context.Background(), sync.Batch{Digest: digest}); err != nil {
		t.Fatal(err)
	}
}

// A new session begins lines of its own.
func TestSyncFollowsTheSession(t *testing.T) {
	h := newFakeHost()
	s, _ := attach(t, h)
	hello(t, s)
	loadFake(t, s)
	ask := sync.Batch{Digest: digest}
	if _, err := s.Sync.Transform(context.Background(), ask); err != nil {
		t.Fatal(err)
	}
	h.token = "another"
	hello(t, s)
	loadFake(t, s)
	if _, err := s.Sync.Transform(context.Background(), ask); err != nil {
		t.Fatal(err)
	}
	h.token = "a third"
	if _, err := s.Sync.Transform(context.Background(), ask); err != nil {
		t.Fatalf("a line that was welcome: %v", err)
	}
}

func openFiber(t testing.TB, s *Sidecar) async.Fiber {
	t.Helper()
	f, err := s.Async.Open(context.Background(), async.FiberSpec{Digest: digest, Topic: "t", Outputs: []async.Output{{Partitions: 2, Routing: async.RouteKey, Codec: async.CodecLZ4}}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAsyncOverTheLink(t *testing.T) {
	h := newFakeHost()
	s, _ := attach(t, h)
	hello(t, s)
	if _, err := s.Async.Open(context.Background(), async.FiberSpec{Digest: digest}); !errors.Is(err, control.ErrUnknownScript) {
		t.Fatalf("before load: %v", err)
	}
	loadFake(t, s)
	want := async.Result{
		Outputs: []async.OutputBatches{{Output: 0, Partition: 1, Batches: [][]byte{[]byte("a"), []byte("b")}}},
		Failed:  []async.FailedRecord{{Offset: 7, Kind: control.FailureTrap, Text: "t"}}, RecordsIn: 3, RecordsOut: 2, RecordsDropped: 1, CPU: 4,
	}
	h.async.Do = func(_ context.Context, spec async.FiberSpec, b async.Batch) (async.Result, error) {
		if spec.Outputs[0].Codec != async.CodecLZ4 || b.To != 9 || len(b.Avoid) != 1 || string(b.Records) != "r" {
			return async.Result{}, control.ErrRequest
		}
		return want, nil
	}
	f := openFiber(t, s)
	got, err := f.Transform(context.Background(), async.Batch{From: 5, To: 9, Records: []byte("r"), Avoid: []model.Offset{6}})
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	h.async.Do = func(context.Context, async.FiberSpec, async.Batch) (async.Result, error) {
		return async.Result{}, fmt.Errorf("%w: parked", control.ErrMemory)
	}
	if _, err := f.Transform(context.Background(), async.Batch{}); !errors.Is(err, control.ErrMemory) {
		t.Fatal(err)
	}
	f.Close()
	if _, err := f.Transform(context.Background(), async.Batch{}); !errors.Is(err, control.ErrSession) {
		t.Fatal(err)
	}
}

// Batches that were asked at once are answered in order, each to its asker.
func TestAsyncPipelines(t *testing.T) {
	h := newFakeHost()
	var order []model.Offset
	h.async.Do = func(_ context.Context, _ async.FiberSpec, b async.Batch) (async.Result, error) {
		order = append(order, b.From)
		return async.Result{RecordsIn: int64(b.From)}, nil
	}
	s, _ := attach(t, h)
	hello(t, s)
	loadFake(t, s)
	f := openFiber(t, s)
	const n = 100
	done := make(chan error, n)
	for i := range n {
		go func() {
			r, err := f.Transform(context.Background(), async.Batch{From: model.Offset(i), Records: make([]byte, 200<<10)})
			if err == nil && r.RecordsIn != int64(i) {
				err = fmt.Errorf("asked %d, got the answer of %d", i, r.RecordsIn)
			}
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if len(order) != n {
		t.Fatalf("ran %d", len(order))
	}
}

func TestDeathIsSeen(t *testing.T) {
	h := newFakeHost()
	running := make(chan struct{})
	h.async.Do = func(ctx context.Context, _ async.FiberSpec, _ async.Batch) (async.Result, error) {
		close(running)
		<-ctx.Done()
		return async.Result{}, ctx.Err()
	}
	s, end := attach(t, h)
	hello(t, s)
	loadFake(t, s)
	f := openFiber(t, s)
	answer := make(chan error, 1)
	go func() {
		_, err := f.Transform(context.Background(), async.Batch{})
		answer <- err
	}()
	<-running
	end()
	if err := <-answer; !errors.Is(err, control.ErrDown) {
		t.Fatalf("the call under way: %v", err)
	}
	<-s.Died()
	if err := s.Control.Health(context.Background()); !errors.Is(err, control.ErrDown) {
		t.Fatalf("health: %v", err)
	}
	if _, err := s.Sync.Transform(context.Background(), sync.Batch{Digest: digest}); !errors.Is(err, control.ErrDown) {
		t.Fatalf("sync: %v", err)
	}
}

func TestAttachToNothing(t *testing.T) {
	_, err := Attach(context.Background(), AttachAsk{Socket: filepath.Join(t.TempDir(), "none")})
	if !errors.Is(err, control.ErrDown) {
		t.Fatal(err)
	}
}

func TestListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "millrace-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %o", info.Mode().Perm())
	}
	if _, err := Listen(path, -1); err == nil {
		t.Fatal("a socket in use was taken")
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if l, err = Listen(path, os.Getgid()); err != nil {
		t.Fatalf("a stale socket was not replaced: %v", err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o660 {
		t.Fatalf("mode %o", info.Mode().Perm())
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, -1); err == nil {
		t.Fatal("a file was replaced")
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(dir, "other"), -1); err == nil {
		t.Fatal("a directory open to everybody was taken")
	}
}

func TestPeers(t *testing.T) {
	dir, err := os.MkdirTemp("", "millrace-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p, err := peerOf(conn)
	if err != nil || p.pid != os.Getpid() || p.uid != os.Geteuid() || len(p.groups) == 0 {
		t.Fatalf("got %+v, %v", p, err)
	}
	for name, c := range map[string]struct {
		rule rule
		ok   bool
	}{
		"own user":      {onlyUID(os.Geteuid()), true},
		"other user":    {onlyUID(os.Geteuid() + 1), false},
		"own process":   {onlyPID(os.Getpid), true},
		"other process": {onlyPID(os.Getppid), false},
	} {
		if _, _, err := (peercred{rule: c.rule}).handshake(conn); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrPeer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	judge, err := usersOfSocket(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := judge(peer{uid: 12345, groups: []int{54321}}); !errors.Is(err, ErrPeer) {
		t.Errorf("a stranger: %v", err)
	}
	if err := os.Chown(l.Addr().String(), -1, os.Getgid()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.Addr().String(), 0o660); err != nil {
		t.Fatal(err)
	}
	if judge, err = usersOfSocket(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if err := judge(peer{uid: 12345, groups: []int{os.Getgid()}}); err != nil {
		t.Errorf("a member of the group: %v", err)
	}
}

func BenchmarkLink(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("sync/%dKiB", size>>10), func(b *testing.B) {
			h := newFakeHost()
			h.sync.Do = func(_ context.Context, r sync.Batch) (sync.Result, error) {
				return sync.Result{Records: r.Records}, nil
			}
			s, _ := attach(b, h)
			hello(b, s)
			loadFake(b, s)
			ask := sync.Batch{Digest: digest, Records: make([]byte, size)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Sync.Transform(context.Background(), ask); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("async/%dKiB", size>>10), func(b *testing.B) {
			h := newFakeHost()
			h.async.Do = func(_ context.Context, _ async.FiberSpec, r async.Batch) (async.Result, error) {
				return async.Result{Outputs: []async.OutputBatches{{Batches: [][]byte{r.Records}}}}, nil
			}
			s, _ := attach(b, h)
			hello(b, s)
			loadFake(b, s)
			f := openFiber(b, s)
			ask := async.Batch{Records: make([]byte, size)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Transform(context.Background(), ask); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
