package server

import (
	"context"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	// balanceEvery is how often a node gives what it leads to whom it was meant for,
	// and balanceAtOnce how many partitions each time: their producers wait a moment.
	balanceEvery, balanceAtOnce = 2 * time.Second, 16
	// steadyFor is how long a node must have been back.
	steadyFor = 10 * time.Second
	// transferAgain is the pause before a partition is tried again whose transfer failed.
	transferAgain = time.Minute
)

// balance gives partitions back to the replica that is preferred to lead them, the
// first, once it has been back for a while.
func (s *Server) balance(ctx context.Context) {
	tick := time.NewTicker(balanceEvery)
	defer tick.Stop()
	tried := map[model.PartitionID]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			moved := 0
			for id, at := range tried {
				if now.Sub(at) >= transferAgain {
					delete(tried, id)
				}
			}
			s.ledHere(func(h *core.Handle, p cluster.Partition) bool {
				preferred := p.Replicas[0]
				if _, failed := tried[h.ID]; failed || preferred == s.n.ID || !s.cluster.Steady(preferred, steadyFor) {
					return true
				}
				tried[h.ID] = now
				s.log.Debug("leadership is given back", "topic", h.Topic, "partition", h.ID.Index, "to", preferred)
				if err := s.raft.Transfer(h.Shard, preferred); err != nil {
					s.log.Debug("leadership not given back", "topic", h.Topic, "partition", h.ID.Index, "err", err)
				}
				moved++
				return moved < balanceAtOnce
			})
		}
	}
}

// ledHere calls f for the partitions that this node serves, until it returns false.
func (s *Server) ledHere(f func(*core.Handle, cluster.Partition) bool) {
	m := s.cluster.Metadata()
	s.cores.Handles(func(h *core.Handle) bool {
		p, ok := m.Partition(h.ID)
		if _, serving := h.Serving(); !ok || !serving {
			return true
		}
		return f(h, p)
	})
}

const (
	// handOverMax bounds how long a stop waits for others to lead what it led.
	handOverMax   = 5 * time.Second
	handOverCheck = 20 * time.Millisecond
	// handOverAgain is the pause before the next replica is tried.
	handOverAgain = 2 * time.Second
)

// handOver gives away what this node leads, so that producers wait for no election
// when it has stopped.
func (s *Server) handOver(ctx context.Context) {
	if s.cluster == nil || len(s.cluster.Metadata().Nodes) <= 1 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverMax)
	defer cancel()
	s.cluster.Leave()
	s.tellLeaders()
	voters := s.controllerVoters(ctx)
	tries := map[model.ShardID]try{}
	tick := time.NewTicker(handOverCheck)
	defer tick.Stop()
	for {
		now, waiting := time.Now(), 0
		give := func(shard model.ShardID, replicas []model.NodeID) {
			t := tries[shard]
			others := s.takers(replicas)
			if len(others) == 0 {
				return
			}
			waiting++
			if now.Sub(t.at) < handOverAgain {
				return
			}
			if err := s.raft.Transfer(shard, others[t.n%len(others)]); err != nil {
				s.log.Debug("leadership not given away", "shard", shard, "err", err)
			}
			tries[shard] = try{n: t.n + 1, at: now}
		}
		s.ledHere(func(h *core.Handle, p cluster.Partition) bool {
			give(h.Shard, p.Replicas)
			return true
		})
		if c, ok := s.raft.Leader(raft.ControllerShard); ok && c.Leader == s.n.ID {
			give(raft.ControllerShard, voters)
		}
		if waiting == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.log.Warn("stopping as the leader of partitions that nobody has taken over", "partitions", waiting)
			return
		}
	}
}

// try is how often a shard was to be handed over, and when last.
type try struct {
	n  int
	at time.Time
}

// takers are the other nodes of replicas that are alive and take leadership.
func (s *Server) takers(replicas []model.NodeID) (nodes []model.NodeID) {
	for _, n := range replicas {
		if n != s.n.ID && s.cluster.Steady(n, 0) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
