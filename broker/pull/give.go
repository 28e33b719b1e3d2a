package pull

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

const (
	// leasesMax is how many leases a node gives at once: each keeps files and memory,
	// and reads beside what consumers read. More are refused, and ask again.
	leasesMax = 8
	// leaseIdleMax is how long a lease that nobody uses is kept.
	leaseIdleMax = 30 * time.Second
)

// Exporter is a partition that can be given: a core.Handle.
type Exporter interface {
	Export(ctx context.Context) (*partition.Export, error)
}

// GiverOptions configures a Giver.
type GiverOptions struct {
	// Find finds a partition of this node.
	Find func(model.ShardID) (Exporter, bool)
	Log  *slog.Logger
}

// Giver answers the calls of nodes that take partitions from this one. Its methods may
// be called from any goroutine.
type Giver struct {
	o    GiverOptions
	boot uint64 // tells this start of the node from others

	given atomic.Int64 // bytes of pieces

	mu     sync.Mutex
	leases map[uint64]*lease
	closed bool
}

// lease is an export that a node takes. mu is held by who reads it.
type lease struct {
	id    uint64
	to    model.NodeID
	shard model.ShardID
	timer *time.Timer

	mu     sync.Mutex
	export *partition.Export // nil before it begins, and once it is over
	ended  bool
	used   time.Time
}

// NewGiver gives a Giver without leases.
func NewGiver(o GiverOptions) *Giver {
	return &Giver{o: o, boot: rand.Uint64(), leases: map[uint64]*lease{}}
}

// Close ends all leases; what is asked afterwards is refused.
func (g *Giver) Close() {
	g.mu.Lock()
	leases := g.leases
	g.leases, g.closed = map[uint64]*lease{}, true
	g.mu.Unlock()
	for _, l := range leases {
		l.end()
	}
}

// Given tells how many bytes were given since the start, and how many leases there are.
func (g *Giver) Given() (bytes int64, leases int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.given.Load(), len(g.leases)
}

// Answer answers a call. An error that is a Refusal is an answer too.
func (g *Giver) Answer(ctx context.Context, from model.NodeID, m Method, body []byte) ([]byte, error) {
	switch m {
	case MethodLease:
		ask, err := decodeLeaseAsk(body)
		if err != nil {
			return nil, err
		}
		return g.lease(ctx, from, ask)
	case MethodPiece:
		ask, err := decodePieceAsk(body)
		if err != nil {
			return nil, err
		}
		return g.piece(from, ask)
	case MethodRelease:
		if len(body) != releaseAskSize {
			return nil, refuse(CodeMalformed, "%d bytes release a lease", len(body))
		}
		if l := g.find(from, binary.LittleEndian.Uint64(body)); l != nil {
			g.drop(l)
		}
		return nil, nil
	}
	return nil, refuse(CodeMalformed, "method %d", m)
}

func (g *Giver) lease(ctx context.Context, from model.NodeID, ask leaseAsk) ([]byte, error) {
	h, ok := g.o.Find(ask.shard)
	if !ok {
		return nil, refuse(CodeUnknown, "shard %d is not here", ask.shard)
	}
	l := &lease{id: rand.Uint64(), to: from, shard: ask.shard}
	if err := g.seat(l); err != nil {
		return nil, err
	}
	x, err := h.Export(ctx)
	switch {
	case err != nil:
		g.forget(l)
		return nil, refuse(CodeUnknown, "shard %d: %v", ask.shard, err)
	case x.Applied() < ask.atLeast:
		x.Release()
		g.forget(l)
		return nil, refuse(CodeBehind, "shard %d stands at %d here, %d is asked for", ask.shard, x.Applied(), ask.atLeast)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended { // by Close, or by another of the same node
		x.Release()
		return nil, refuse(CodeGone, "the lease was ended")
	}
	l.export, l.used = x, time.Now()
	l.timer = time.AfterFunc(leaseIdleMax, func() { g.expire(l) })
	return granted{lease: l.id, boot: g.boot, applied: x.Applied(), manifest: uint64(len(x.Manifest()))}.encode(), nil
}

// seat takes a place for l, that of an older lease to the same node if there is one:
// its holder has forgotten it.
func (g *Giver) seat(l *lease) error {
	for _, old := range g.held(l.to, l.shard) {
		g.drop(old)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.leases) >= leasesMax {
		return refuse(CodeBusy, "%d leases are given", len(g.leases))
	}
	g.leases[l.id] = l
	return nil
}

func (g *Giver) forget(l *lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.leases, l.id)
}

// held lists the leases of a shard that a node has.
func (g *Giver) held(to model.NodeID, shard model.ShardID) (all []*lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.leases {
		if l.to == to && l.shard == shard {
			all = append(all, l)
		}
	}
	return all
}

func (g *Giver) find(from model.NodeID, id uint64) *lease {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.leases[id]; l != nil && l.to == from {
		return l
	}
	return nil
}

func (g *Giver) drop(l *lease) {
	g.forget(l)
	l.end()
}

func (g *Giver) piece(from model.NodeID, ask pieceAsk) ([]byte, error) {
	l := g.find(from, ask.lease)
	if l == nil {
		return nil, refuse(CodeGone, "lease %d is over", ask.lease)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.export == nil {
		return nil, refuse(CodeGone, "lease %d is over", ask.lease)
	}
	b, err := l.read(ask)
	l.used = time.Now()
	l.timer.Reset(leaseIdleMax)
	switch {
	case errors.Is(err, partition.ErrReplaced):
		return nil, refuse(CodeGone, "lease %d: %v", ask.lease, err)
	case err != nil:
		g.o.Log.Warn("partition cannot be given", "shard", uint64(l.shard), "node", int32(from), "err", err)
		return nil, refuse(CodeDamaged, "%v", err)
	}
	g.given.Add(int64(len(b)))
	return b, nil
}

func (l *lease) read(ask pieceAsk) ([]byte, error) {
	if ask.segment != ofManifest {
		return l.export.ReadAt(make([]byte, 0, ask.n), int(ask.segment), int64(ask.pos), int(ask.n))
	}
	m := l.export.Manifest()
	from := min(ask.pos, uint64(len(m)))
	return m[from:min(from+uint64(ask.n), uint64(len(m)))], nil
}

// expire ends a lease that was not used for so long; one that was has a timer again.
func (g *Giver) expire(l *lease) {
	l.mu.Lock()
	idle := l.export != nil && time.Since(l.used) >= leaseIdleMax
	l.mu.Unlock()
	if idle {
		g.o.Log.Info("lease has expired", "shard", uint64(l.shard), "node", int32(l.to))
		g.drop(l)
	}
}

func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.export != nil {
		l.timer.Stop()
		l.export.Release()
		l.export = nil
	}
}
