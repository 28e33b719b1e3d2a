package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrBroken says that a call was sent and its answer never came: it may have been
// carried out, or may yet be. Any other error of Call but a *Refusal says that the
// peer never had the whole of it, so that it surely was not: calling again is right.
var ErrBroken = errors.New("outcome of the call is unknown")

// RefusedGeneral is the Code of an error that is no Refusal. Codes from 2 on are
// the answerers'.
const RefusedGeneral uint8 = 1

// Refusal is what a peer answers a call that it did not do. An Options.Answer
// returns one, or an error that wraps one, to choose what the caller finds in it.
type Refusal struct {
	// Code is never 0.
	Code uint8
	// Text is for people; what is longer than 1 KiB is cut.
	Text string
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("refused with code %d: %s", r.Code, r.Text) }

// Call has the node at target do what method and body say, and gives its reply,
// which is the caller's. A *Refusal is the peer's own answer; what ErrBroken and
// the other errors tell is said there. A target without a name means whoever is at
// that address.
//
// ctx bounds all of it, callTimeMax if it is longer. body is read until Call returns.
func (t *Transport) Call(ctx context.Context, target string, method uint8, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeMax)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	a, err := t.ask(ctx, target, method, body)
	if err == nil && a.refusal == nil {
		return a.body, nil
	}
	switch {
	case err == nil:
		err = a.refusal
	case t.ctx.Err() != nil && !errors.Is(err, ErrClosed):
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return nil, fmt.Errorf("call %d of %s: %w", method, target, err)
}

// ask finds a connection and asks over it.
func (t *Transport) ask(ctx context.Context, target string, method uint8, body []byte) (outcome, error) {
	if len(body) > CallBytesMax {
		return outcome{}, fmt.Errorf("%w: a body of %d bytes, the limit is %d", ErrLength, len(body), CallBytesMax)
	}
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	n, err := t.calls.enter(ctx, target)
	if err != nil {
		return outcome{}, err
	}
	defer t.calls.leave(n)
	for {
		c := t.calls.take(n)
		kept := c != nil
		if !kept {
			if c, err = t.connectForCalls(ctx, target); err != nil {
				return outcome{}, err
			}
		}
		a, err := c.ask(ctx, method, body)
		t.calls.put(n, c)
		// One that was kept may have died unseen. What was not written to its end
		// cannot have been carried out, and is sent again over another.
		if err == nil || !kept || errors.Is(err, ErrBroken) || ctx.Err() != nil {
			return a, err
		}
	}
}

// connectForCalls gives a new connection, which outlives ctx.
func (t *Transport) connectForCalls(ctx context.Context, target string) (*callConn, error) {
	asked := make(chan chan<- outcome, 1)
	l, err := t.connect(ctx, target, forCalls, ways{asked: asked, over: func() { t.calls.sweep(target) }}, t.ctx)
	if err != nil {
		return nil, err
	}
	return &callConn{link: l, asked: asked}, nil
}

// outcome is what a result frame holds.
type outcome struct {
	body    []byte
	refusal *Refusal
}

// callConn is a connection for calls, at the end that dialed. It belongs to one
// call at a time.
type callConn struct {
	*link
	// asked has where the answer that is awaited goes; the link's listener takes it.
	asked chan chan<- outcome
}

// ask sends a call and waits for its answer. Unless it gives one, and ctx has not
// ended by then, the connection is over.
func (c *callConn) ask(ctx context.Context, method uint8, body []byte) (outcome, error) {
	stop := context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })
	a, err := c.exchange(method, body)
	if !stop() {
		c.fail(ctx.Err()) // or the next call might find it alive
	}
	return a, err
}

func (c *callConn) exchange(method uint8, body []byte) (outcome, error) {
	reply := make(chan outcome, 1)
	c.asked <- reply // it is empty: the last answer has come
	if err := c.out.frame(kindCall, []byte{method}, body); err != nil {
		c.fail(fmt.Errorf("send to %q: %w", c.peer, err))
		return outcome{}, c.failed()
	}
	select {
	case a := <-reply:
		return a, nil
	case <-c.over:
	}
	select {
	case a := <-reply: // it came just before the end
		return a, nil
	default:
		return outcome{}, fmt.Errorf("%w: %w", ErrBroken, c.failed())
	}
}

// readAnswer reads the result whose header and meta have come.
func (l *link) readAnswer() (a outcome, err error) {
	status, text, err := parseResult(l.in.meta, l.in.head.data)
	if err != nil {
		return outcome{}, err
	}
	if status != 0 {
		return outcome{refusal: &Refusal{Code: status, Text: text}}, nil
	}
	a.body, err = l.in.take(l.in.head.data)
	return a, err
}

// appendResult appends a result's meta: r is nil where the call was done.
func appendResult(to []byte, r *Refusal) []byte {
	if r == nil {
		return append(to, 0)
	}
	text := strings.ToValidUTF8(r.Text[:min(len(r.Text), refusalBytesMax)], "")
	return append(append(to, r.Code), text...)
}

// parseResult undoes appendResult; data is how long the body is.
func parseResult(meta []byte, data int) (status uint8, text string, err error) {
	if len(meta) == 0 || meta[0] == 0 && len(meta) > 1 || meta[0] != 0 && data > 0 {
		return 0, "", fmt.Errorf("%w: a result with %d bytes of meta and a body of %d", ErrFrame, len(meta), data)
	}
	return meta[0], string(meta[1:]), nil
}

// parseCall gives a call's method.
func parseCall(meta []byte) (method uint8, err error) {
	if len(meta) != 1 {
		return 0, fmt.Errorf("%w: a call with %d bytes of meta", ErrFrame, len(meta))
	}
	return meta[0], nil
}
