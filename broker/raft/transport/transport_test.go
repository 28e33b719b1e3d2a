package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"golang.org/x/sys/unix"
)

// made gives a transport of the node called name that has not started.
func made(o Options, name, address string, messages raftio.MessageHandler, chunks raftio.ChunkHandler) *Transport {
	if o.Log == nil {
		o.Log = quiet()
	}
	return NewFactory(o).Create(config.NodeHostConfig{NodeHostID: name, RaftAddress: address}, messages, chunks).(*Transport)
}

// start starts a transport and closes it with the test, or the test's bubble
// would not end: every test in one also looks for goroutines left behind.
func start(t testing.TB, tr *Transport) *Transport {
	t.Helper()
	if err := tr.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// pair gives a receiver and a connection to it from another transport.
func pair(t testing.TB, n Network, messages raftio.MessageHandler) (*Transport, raftio.IConnection) {
	t.Helper()
	address := freeAddress(t)
	from := start(t, made(Options{Network: n}, "a", freeAddress(t), nil, nil))
	to := start(t, made(Options{Network: n}, "b", address, messages, nil))
	conn, err := from.GetConnection(t.Context(), Target("b", address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return to, conn
}

// duo is two nodes, a and b, on a network in memory.
type duo struct {
	net  *Memory
	a, b *Transport
	// messages and chunks are what b was handed; takes says whether it takes chunks.
	messages chan pb.MessageBatch
	chunks   chan pb.Chunk
	takes    bool
	log      lines
}

func newDuo(t testing.TB) *duo {
	t.Helper()
	d := &duo{net: NewMemory(), messages: make(chan pb.MessageBatch, 100), chunks: make(chan pb.Chunk, 100), takes: true}
	d.a = start(t, made(Options{Network: d.net.Node("a")}, "a", "a:1", nil, nil))
	d.b = start(t, made(Options{Network: d.net.Node("b"), Log: slog.New(slog.NewTextHandler(&d.log, nil))}, "b", "b:1",
		func(b pb.MessageBatch) {
			b.Requests = append([]pb.Message{}, b.Requests...) // the slice is the transport's
			d.messages <- b
		},
		func(c pb.Chunk) bool { d.chunks <- c; return d.takes }))
	return d
}

// lines is a log that a test reads once all that write are at rest.
type lines struct{ bytes.Buffer }

func (d *duo) connect(t testing.TB) raftio.IConnection {
	t.Helper()
	c, err := d.a.GetConnection(t.Context(), Target("b", "b:1"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// text is a batch of one message with one command.
func text(command string) pb.MessageBatch {
	return pb.MessageBatch{SourceAddress: "a", Requests: []pb.Message{{Type: pb.Replicate, To: 2, Entries: []pb.Entry{{Cmd: []byte(command)}}}}}
}

// sleep lets the bubble's clock run.
func sleep(d time.Duration) { <-time.After(d) }

func command(b pb.MessageBatch) string { return string(b.Requests[0].Entries[0].Cmd) }

// TestMessages sends batches, waits longer than any silence may last, and sends more.
func TestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		c := d.connect(t)
		for _, word := range []string{"one", "two", strings.Repeat("long", 1<<20), "three"} {
			if err := c.SendMessageBatch(text(word)); err != nil {
				t.Fatal(err)
			}
			if got := command(<-d.messages); got != word {
				t.Errorf("got %.20q, want %.20q", got, word)
			}
			sleep(10 * silenceTimeMax)
		}
		c.Close()
		if err := c.SendMessageBatch(text("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("sent on a closed connection: %v", err)
		}
		synctest.Wait()
		if d.log.Len() > 0 || d.b.accepted != 0 {
			t.Errorf("an orderly end leaves %d connections and says %s", d.b.accepted, d.log.String())
		}
	})
}

// TestChunks: what SendChunk says is what the receiver did.
func TestChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		c, err := d.a.GetSnapshotConnection(t.Context(), Target("b", "b:1"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(3) {
			if err := c.SendChunk(pb.Chunk{ChunkId: i, Data: bytes.Repeat([]byte{byte(i)}, 2<<20)}); err != nil {
				t.Fatal(err)
			}
			if got := <-d.chunks; got.ChunkId != i || len(got.Data) != 2<<20 || got.Data[0] != byte(i) {
				t.Errorf("chunk %d comes as %d with %d bytes", i, got.ChunkId, len(got.Data))
			}
		}
		d.takes = false
		if err := c.SendChunk(pb.Chunk{ChunkId: 3, ShardID: 7}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "chunk 3 of a snapshot of shard 7") {
			t.Errorf("a chunk that is not wanted: %v", err)
		}
		if err := c.SendChunk(pb.Chunk{}); err == nil {
			t.Error("another is sent after it")
		}
		c.Close()
	})
}

// TestHellos: who connects to the wrong node, or may not, hears why.
func TestHellos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		d.b.Peer = func(name string) error {
			if name != "a" {
				return errors.New("not one of us")
			}
			return nil
		}
		stranger := start(t, made(Options{Network: d.net.Node("a")}, "s", "s:1", nil, nil))
		for name, c := range map[string]struct {
			from   *Transport
			target string
			want   []string
		}{
			"moved":     {d.a, Target("c", "b:1"), []string{"refused", "wrong peer", `"a" looks for "c", this is "b"`}},
			"stranger":  {stranger, Target("b", "b:1"), []string{"refused", "not one of us"}},
			"nobody":    {d.a, Target("c", "c:1"), []string{"nothing listens on c:1"}},
			"any name":  {d.a, "b:1", nil},
			"the right": {d.a, Target("b", "b:1"), nil},
		} {
			conn, err := c.from.GetConnection(t.Context(), c.target)
			if err == nil {
				conn.Close()
			}
			if (err == nil) != (c.want == nil) {
				t.Errorf("%s: %v", name, err)
			}
			for _, want := range c.want {
				if err != nil && !strings.Contains(strings.ReplaceAll(err.Error(), `\"`, `"`), want) {
					t.Errorf("%s: %v, want %q in it", name, err, want)
				}
			}
		}
	})
}

