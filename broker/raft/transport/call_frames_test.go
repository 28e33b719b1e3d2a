package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

// TestBadCalls says on a connection for calls what no node of ours does.
func TestBadCalls(t *testing.T) {
	h := hello{lowest: version, highest: version, purpose: forCalls, name: "x"}
	say := frame(t, func(w *writer) error { return w.small(kindHello, h.appendTo(nil)) })
	call := frame(t, func(w *writer) error { return w.frame(kindCall, []byte{methodEcho}, []byte("x")) })
	damaged := bytes.Clone(call)
	damaged[len(damaged)-1]++
	batch := text("x")
	for name, c := range map[string]struct {
		tell []byte
		want []string
	}{
		"two calls":   {append(bytes.Clone(call), call...), []string{"8 \x00", "8 \x00", "6 peer is silent"}},
		"messages":    {frame(t, func(w *writer) error { return w.messages(&batch) }), []string{"6 bad frame: of kind 2 on a connection for 3"}},
		"a result":    {frame(t, func(w *writer) error { return w.frame(kindResult, []byte{0}, nil) }), []string{"6 bad frame: of kind 8 on a connection for 3"}},
		"too long":    {sealed(header{kind: kindCall, meta: 1, data: CallBytesMax + 1}), []string{"6 bad length: 69206017 bytes of data in a frame of kind 7, the limit is 69206016"}},
		"no method":   {sealed(header{kind: kindCall}), []string{"6 bad frame: a call with 0 bytes of meta"}},
		"damage":      {damaged, []string{"6 bad checksum: data"}},
		"half a call": {call[:len(call)-1], []string{"6 peer is silent"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, _ := callDuo(t)
				answers := d.raw(t, say, c.tell)
				if len(answers) != 1+len(c.want) {
					t.Fatalf("answers %q, want a hello and %q", answers, c.want)
				}
				for i, want := range c.want {
					if !strings.HasPrefix(answers[1+i], want) {
						t.Errorf("answer %q, want %q", answers[1+i], want)
					}
				}
			})
		})
	}
	t.Run("a call among messages", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, _ := callDuo(t)
			h.purpose = forMessages
			answers := d.raw(t, frame(t, func(w *writer) error { return w.small(kindHello, h.appendTo(nil)) }), call)
			if n := len(answers); n != 2 || !strings.HasPrefix(answers[1], "6 bad frame: of kind 7 on a connection for 1") {
				t.Errorf("answers %q", answers)
			}
		})
	})
}

// TestBadResults has a listener that is no node answer a call.
func TestBadResults(t *testing.T) {
	greeting := hello{lowest: version, highest: version, purpose: forCalls, name: "b"}
	hi := frame(t, func(w *writer) error { return w.small(kindHello, greeting.appendTo(nil)) })
	result := frame(t, func(w *writer) error { return w.frame(kindResult, []byte{0}, []byte("x")) })
	damaged := bytes.Clone(result)
	damaged[len(damaged)-1]++
	for name, c := range map[string]struct {
		answer []byte
		want   error
		broken bool
	}{
		"not for calls": {frame(t, func(w *writer) error {
			return w.small(kindHello, hello{lowest: version, highest: version, purpose: forMessages, name: "b"}.appendTo(nil))
		}), ErrFrame, false},
		"taken":    {frame(t, func(w *writer) error { return w.small(kindTaken, nil) }), ErrFrame, true},
		"damaged":  {damaged, ErrChecksum, true},
		"too long": {sealed(header{kind: kindResult, meta: 1, data: CallBytesMax + 1}), ErrLength, true},
		"empty":    {sealed(header{kind: kindResult}), ErrFrame, true},
		"half":     {result[:len(result)-1], ErrSilent, true},
		"refused":  {frame(t, func(w *writer) error { return w.refuse(errors.New("why")) }), ErrRefused, true},
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
				first, then := hi, c.answer
				if !c.broken {
					first, then = c.answer, nil
				}
				go answerCall(l, first, then)
				if _, err := a.Call(t.Context(), toB, methodEcho, nil); !errors.Is(err, c.want) || errors.Is(err, ErrBroken) != c.broken {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
		})
	}
	t.Run("unasked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := NewMemory()
			a := start(t, made(Options{Network: m.Node("a")}, "a", "a:1", nil, nil))
			l, err := m.Node("b").Listen("b:1")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go answerCall(l, hi, append(bytes.Clone(result), result...))
			if got, err := a.Call(t.Context(), toB, methodEcho, nil); err != nil || string(got) != "x" {
				t.Errorf("%q, %v", got, err)
			}
			synctest.Wait()
			if n := kept(a, toB); n != -1 {
				t.Errorf("%d connections are kept", n)
			}
		})
	})
}

// answerCall says hi on the first connection, and then once a call has come.
func answerCall(l net.Listener, hi, then []byte) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	b := make([]byte, helloBytesMax)
	if _, err := c.Read(b); err != nil {
		return
	}
	if _, err := c.Write(hi); err != nil || then == nil {
		return
	}
	if _, err := c.Read(b); err != nil {
		return
	}
	if _, err := c.Write(then); err == nil {
		_, _ = io.Copy(io.Discard, c)
	}
}
