package raft

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// calls gives three nodes that answer with all that they were told.
func calls(t *testing.T) *peers {
	t.Helper()
	p := &peers{net: transport.NewMemory(), answer: func(n int, from model.NodeID, m Method, body []byte) ([]byte, error) {
		if m == MethodLease {
			return nil, fmt.Errorf("lease: %w", &Refusal{Code: 7, Text: "not the leader"})
		}
		return fmt.Appendf(nil, "%d hears %d of %d: %s", n, m, from, body), nil
	}}
	for n := range p.hosts {
		p.dirs[n] = t.TempDir()
		p.open(t, n, nodeAddress(n))
	}
	t.Cleanup(func() {
		for _, h := range p.hosts {
			if h != nil {
				h.Close()
			}
		}
	})
	for _, h := range p.hosts {
		for n := range p.hosts {
			h.SetAddress(model.NodeID(n), nodeAddress(n))
		}
	}
	return p
}

func nodeAddress(n int) string { return fmt.Sprintf("node-%d:1", n) }

// TestCalls has each of three nodes call the others, by id and by address, and one
// that moves.
func TestCalls(t *testing.T) {
	t.Parallel()
	p := calls(t)
	ask := func(from, to int) {
		t.Helper()
		want := fmt.Sprintf("%d hears %d of %d: hello", to, MethodLeaders, from)
		if got, err := p.hosts[from].Call(t.Context(), model.NodeID(to), MethodLeaders, []byte("hello")); err != nil || string(got) != want {
			t.Errorf("node %d is told %q, %v, want %q", from, got, err, want)
		}
	}
	all := func() {
		t.Helper()
		for from := range p.hosts {
			for to := range p.hosts {
				if from != to {
					ask(from, to)
				}
			}
		}
	}
	all()
	const elsewhere = "elsewhere:1"
	p.hosts[1].Close()
	p.open(t, 1, elsewhere)
	for n, h := range p.hosts {
		h.SetAddress(1, elsewhere)
		p.hosts[1].SetAddress(model.NodeID(n), nodeAddress(n))
	}
	p.hosts[1].SetAddress(1, elsewhere)
	all()
	want := fmt.Sprintf("1 hears %d of 2: ", MethodIdentity)
	for n, h := range p.hosts {
		if peers := h.Traffic(); len(peers) != 2 || peers[0].Node == model.NodeID(n) || peers[0].SentBytes == 0 || peers[0].ReceivedBytes == 0 {
			t.Errorf("node %d counts %+v", n, peers)
		}
	}
	if got, err := p.hosts[2].CallAddress(t.Context(), elsewhere, MethodIdentity, nil); err != nil || string(got) != want {
		t.Errorf("who is there: %q, %v, want %q", got, err, want)
	}
}

// TestCallRefusals has every call that comes to nothing.
func TestCallRefusals(t *testing.T) {
	t.Parallel()
	p := calls(t)
	h := p.hosts[0]
	fails := func(node model.NodeID, m Method, want string) error {
		t.Helper()
		_, err := h.Call(t.Context(), node, m, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("call %d of node %d: %v, want %q", m, node, err, want)
		}
		return err
	}
	fails(0, MethodIdentity, "node 0: that is this node")
	fails(8, MethodIdentity, "node 8: it has no address yet")
	var r *Refusal
	if err := fails(1, MethodLease, "not the leader"); !errors.As(err, &r) || r.Code != 7 {
		t.Errorf("%v is not the refusal that was answered", err)
	}
	h.SetAddress(1, nodeAddress(2))
	if err := fails(1, MethodIdentity, target(2)); errors.As(err, &r) || errors.Is(err, ErrBroken) {
		t.Errorf("of another node at the address: %v", err)
	}
	h.Close()
	p.hosts[0] = nil
	if err := fails(2, MethodIdentity, "stopping"); !errors.Is(err, ErrStopped) || errors.Is(err, ErrBroken) {
		t.Errorf("of a closed host: %v", err)
	}
}