// TestMeets has every way in which two hellos do not.
func TestMeets(t *testing.T) {
	us := hello{lowest: 2, highest: 3, purpose: forMessages, name: "us", expects: "them"}
	them := hello{lowest: 1, highest: 2, purpose: forMessages, name: "them", expects: "us"}
	if err := them.meets(us); err != nil {
		t.Error(err)
	}
	for want, change := range map[error]func(h *hello){
		errors.New("older"):   func(h *hello) { h.lowest, h.highest = 0, 1 },
		errors.New("newer"):   func(h *hello) { h.lowest, h.highest = 4, 5 },
		errors.New("purpose"): func(h *hello) { h.purpose = forSnapshot },
		errors.New("name"):    func(h *hello) { h.name = "other" },
		errors.New("expects"): func(h *hello) { h.expects = "other" },
	} {
		h := them
		change(&h)
		if h.meets(us) == nil {
			t.Errorf("%v: %+v meets %+v", want, h, us)
		}
	}
}

// raw connects to b without a transport and gives what b says after what it is told.
func (d *duo) raw(t testing.TB, tell ...[]byte) (answers []string) {
	t.Helper()
	c, err := d.net.Node("x").Dial(t.Context(), "b:1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(bytes.Join(tell, nil)); err != nil {
		t.Fatal(err)
	}
	r := newReader(c, answerBufferBytes)
	for {
		if err := r.next(t.Context()); err != nil {
			return answers
		}
		if r.head.kind != kindPing {
			answers = append(answers, fmt.Sprintf("%d %s", r.head.kind, r.meta))
			if _, err := r.take(r.head.data); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestBadFrames tells a node what no node of ours says: it names it, to the peer
// and in its log, and ends the connection.
func TestBadFrames(t *testing.T) {
	say := func(p purpose) []byte {
		h := hello{lowest: version, highest: version, purpose: p, name: "x", expects: "b"}
		return frame(t, func(w *writer) error { return w.small(kindHello, h.appendTo(nil)) })
	}
	batch := func(from string) []byte {
		b := text("x")
		b.SourceAddress = from
		return frame(t, func(w *writer) error { return w.messages(&b) })
	}
	damaged, short := batch("x"), batch("x")
	damaged[len(damaged)-1]++
	body := short[headerBytes:]
	short = frameOf(header{kind: kindMessages, meta: len(body) - 1}, body[:len(body)-1])
	chunk := frame(t, func(w *writer) error { return w.chunk(pb.Chunk{}) })
	old := bytes.Clone(damaged)
	old[2] = 7
	for name, c := range map[string]struct {
		tell [][]byte
		want string
	}{
		"not ours":             {[][]byte{[]byte("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")}, "not a frame of ours"},
		"no hello":             {[][]byte{batch("x")}, "before a hello"},
		"a hello cut short":    {[][]byte{frameOf(header{kind: kindHello, meta: 4}, []byte{1, 1, 1, 9})}, "a hello of 4 bytes"},
		"a hello for nothing":  {[][]byte{say(9)}, "a connection for 9"},
		"two hellos":           {[][]byte{say(forMessages), say(forMessages)}, "of kind 1"},
		"damage":               {[][]byte{say(forMessages), damaged}, "bad checksum: data"},
		"another version":      {[][]byte{say(forMessages), old}, "a frame of version 7"},
		"a length":             {[][]byte{say(forMessages), sealed(header{kind: kindMessages, data: dataBytesMax + 1})}, "bad length"},
		"commands and no data": {[][]byte{say(forMessages), short}, "commands of 1 bytes, data of 0"},
		"another's name":       {[][]byte{say(forMessages), batch("a")}, `"x" sends in the name of "a"`},
		"a chunk":              {[][]byte{say(forMessages), chunk}, "of kind 3 on a connection for 1"},
		"messages":             {[][]byte{say(forSnapshot), batch("x")}, "of kind 2 on a connection for 2"},
		"an answer":            {[][]byte{say(forMessages), frame(t, func(w *writer) error { return w.small(kindTaken, nil) })}, "of kind 4"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuo(t)
				answers := d.raw(t, c.tell...)
				if n := len(answers); n == 0 || !strings.HasPrefix(answers[n-1], "6 ") || !strings.Contains(answers[n-1], c.want) {
					t.Errorf("answers %q, want %q", answers, c.want)
				}
				synctest.Wait()
				if log := strings.ReplaceAll(d.log.String(), `\"`, `"`); !strings.Contains(log, c.want) {
					t.Errorf("log %q, want %q", log, c.want)
				}
				if len(d.messages)+len(d.chunks) > 0 {
					t.Error("something was handed over")
				}
			})
		})
	}
}

