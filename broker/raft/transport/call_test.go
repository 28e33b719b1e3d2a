package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Methods of the tests' answerers.
const (
	methodEcho  uint8 = iota // the body, with who sent it
	methodCode               // a refusal
	methodError              // an error
	methodLong               // more than a reply may have
	methodStall              // until its context ends
)

// desks answers as the methods say.
type desks struct {
	// begun and ended are told of each methodStall.
	begun chan struct{}
	ended chan error
}

func newDesks() *desks { return &desks{begun: make(chan struct{}, 200), ended: make(chan error, 200)} }

func (d *desks) answer(ctx context.Context, from string, method uint8, body []byte) ([]byte, error) {
	switch method {
	case methodEcho:
		return append([]byte(from+" "), body...), nil
	case methodCode:
		return nil, fmt.Errorf("wrapped: %w", &Refusal{Code: 200, Text: string(body)})
	case methodError:
		return []byte("never sent"), errors.New(string(body))
	case methodLong:
		return make([]byte, CallBytesMax+1), nil
	}
	d.begun <- struct{}{}
	<-ctx.Done()
	d.ended <- ctx.Err()
	return nil, ctx.Err()
}

// callDuo is a duo whose b answers.
func callDuo(t *testing.T) (*duo, *desks) {
	t.Helper()
	d, desks := newDuo(t), newDesks()
	d.b.Answer = desks.answer
	return d, desks
}

// echo has a call echoed.
func (d *duo) echo(t testing.TB, word string) {
	t.Helper()
	got, err := d.a.Call(t.Context(), toB, methodEcho, []byte(word))
	if err != nil || string(got) != "a "+word {
		t.Errorf("echo of %.20q: %.20q, %v", word, got, err)
	}
}

const toB = "b@b:1"

// kept is how many connections a keeps to a target; -1 says that it knows none.
func kept(tr *Transport, target string) int {
	tr.calls.mu.Lock()
	defer tr.calls.mu.Unlock()
	n := tr.calls.neighbors[target]
	if n == nil {
		return -1
	}
	return len(n.kept)
}

// TestCalls: bodies of every size go and come back over one connection, however
// long it was quiet.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := callDuo(t)
		for _, n := range []int{0, 1, budgetFreeBytes, flowBytesMax + 1, CallBytesMax - len("a ")} {
			d.echo(t, strings.Repeat("x", n))
			sleep(10 * silenceTimeMax)
		}
		if n := kept(d.a, toB); n != 1 || d.b.accepted != 1 || d.b.acceptedForCalls != 1 {
			t.Errorf("%d connections are kept, %d and %d are there", n, d.b.accepted, d.b.acceptedForCalls)
		}
		for _, free := range []struct {
			*budget
			all int64
		}{{d.b.callBudget, callBudgetBytes}, {d.a.resultBudget, resultBudgetBytes}} {
			if !free.left.TryAcquire(free.all) {
				t.Error("some of a budget is gone")
			}
		}
	})
}

// TestRefusals: an answerer's errors come as they were, and the connection stays.
func TestRefusals(t *testing.T) {
	long := strings.Repeat("é", refusalBytesMax)
	for name, c := range map[string]struct {
		method uint8
		body   string
		want   Refusal
		silent bool // b answers nothing
	}{
		"code":      {method: methodCode, body: "why", want: Refusal{200, "why"}},
		"no text":   {method: methodCode, want: Refusal{Code: 200}},
		"long text": {method: methodCode, body: "x" + long, want: Refusal{200, "x" + long[:refusalBytesMax-2]}},
		"error":     {method: methodError, body: "why", want: Refusal{RefusedGeneral, "why"}},
		"too long":  {method: methodLong, want: Refusal{RefusedGeneral, "bad length: a reply of 69206017 bytes, the limit is 69206016"}},
		"nobody":    {silent: true, want: Refusal{RefusedGeneral, "this node answers no calls"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, _ := callDuo(t)
				if c.silent {
					d.b.Answer = nil
				}
				for range 2 {
					reply, err := d.a.Call(t.Context(), toB, c.method, []byte(c.body))
					var r *Refusal
					if !errors.As(err, &r) || *r != c.want || reply != nil || errors.Is(err, ErrBroken) {
						t.Errorf("%.20q, %v, want %v", reply, err, &c.want)
					}
				}
				if d.b.accepted != 1 {
					t.Errorf("%d connections", d.b.accepted)
				}
			})
		})
	}
	zero := fmt.Errorf("wrapped: %w", &Refusal{Text: "no code"})
	if r := asRefusal(zero); r.Code != RefusedGeneral || !strings.Contains(r.Text, "no code") {
		t.Errorf("a refusal without a code goes as %v", r)
	}
}

