package server

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

const (
	// silenceLook is how often it is noted who says nothing.
	silenceLook = cluster.AnnounceEvery
	// rebalanceEvery is how often a plan is made, and weightsFor how long what nodes say
	// they hold is good for: disks fill slowly, and what moves is known anyway.
	rebalanceEvery, weightsFor = 10 * time.Second, 10 * time.Second
	// rebalancePause is the pause before what follows is begun once something has arrived,
	// and rebalanceShare the part of the time, one in so many, that plans may take.
	rebalancePause, rebalanceShare = 200 * time.Millisecond, 20
	// rebalanceWait bounds the proposal of moves.
	rebalanceWait = 10 * time.Second
)

// rebalancer has the cluster's replicas and preferred leaders moved to where they should
// be. It does so on the node that leads the controller; the others note who is silent, so
// that they know it when they do.
type rebalancer struct {
	node    model.NodeID
	cluster *cluster.Cluster
	ask     func(ctx context.Context, node model.NodeID) (controller.Weight, error)
	log     *slog.Logger
	// more: there was more to do than may be under way; took is how long the last plan did.
	// Owned by run.
	more bool
	took time.Duration
	// mu guards silent and what nodes said last, which is good until then.
	mu     sync.Mutex
	silent map[model.NodeID]time.Duration
	said   map[model.NodeID]controller.Weight
	until  time.Time
}

func newRebalancer(s *Server) *rebalancer {
	return &rebalancer{node: s.n.ID, cluster: s.cluster, ask: s.askWeight, log: s.log, silent: map[model.NodeID]time.Duration{}}
}

func (b *rebalancer) run(ctx context.Context) {
	changed, cancel := b.cluster.Watch()
	defer cancel()
	look, listen := time.NewTicker(rebalanceEvery), time.NewTicker(silenceLook)
	defer look.Stop()
	defer listen.Stop()
	var soon <-chan time.Time
	var seen occasion
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-listen.C:
			b.listen(now.Sub(last))
			last = now
		case <-changed:
		case <-soon:
			soon = nil
			b.rebalance(ctx)
			continue
		case <-look.C:
			b.rebalance(ctx)
			continue
		}
		now := b.occasion()
		if soon == nil && (b.more || now != seen) {
			soon = time.After(rebalancePause + rebalanceShare*b.took)
		}
		seen = now
	}
}

// occasion is what a plan is made for at once when it changes.
type occasion struct {
	controller  model.NodeID
	nodes, gone int
	configs     uint64
}

func (b *rebalancer) occasion() occasion {
	m := b.cluster.Metadata()
	o := occasion{controller: m.Controller, nodes: len(m.Nodes), configs: m.ConfigRevision}
	for _, silent := range b.silence() {
		if silent >= m.Cluster.Balance.GoneAfter {
			o.gone++
		}
	}
	return o
}

// listen notes who has said nothing for that much longer. Time in which this node itself
// stood still does not count: it would take all others for gone.
func (b *rebalancer) listen(elapsed time.Duration) {
	m := b.cluster.Metadata()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range m.Nodes {
		id := m.Nodes[i].ID
		if b.cluster.Alive(id) {
			delete(b.silent, id)
		} else {
			b.silent[id] += min(elapsed, 2*silenceLook)
		}
	}
	maps.DeleteFunc(b.silent, func(id model.NodeID, _ time.Duration) bool { _, known := m.Node(id); return !known })
}

// rebalance begins as much of the plan as may be under way.
func (b *rebalancer) rebalance(ctx context.Context) {
	m := b.cluster.Metadata()
	b.more = false
	if m.Controller != b.node || m.Cluster.Balance.Paused || len(m.Nodes) < 2 || m.Level < controller.LevelSecond {
		return
	}
	all := underWay(m)
	own := 0
	for _, t := range all {
		if t.partition.Move.Balance != "" {
			own++
		}
	}
	if b.more = own >= m.Cluster.Balance.MovesMax; b.more {
		return
	}
	began := time.Now()
	plan, _ := b.plan(ctx, m)
	b.took = time.Since(began)
	now := nextMoves(plan.Moves, m.Cluster.Balance.MovesMax, own, len(all))
	b.more = len(now) < len(plan.Moves)
	if len(now) > 0 && ctx.Err() == nil {
		b.begin(ctx, now)
	}
}