// TestBadAnswers has a listener that is no node, as seen by who dials.
func TestBadAnswers(t *testing.T) {
	greeting := hello{lowest: version, highest: version, purpose: forMessages, name: "b"}
	later := greeting
	later.lowest, later.highest = 2, 9
	say := func(h hello) []byte {
		return frame(t, func(w *writer) error { return w.small(kindHello, h.appendTo(nil)) })
	}
	taken := frame(t, func(w *writer) error { return w.small(kindTaken, nil) })
	for name, c := range map[string]struct {
		answer []byte
		want   error
	}{
		"nothing":          {nil, io.EOF},
		"not ours":         {[]byte("SSH-2.0-OpenSSH_9.9 and so on\r\n"), ErrMagic},
		"a later version":  {say(later), ErrVersion},
		"an early answer":  {taken, ErrFrame},
		"a strange answer": {append(say(greeting), frame(t, func(w *writer) error { return w.chunk(pb.Chunk{}) })...), ErrFrame},
		"two answers":      {append(append(say(greeting), taken...), taken...), ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMemory()
				a := start(t, made(Options{Network: m.Node("a")}, "a", "a:1", nil, nil))
				l, err := m.Node("b").Listen("b:1")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				go answer(l, c.answer)
				conn, err := a.GetConnection(t.Context(), Target("b", "b:1"))
				if err == nil {
					synctest.Wait() // it reads what comes
					err = conn.SendMessageBatch(text("x"))
				}
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
		})
	}
}

// answer says b on each connection, whatever comes, and ends with it.
func answer(l net.Listener, b []byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, err = c.Read(make([]byte, helloBytesMax)); err == nil && len(b) > 0 {
			_, err = c.Write(b)
			if err == nil {
				_, _ = io.Copy(io.Discard, c)
			}
		}
		c.Close()
	}
}

// TestBudget: frames beyond the budget wait for those before them, small ones do not.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		const size = 3 * budgetFreeBytes
		d.b.messageBudget = newBudget(size + size/2)
		handed, release := make(chan string), make(chan struct{})
		d.b.messages = func(b pb.MessageBatch) {
			handed <- command(b)[:1]
			<-release
		}
		for _, word := range []string{"1", "2"} {
			if err := d.connect(t).SendMessageBatch(text(strings.Repeat(word, size))); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // in this order
		}
		if err := d.connect(t).SendMessageBatch(text("small")); err != nil {
			t.Fatal(err)
		}
		first, second := <-handed, <-handed
		if first+second != "1s" && first+second != "s1" {
			t.Errorf("%q and %q were handed over, want the first and the small one", first, second)
		}
		synctest.Wait()
		select {
		case got := <-handed:
			t.Errorf("%q was handed over, beyond the budget", got)
		default:
		}
		close(release)
		if got := <-handed; got != "2" {
			t.Errorf("%q was handed over, want the second", got)
		}
		// A frame longer than the whole budget takes all of it.
		if err := d.connect(t).SendMessageBatch(text(strings.Repeat("3", 3*size))); err != nil {
			t.Fatal(err)
		}
		if got := <-handed; got != "3" {
			t.Errorf("%q was handed over, want the longest", got)
		}
	})
}

