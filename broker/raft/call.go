package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// Method says what a call asks a node for. Its number is part of the format.
type Method uint8

// The methods, each of them declared here and given a meaning by a room above.
const (
	// MethodIdentity asks a node who it is.
	MethodIdentity Method = 1 + iota
	// MethodLeaders asks who leads what, as the node knows it.
	MethodLeaders
	// MethodLease asks for a partition's files, which stay until the lease ends.
	MethodLease
	// MethodPiece asks for bytes of a leased file.
	MethodPiece
	// MethodRelease ends a lease.
	MethodRelease
	// MethodVerb reads or writes a partition that the node leads, for a script.
	MethodVerb
	// methodTakeOver is this room's own: see Host.Transfer.
	methodTakeOver
	// MethodApplied asks how far a replica has applied its log, and tells its node that
	// it is in the group.
	MethodApplied
	// MethodMoves asks why the moves of partitions wait that a node makes.
	MethodMoves
	// MethodJoin asks for a place in the cluster.
	MethodJoin
	// MethodSelfTest starts, reads and stops a node's self-test, and carries bytes for one.
	MethodSelfTest
	// MethodElect asks the leader of a partition to have another node lead it.
	MethodElect
	// MethodWeights asks what a node's disk and its replicas hold.
	MethodWeights
	// MethodConfigured asks how far a node is with the cluster's settings.
	MethodConfigured
)

// CallBytesMax bounds a call's body, and an answer's.
const CallBytesMax = transport.CallBytesMax - deploymentBytes

// Refusal is a node's own answer to a call that it did not do: see transport.Refusal.
type Refusal = transport.Refusal

// RefusedGeneral is the Code of a failure that has none of its method's.
const RefusedGeneral = transport.RefusedGeneral

// ErrBroken says that a call may have been carried out: see transport.ErrBroken.
// Any other error but a Refusal says that it surely was not.
var ErrBroken = transport.ErrBroken

// Call has node do what m and body say, and gives its reply: see transport.Call.
func (h *Host) Call(ctx context.Context, node model.NodeID, m Method, body []byte) ([]byte, error) {
	if node == h.node {
		return nil, fmt.Errorf("call %d of node %d: that is this node", m, node)
	}
	address, ok := h.registry.address(node)
	if !ok {
		return nil, fmt.Errorf("call %d of node %d: it has no address yet", m, node)
	}
	return h.call(ctx, transport.Target(target(node), address), m, body)
}

// CallAddress is like Call, of whichever node is at address now.
func (h *Host) CallAddress(ctx context.Context, address string, m Method, body []byte) ([]byte, error) {
	return h.call(ctx, address, m, body)
}

// deploymentBytes begin every body: nothing is done for a node of another cluster but
// to say who one is, and to take in one that is of none.
const deploymentBytes = 8

func (h *Host) call(ctx context.Context, target string, m Method, body []byte) ([]byte, error) {
	whole := make([]byte, 0, deploymentBytes+len(body))
	whole = append(binary.LittleEndian.AppendUint64(whole, h.options.Deployment), body...)
	began := time.Now()
	reply, err := h.caller.Load().Call(ctx, target, uint8(m), whole)
	if h.options.Called != nil {
		h.options.Called(m, time.Since(began), err)
	}
	if errors.Is(err, transport.ErrClosed) && !errors.Is(err, ErrBroken) {
		err = fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return reply, err
}

// answers gives transport.Options.Answer.
func (h *Host) answers() func(ctx context.Context, from string, method uint8, body []byte) ([]byte, error) {
	return func(ctx context.Context, from string, method uint8, body []byte) ([]byte, error) {
		node, err := targetNode(from)
		if err != nil {
			return nil, err // checkPeer lets none in
		}
		if len(body) < deploymentBytes {
			return nil, fmt.Errorf("a call of %d bytes names no deployment", len(body))
		}
		theirs := binary.LittleEndian.Uint64(body)
		if m := Method(method); theirs != h.options.Deployment && m != MethodIdentity && m != MethodJoin {
			return nil, fmt.Errorf("node %d is of another cluster: its seeds are not those of node %d", node, h.node)
		}
		body = body[deploymentBytes:]
		switch {
		case h.isLost(node) && Method(method) != MethodIdentity:
			return nil, errGivenUp(node)
		case Method(method) == methodTakeOver:
			return nil, h.takeOver(node, body)
		case h.options.Answer == nil:
			return nil, errors.New("this node answers no calls")
		}
		return h.options.Answer(ctx, node, Method(method), body)
	}
}