// nextMoves gives those that are to begin when so many of balance's own, and in all, are
// under way: what is urgent waits for no others than these.
func nextMoves(moves []controller.BalanceMove, movesMax, own, all int) []controller.BalanceMove {
	urgent := slices.IndexFunc(moves, func(m controller.BalanceMove) bool { return !m.Urgent })
	if urgent < 0 {
		urgent = len(moves)
	}
	if urgent > 0 {
		return within(moves[:urgent], movesMax-own, own == 0)
	}
	return within(moves, movesMax-all, all == 0)
}

// begin proposes moves.
func (b *rebalancer) begin(ctx context.Context, moves []controller.BalanceMove) {
	ctx, cancel := context.WithTimeout(ctx, rebalanceWait)
	defer cancel()
	var asks []cluster.Reassignment
	for _, m := range moves {
		asks = append(asks, cluster.Reassignment{Partition: m.Partition, Replicas: m.To, From: m.From, Balance: m.Why})
	}
	outcomes, err := b.cluster.Reassign(ctx, asks)
	if err != nil {
		b.log.Warn("moves for balance not proposed", "partitions", len(asks), "err", err)
		return
	}
	for i, m := range moves {
		switch err := outcomes[i]; {
		case err == nil:
			b.log.Info("partition is moved for balance", "topic", m.Topic, "partition", m.Partition.Index, "from", m.From, "to", m.To, "bytes", m.Bytes, "why", m.Why)
		case !errors.Is(err, cluster.ErrConflict) && !errors.Is(err, cluster.ErrUnknownTopic):
			b.log.Warn("partition not moved for balance", "topic", m.Topic, "partition", m.Partition.Index, "err", err)
		}
	}
}

// within gives as many whole units as n partitions are; alone, one that is larger too.
func within(moves []controller.BalanceMove, n int, alone bool) []controller.BalanceMove {
	whole := 0
	for i := range moves {
		ends := i+1 == len(moves) || moves[i+1].Unit != moves[i].Unit
		if ends && (i < n || alone && whole == 0) {
			whole = i + 1
		}
	}
	return moves[:whole]
}

// underWay gives the partitions that move, whoever asked for it.
func underWay(m *cluster.Metadata) (all []traveller) {
	for _, t := range m.Topics() {
		for i := range t.Partitions {
			if p := &t.Partitions[i]; p.Move != nil {
				all = append(all, traveller{t, p})
			}
		}
	}
	return all
}

// traveller is a partition that moves.
type traveller struct {
	topic     *cluster.Topic
	partition *cluster.Partition
}

// plan gives what would put the cluster in balance, and what it was made of.
func (b *rebalancer) plan(ctx context.Context, m *cluster.Metadata) (controller.Plan, controller.Weights) {
	limits := m.Cluster.Balance
	w := controller.Weights{
		Down: map[model.NodeID]bool{}, Gone: map[model.NodeID]bool{}, GoneAfter: limits.GoneAfter, DiskPercent: limits.DiskPercent,
		Internal: int(m.Cluster.OffsetsReplication),
	}
	silent := b.silence()
	for i := range m.Nodes {
		id := m.Nodes[i].ID
		if b.cluster.Alive(id) {
			continue
		}
		w.Down[id] = true
		if silent[id] >= limits.GoneAfter {
			w.Gone[id] = true
		}
	}
	w.Nodes = b.weights(ctx, m, time.Now())
	for id := range w.Down {
		delete(w.Nodes, id)
	}
	return m.Plan(w), w
}

// silence tells who has said nothing, and for how long.
func (b *rebalancer) silence() map[model.NodeID]time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.silent)
}