// TestBudgetComesBack fails connections in the middle of frames.
func TestBudgetComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		h := hello{lowest: version, highest: version, purpose: forMessages, name: "x", expects: "b"}
		begin := frame(t, func(w *writer) error { return w.small(kindHello, h.appendTo(nil)) })
		for range 5 {
			c, err := d.net.Node("x").Dial(t.Context(), "b:1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(append(bytes.Clone(begin), sealed(header{kind: kindMessages, meta: metaBytesMax})...)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			_ = c.Close()
			synctest.Wait()
		}
		if !d.b.messageBudget.left.TryAcquire(messageBudgetBytes) {
			t.Error("some of the budget is gone")
		}
	})
}

// TestSilence cuts each direction: both ends give up in time, and a dial too.
func TestSilence(t *testing.T) {
	for name, cut := range map[string]struct {
		ways []way
		want []string // who must notice; the other may
	}{
		"both":  {[]way{{"a", "b"}, {"b", "a"}}, []string{"a", "b"}},
		"there": {[]way{{"a", "b"}}, []string{"b"}},
		"back":  {[]way{{"b", "a"}}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuo(t)
				c := d.connect(t)
				for _, w := range cut.ways {
					d.net.Cut(w.from, w.to)
				}
				sleep(silenceTimeMax + pingInterval)
				synctest.Wait()
				var err error
				for gone := time.Now().Add(reachTimeMax + dialTimeMax); err == nil && time.Now().Before(gone); {
					err = c.SendMessageBatch(text("x"))
					sleep(redialPauseMax)
				}
				for _, end := range cut.want {
					switch {
					case end == "a" && !errors.Is(err, ErrSilent):
						t.Errorf("the sender: %v, want ErrSilent", err)
					case end == "b" && (!strings.Contains(d.log.String(), ErrSilent.Error()) || d.b.accepted != 0):
						t.Errorf("the receiver has %d connections and says %q", d.b.accepted, d.log.String())
					}
				}
				began := time.Now()
				if _, err := d.a.GetConnection(t.Context(), Target("b", "b:1")); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a dial through the cut: %v", err)
				}
				if took := time.Since(began); took > connectTimeMax {
					t.Errorf("it took %v", took)
				}
				for _, w := range cut.ways {
					d.net.Heal(w.from, w.to)
				}
				if err := d.connect(t).SendMessageBatch(text("healed")); err != nil {
					t.Error(err)
				}
				for got := ""; got != "healed"; got = command(<-d.messages) {
				}
			})
		})
	}
}

// TestBroken: a connection for messages that breaks goes on, and tells that it is over
// only if its peer ends each at once, or is not to be reached.
func TestBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		c := d.connect(t)
		for range 5 {
			sleep(redialPause)
			d.net.Reset("a", "b")
			synctest.Wait()
			if err := c.SendMessageBatch(text("again")); err != nil {
				t.Fatal(err)
			}
			if got := command(<-d.messages); got != "again" {
				t.Errorf("got %q", got)
			}
		}
		d.net.Reset("a", "b")
		synctest.Wait()
		if err := c.SendMessageBatch(text("too soon")); err == nil {
			t.Error("a young connection that broke is dialed anew")
		}
		c = d.connect(t)
		sleep(redialPause)
		for long, ends := range map[time.Duration]bool{reachTimeMax / 2: false, 2 * reachTimeMax: true} {
			d.net.Reset("a", "b")
			d.net.Cut("a", "b")
			synctest.Wait()
			var err error
			began := time.Now()
			for err == nil && time.Since(began) < long {
				sent := time.Now()
				if err = c.SendMessageBatch(text("nowhere")); time.Since(sent) > 2*redialWait {
					t.Errorf("a message waits %v", time.Since(sent))
				}
			}
			d.net.Heal("a", "b")
			took := time.Since(began)
			switch {
			case !ends && err != nil:
				t.Errorf("over after %v: %v", took, err)
			case ends && (!errors.Is(err, context.DeadlineExceeded) || took > reachTimeMax+dialTimeMax):
				t.Errorf("after %v: %v", took, err)
			case ends:
				c = d.connect(t)
			}
			sleep(redialPauseMax)
			if err := c.SendMessageBatch(text("healed")); err != nil {
				t.Error(err)
			}
			if got := command(<-d.messages); got != "healed" {
				t.Errorf("got %q", got)
			}
		}
	})
}

