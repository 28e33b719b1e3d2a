package raft

import (
	"context"
	"encoding/binary"
	"log/slog"

	"github.com/lni/dragonboat/v4/config"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// Asker calls nodes for one that is of no cluster yet: it may have no id, and knows
// no deployment. Only MethodIdentity and MethodJoin are done for it.
type Asker struct{ calls *transport.Transport }

// NewAsker gives one that Close ends; tls and network are as of Options.
func NewAsker(tls transport.TLS, network transport.Network, log *slog.Logger) *Asker {
	f := transport.NewFactory(transport.Options{Network: network, TLS: tls, Peer: checkPeer, Log: log})
	t := f.Create(config.NodeHostConfig{NodeHostID: target(model.NoNode)}, nil, nil)
	return &Asker{calls: t.(*transport.Transport)} // never started: it listens nowhere
}

// CallAddress is as of Host.
func (a *Asker) CallAddress(ctx context.Context, address string, m Method, body []byte) ([]byte, error) {
	whole := append(binary.LittleEndian.AppendUint64(nil, 0), body...)
	return a.calls.Call(ctx, address, uint8(m), whole)
}

// Close ends the connections.
func (a *Asker) Close() error { return a.calls.Close() }
