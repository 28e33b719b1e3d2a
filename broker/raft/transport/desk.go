package transport

import (
	"context"
	"errors"
	"fmt"
)

// desk answers the calls of one accepted connection, one at a time. Its reader
// goes on meanwhile, so that ctx ends when the caller is gone.
type desk struct {
	*Transport
	link *link
	// ctx ends with the connection, and with the transport.
	ctx    context.Context
	cancel context.CancelFunc
	// busy holds a token from a call to its answer.
	busy chan struct{}
}

func newDesk(t *Transport, l *link) *desk {
	d := &desk{Transport: t, link: l, busy: make(chan struct{}, 1)}
	d.ctx, d.cancel = context.WithCancel(t.ctx)
	return d
}

// close waits for the call under way, if any: its connection, which is over, counts
// until then.
func (d *desk) close() {
	d.cancel()
	d.busy <- struct{}{}
}

// receive has the call whose header and meta have come answered, by a goroutine of
// its own. A call that comes before the answer to the last waits for that.
func (d *desk) receive() error {
	method, err := parseCall(d.link.in.meta)
	if err != nil {
		return err
	}
	body, err := d.link.in.take(d.link.in.head.data)
	if err != nil {
		return err
	}
	select {
	case d.busy <- struct{}{}:
	case <-d.link.over:
		return d.link.failed()
	}
	taken := d.link.in.keep()
	end := func() {
		d.callBudget.give(taken)
		<-d.busy
	}
	if !d.spawn(func() { d.reply(method, body); end() }) {
		end()
		return ErrClosed
	}
	return nil
}

// reply runs the call and sends what came of it.
func (d *desk) reply(method uint8, body []byte) {
	reply, err := d.run(method, body)
	if d.ctx.Err() != nil {
		return // nobody hears it
	}
	if err := d.link.out.frame(kindResult, appendResult(nil, asRefusal(err)), reply); err != nil {
		d.link.fail(fmt.Errorf("answer call %d of %q: %w", method, d.link.peer, err))
	}
}

// run gives no reply with an error.
func (d *desk) run(method uint8, body []byte) ([]byte, error) {
	if d.Answer == nil {
		return nil, errors.New("this node answers no calls")
	}
	reply, err := d.Answer(d.ctx, d.link.peer, method, body)
	switch {
	case err != nil:
		return nil, err
	case len(reply) > CallBytesMax:
		return nil, fmt.Errorf("%w: a reply of %d bytes, the limit is %d", ErrLength, len(reply), CallBytesMax)
	}
	return reply, nil
}

// asRefusal gives what the caller is told of err: nil for nil.
func asRefusal(err error) *Refusal {
	var r *Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r) && r.Code != 0:
		return r
	}
	return &Refusal{Code: RefusedGeneral, Text: err.Error()}
}