// refusing is a network whose dials fail until a time, or find no end.
type refusing struct {
	Network
	until    time.Time
	swallows bool
	dials    atomic.Int32
}

func (r *refusing) Dial(ctx context.Context, address string) (net.Conn, error) {
	r.dials.Add(1)
	switch {
	case !time.Now().Before(r.until):
		return r.Network.Dial(ctx, address)
	case r.swallows:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

// TestReach: who does not answer is dialed again for a while, with pauses that grow where it
// refuses, and beside the dials that find no end.
func TestReach(t *testing.T) {
	for _, swallows := range []bool{false, true} {
		pause, why := redialPauseMax, error(syscall.ECONNREFUSED)
		if swallows {
			pause, why = 2*hedgePause, context.DeadlineExceeded
		}
		for after, reached := range map[time.Duration]bool{0: true, redialPause: true, reachTimeMax / 2: true, reachTimeMax + redialPause: false} {
			synctest.Test(t, func(t *testing.T) {
				m := NewMemory()
				start(t, made(Options{Network: m.Node("b")}, "b", "b:1", func(pb.MessageBatch) {}, nil))
				began := time.Now()
				net := &refusing{Network: m.Node("a"), until: began.Add(after), swallows: swallows}
				a := start(t, made(Options{Network: net}, "a", "a:1", nil, nil))
				_, err := a.GetConnection(t.Context(), Target("b", "b:1"))
				took := time.Since(began)
				switch {
				case reached && (err != nil || took > after+pause):
					t.Errorf("not to be reached for %v: %v after %v", after, err, took)
				case !reached && (!errors.Is(err, why) || took > reachTimeMax):
					t.Errorf("not to be reached for %v: %v after %v", after, err, took)
				case net.dials.Load() > 24:
					t.Errorf("%d dials in %v", net.dials.Load(), took)
				}
			})
		}
	}
}

// TestUnheard: the kernel gives up what peers do not acknowledge on connections for
// messages, and on no others, whose readers may stand still.
func TestUnheard(t *testing.T) {
	from := made(Options{Network: OS{}}, "a", "127.0.0.1:0", nil, nil)
	l, err := OS{}.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for p, want := range map[purpose]time.Duration{forMessages: unheardTimeMax, forSnapshot: 0, forCalls: 0} {
		c, err := from.dial(t.Context(), l.Addr().String(), p)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		got, failed := 0, error(nil)
		err = raw.Control(func(fd uintptr) {
			got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		})
		if err := errors.Join(err, failed); err != nil || got != int(want.Milliseconds()) {
			t.Errorf("a connection for %d: %d ms, want %v, %v", p, got, want, err)
		}
	}
}

// TestSlow: a reader that stalls, a frame that dribbles and an answer that does
// not come end their connection, though the peer pings.
func TestSlow(t *testing.T) {
	t.Run("reader", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDuo(t)
			stall := make(chan struct{})
			defer close(stall)
			d.b.messages = func(pb.MessageBatch) { <-stall }
			c := d.connect(t)
			var err error
			for range 20 {
				if err = c.SendMessageBatch(text(strings.Repeat("x", flowBytesMax))); err != nil {
					break
				}
			}
			if err == nil {
				t.Error("a stalled reader takes everything")
			}
		})
	})
	t.Run("frame", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDuo(t)
			h := hello{lowest: version, highest: version, purpose: forMessages, name: "x"}
			c, err := d.net.Node("x").Dial(t.Context(), "b:1")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			b := frame(t, func(w *writer) error { return w.small(kindHello, h.appendTo(nil)) })
			b = append(b, sealed(header{kind: kindMessages, meta: 1 << 20})...)
			for err == nil {
				_, err = c.Write(b)
				b = []byte("x")
				sleep(time.Second)
			}
			synctest.Wait()
			if !strings.Contains(d.log.String(), ErrSlow.Error()) {
				t.Errorf("the receiver says %q", d.log.String())
			}
		})
	})
	t.Run("answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDuo(t)
			stall := make(chan struct{})
			defer close(stall)
			d.b.chunks = func(pb.Chunk) bool { <-stall; return true }
			c, err := d.a.GetSnapshotConnection(t.Context(), Target("b", "b:1"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.SendChunk(pb.Chunk{}); !errors.Is(err, ErrSlow) {
				t.Errorf("%v, want ErrSlow", err)
			}
		})
	})
}