// TestNotCalled has every call that surely was not carried out: none is broken.
func TestNotCalled(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		target string
		body   []byte
		ctx    context.Context
		want   error
	}{
		"body":         {target: toB, body: make([]byte, CallBytesMax+1), want: ErrLength},
		"nobody there": {target: "c@c:1", want: ErrUnreachable},
		"another node": {target: "c@b:1", want: ErrRefused},
		"too late":     {target: toB, ctx: ended, want: context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, _ := callDuo(t)
				ctx := c.ctx
				if ctx == nil {
					ctx = t.Context()
				}
				if _, err := d.a.Call(ctx, c.target, methodEcho, c.body); !errors.Is(err, c.want) || errors.Is(err, ErrBroken) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if n := kept(d.a, c.target); n >= 0 {
					t.Errorf("the target is known still, with %d connections", n)
				}
			})
		})
	}
}

// TestBareTarget asks who is at an address; nothing is kept of it.
func TestBareTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := callDuo(t)
		if got, err := d.a.Call(t.Context(), "b:1", methodEcho, []byte("who")); err != nil || string(got) != "a who" {
			t.Errorf("%q, %v", got, err)
		}
		synctest.Wait()
		if n := kept(d.a, "b:1"); n != -1 || d.b.accepted != 0 {
			t.Errorf("%d connections are kept, %d are there", n, d.b.accepted)
		}
	})
}

// TestCallEnds: who waits for an answer is told when none will come, and who makes
// it that nobody waits.
func TestCallEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(d *duo, cancel func())
		want error
	}{
		"canceled":      {func(_ *duo, cancel func()) { cancel() }, context.Canceled},
		"reset":         {func(d *duo, _ func()) { d.net.Reset("a", "b") }, ErrUnreachable},
		"cut":           {func(d *duo, _ func()) { d.net.Cut("a", "b"); d.net.Cut("b", "a") }, ErrSilent},
		"cut back":      {func(d *duo, _ func()) { d.net.Cut("b", "a") }, ErrSilent},
		"the caller's":  {func(d *duo, _ func()) { _ = d.a.Close() }, ErrClosed},
		"the other end": {func(d *duo, _ func()) { _ = d.b.Close() }, ErrBroken},
		"no end":        {func(*duo, func()) {}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, desks := callDuo(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began, done := time.Now(), make(chan error)
				go func() {
					_, err := d.a.Call(ctx, toB, methodStall, nil)
					done <- err
				}()
				<-desks.begun
				c.end(d, cancel)
				if err := <-done; !errors.Is(err, c.want) || !errors.Is(err, ErrBroken) {
					t.Errorf("%v, want %v, broken", err, c.want)
				}
				if err := <-desks.ended; err == nil {
					t.Error("the answerer's context has not ended")
				}
				if took := time.Since(began); took > callTimeMax {
					t.Errorf("it took %v", took)
				}
				synctest.Wait()
				if n := kept(d.a, toB); n != -1 || d.b.accepted+d.b.acceptedForCalls > 0 {
					t.Errorf("%d connections are kept, %d and %d are there", n, d.b.accepted, d.b.acceptedForCalls)
				}
			})
		})
	}
}

