package transport

import (
	"errors"
	"fmt"
	"strings"
)

// purpose says what a connection carries.
type purpose uint8

const (
	forMessages purpose = 1 + iota
	forSnapshot
	forCalls
)

// ErrPeer says that the node at the other end is not the one that was meant, or
// not one that may be here. Its address, or ours in its books, is out of date.
var ErrPeer = errors.New("wrong peer")

// ErrRefused says that the peer closed the connection, and carries its reason.
var ErrRefused = errors.New("refused by peer")

// hello is what each end says first.
type hello struct {
	lowest, highest byte
	purpose         purpose
	// name is the sender's; expects is whom it takes the other for, "" for anyone.
	name, expects string
}

func (h hello) appendTo(b []byte) []byte {
	b = append(b, h.lowest, h.highest, byte(h.purpose))
	return appendName(appendName(b, h.name), h.expects)
}

func parseHello(b []byte) (h hello, err error) {
	if len(b) < 3 {
		return h, fmt.Errorf("%w: a hello of %d bytes", ErrFrame, len(b))
	}
	name, rest, ok := cutName(b[3:])
	expects, rest, ok2 := cutName(rest)
	if !ok || !ok2 || len(rest) > 0 {
		return h, fmt.Errorf("%w: a hello of %d bytes", ErrFrame, len(b))
	}
	return hello{lowest: b[0], highest: b[1], purpose: purpose(b[2]), name: string(name), expects: string(expects)}, nil
}

// meets holds what the other end says to what this one is: us.
func (h hello) meets(us hello) error {
	switch {
	case h.lowest > us.highest || h.highest < us.lowest:
		return fmt.Errorf("%w: %q speaks %d to %d, %q %d to %d", ErrVersion, h.name, h.lowest, h.highest, us.name, us.lowest, us.highest)
	case h.purpose != us.purpose:
		return fmt.Errorf("%w: a connection for %d, not for %d", ErrFrame, h.purpose, us.purpose)
	case h.expects != "" && h.expects != us.name:
		return fmt.Errorf("%w: %q looks for %q, this is %q", ErrPeer, h.name, h.expects, us.name)
	case us.expects != "" && us.expects != h.name:
		return fmt.Errorf("%w: this is %q, not %q", ErrPeer, h.name, us.expects)
	}
	return nil
}

// Target joins a node's name and its address to what the transport is asked to
// connect to: NAME@HOST:PORT. An address may have moved to another node; the name
// is what makes the transport notice.
func Target(name, address string) string { return name + "@" + address }

// splitTarget undoes Target. A bare address has no name.
func splitTarget(target string) (name, address string) {
	name, address, ok := strings.Cut(target, "@")
	if !ok {
		return "", target
	}
	return name, address
}