// TestReset: a connection that breaks fails its sender, and the next one works.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		c := d.connect(t)
		d.net.Reset("a", "b")
		synctest.Wait()
		if err := c.SendMessageBatch(text("x")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%v, want ErrUnreachable", err)
		}
		if err := d.connect(t).SendMessageBatch(text("x")); err != nil {
			t.Error(err)
		}
	})
}

// TestClose closes each end while the other is in every state: it returns, and
// leaves no goroutine (or the bubble would not end).
func TestClose(t *testing.T) {
	for _, closing := range []string{"a", "b"} {
		t.Run(closing, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuo(t)
				quiet := d.connect(t)
				snapshot, err := d.a.GetSnapshotConnection(t.Context(), Target("b", "b:1"))
				if err != nil {
					t.Fatal(err)
				}
				idle, err := d.net.Node("x").Dial(t.Context(), "b:1") // never says hello
				if err != nil {
					t.Fatal(err)
				}
				defer idle.Close()
				d.net.Cut("a", "b")
				stalled := make(chan error, 3)
				go func() { stalled <- snapshot.SendChunk(pb.Chunk{Data: make([]byte, 2*flowBytesMax)}) }()
				go func() { stalled <- quiet.SendMessageBatch(text(strings.Repeat("x", 2*flowBytesMax))) }()
				go func() {
					_, err := d.a.GetConnection(t.Context(), Target("b", "b:1"))
					stalled <- err
				}()
				synctest.Wait()
				began := time.Now()
				end := map[string]*Transport{"a": d.a, "b": d.b}[closing]
				if err := errors.Join(end.Close(), end.Close()); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("Close took %v", took)
				}
				if closing == "b" {
					d.net.Heal("a", "b")
				}
				for range 3 {
					if err := <-stalled; err == nil {
						t.Error("something was sent")
					}
				}
				if _, err := end.GetConnection(t.Context(), Target("b", "b:1")); err == nil {
					t.Error("a closed transport connects")
				}
			})
		})
	}
}

// TestContext: a connection ends with the context it was asked with.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		ctx, cancel := context.WithCancel(t.Context())
		c, err := d.a.GetConnection(ctx, Target("b", "b:1"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if err := c.SendMessageBatch(text("x")); !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	})
}

// TestTooMany fills a node with connections.
func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t)
		d.b.mu.Lock()
		d.b.accepted = acceptedMax - 1
		d.b.mu.Unlock()
		c := d.connect(t)
		if _, err := d.a.GetConnection(t.Context(), Target("b", "b:1")); err == nil {
			t.Error("one too many connects")
		}
		c.Close()
		synctest.Wait()
		d.connect(t)
	})
}

// TestValidate: an address needs host and port.
func TestValidate(t *testing.T) {
	f := NewFactory(Options{})
	for address, want := range map[string]bool{"127.0.0.1:33145": true, "node.example:1": true, "[::1]:1": true, ":33145": true, "": false, "node": false, "node:": false} {
		if got := f.Validate(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}

// TestOS sends over loopback: the one writev that no other connection gets.
func TestOS(t *testing.T) {
	got := make(chan string)
	_, c := pair(t, OS{}, func(b pb.MessageBatch) {
		for _, m := range b.Requests {
			for _, e := range m.Entries {
				got <- string(e.Cmd)
			}
		}
	})
	b := text("one")
	for i := range 3000 { // more than one writev takes
		b.Requests = append(b.Requests, pb.Message{To: 1, Entries: []pb.Entry{{Cmd: fmt.Append(nil, i)}, {}}})
	}
	if err := c.SendMessageBatch(b); err != nil {
		t.Fatal(err)
	}
	if first := <-got; first != "one" {
		t.Errorf("got %q", first)
	}
	for i := range 3000 {
		if a, b := <-got, <-got; a != fmt.Sprint(i) || b != "" {
			t.Fatalf("got %q and %q, want %d and nothing", a, b, i)
		}
	}
}