// TestUnsent: a call whose frame was not written to its end is not broken, and one
// that has not begun neither, whatever ends it.
func TestUnsent(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(d *duo, cancel func())
		want error
	}{
		"canceled": {func(_ *duo, cancel func()) { cancel() }, context.Canceled},
		"closed":   {func(d *duo, _ func()) { _ = d.a.Close() }, ErrClosed},
		"reset":    {func(d *duo, _ func()) { d.net.Reset("a", "b"); _ = d.b.Close(); d.net.Heal("a", "b") }, ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, _ := callDuo(t)
				d.echo(t, "first")
				d.net.Cut("a", "b")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began, done := time.Now(), make(chan error)
				for range 2 { // in the middle of its frame, and of its dial
					go func() {
						_, err := d.a.Call(ctx, toB, methodEcho, make([]byte, 2*flowBytesMax))
						done <- err
					}()
				}
				synctest.Wait()
				c.end(d, cancel)
				for range 2 {
					if err := <-done; !errors.Is(err, c.want) || errors.Is(err, ErrBroken) {
						t.Errorf("%v, want %v, not broken", err, c.want)
					}
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestDeadConnection: a kept connection that is over, known or not, fails no call.
func TestDeadConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := callDuo(t)
		d.echo(t, "one")
		d.net.Reset("a", "b")
		d.echo(t, "at once")
		d.net.Reset("a", "b")
		synctest.Wait()
		if n := kept(d.a, toB); n != -1 {
			t.Errorf("%d dead connections are kept", n)
		}
		d.echo(t, "later")
		// One whose death nobody has told.
		n := d.a.calls.find(toB)
		c := n.kept[0]
		d.a.calls.forsake(n)
		c.out.gather.Reset(deadConn{c.out.conn})
		d.echo(t, "unseen")
		if c.failed() == nil {
			t.Error("it was not tried")
		}
	})
}

// deadConn takes half of what is written.
type deadConn struct{ net.Conn }

func (c deadConn) Write(b []byte) (int, error) {
	n, _ := c.Conn.Write(b[:len(b)/2])
	return n, io.ErrClosedPipe
}

// TestParallelCalls makes more calls at once than are let, and than are kept.
func TestParallelCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, desks := callDuo(t)
		release := make(chan struct{})
		d.b.Answer = func(ctx context.Context, from string, method uint8, body []byte) ([]byte, error) {
			desks.begun <- struct{}{}
			<-release
			return desks.answer(ctx, from, method, body)
		}
		var all sync.WaitGroup
		for i := range callsMax + 10 {
			all.Go(func() { d.echo(t, fmt.Sprint(i)) })
		}
		synctest.Wait()
		if n := len(desks.begun); n != callsMax {
			t.Errorf("%d calls are under way, want %d", n, callsMax)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.a.Call(ctx, toB, methodEcho, nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrBroken) {
			t.Errorf("a call without a turn: %v", err)
		}
		close(release)
		all.Wait()
		synctest.Wait()
		if n := kept(d.a, toB); n != callsKeptMax || d.b.accepted != callsKeptMax {
			t.Errorf("%d connections are kept, %d are there, want %d", n, d.b.accepted, callsKeptMax)
		}
	})
}

// TestTooManyForCalls: the room that is left for Raft is not for calls.
func TestTooManyForCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := callDuo(t)
		d.b.mu.Lock()
		d.b.acceptedForCalls = acceptedCallsMax
		d.b.mu.Unlock()
		if _, err := d.a.Call(t.Context(), toB, methodEcho, nil); !errors.Is(err, ErrRefused) || errors.Is(err, ErrBroken) {
			t.Errorf("%v, want ErrRefused", err)
		}
		d.connect(t).Close()
		synctest.Wait()
		if d.b.acceptedForCalls != acceptedCallsMax {
			t.Errorf("%d are counted", d.b.acceptedForCalls)
		}
	})
}

// TestCallBudget: bodies beyond the budget wait for the calls before them, small
// ones do not.
func TestCallBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, desks := callDuo(t)
		const size = 3 * budgetFreeBytes
		d.b.callBudget = newBudget(size + size/2)
		release := make(chan struct{})
		d.b.Answer = func(ctx context.Context, from string, method uint8, body []byte) ([]byte, error) {
			if len(body) >= size {
				desks.begun <- struct{}{}
				<-release
			}
			return desks.answer(ctx, from, method, body)
		}
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { d.echo(t, strings.Repeat("x", size)) })
		}
		synctest.Wait()
		if n := len(desks.begun); n != 1 {
			t.Errorf("%d large calls are under way, want 1", n)
		}
		d.echo(t, "small")
		close(release)
		all.Wait()
	})
}
