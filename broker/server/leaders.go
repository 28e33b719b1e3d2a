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
	// giveEvery how often what it should not lead to others, and balanceAtOnce how many
	// partitions each time: their producers wait a moment.
	balanceEvery, giveEvery, balanceAtOnce = 2 * time.Second, 200 * time.Millisecond, 16
	// steadyFor is how long a node must have been back, and fit.
	steadyFor = 10 * time.Second
	// transferAgain is the pause before a partition is given back once more, handOverAgain
	// before what is to go is given to the next replica.
	transferAgain, handOverAgain = time.Minute, 2 * time.Second
)

// balance gives partitions back to the replica that is preferred to lead them, the first,
// once it has been back for a while. While this node itself should not lead, or not what
// has scripts, it gives that to others.
func (s *Server) balance(ctx context.Context) {
	tick := time.NewTicker(giveEvery)
	defer tick.Stop()
	b := balancer{s: s, tries: map[model.ShardID]try{}}
	var back time.Time // when partitions were given back the last time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			due := now.Sub(back) >= balanceEvery
			if due {
				back = now
			}
			if due || s.cluster.Unfit(s.n.ID) != 0 || s.cluster.Metadata().InMaintenance(s.n.ID) {
				b.turn(now, due)
			}
		}
	}
}

// balancer belongs to balance.
type balancer struct {
	s     *Server
	tries map[model.ShardID]try
}

// try is how often a shard was to be given away, and when last.
type try struct {
	n  int
	at time.Time
}

// turn gives away some of what is to go and, if back is set, of what others are
// preferred for.
func (b *balancer) turn(now time.Time, back bool) {
	for shard, t := range b.tries {
		if now.Sub(t.at) >= transferAgain {
			delete(b.tries, shard)
		}
	}
	s, moved := b.s, 0
	scripted := s.cluster.Metadata().Scripted()
	s.ledHere(func(h *core.Handle, p cluster.Partition) bool {
		if heirs := s.heirs(p.Replicas, scripted[h.Topic]); len(heirs) > 0 {
			moved += b.give(now, h.Shard, heirs, handOverAgain)
		} else if back && s.isMeantFor(p.Replicas[0], scripted[h.Topic]) {
			moved += b.give(now, h.Shard, p.Replicas[:1], transferAgain)
		}
		return moved < balanceAtOnce
	})
	if s.cluster.MayLead(s.n.ID, false, 0) {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, votersWait)
	defer cancel()
	if heirs := s.heirs(s.controllerVoters(ctx), false); len(heirs) > 0 {
		b.give(now, raft.ControllerShard, heirs, handOverAgain)
	}
}

// give has one of others lead a shard, another one each time; 0: it was tried less than
// again ago.
func (b *balancer) give(now time.Time, shard model.ShardID, others []model.NodeID, again time.Duration) int {
	t := b.tries[shard]
	if now.Sub(t.at) < again {
		return 0
	}
	to := others[(int(shard)+t.n)%len(others)] // not all to the same
	b.tries[shard] = try{n: t.n + 1, at: now}
	b.s.log.Debug("leadership is given", "shard", shard, "to", to)
	if err := b.s.raft.Transfer(shard, to); err != nil {
		b.s.log.Debug("leadership not given", "shard", shard, "to", to, "err", err)
	}
	return 1
}

// isMeantFor tells whether what this node leads is to be given to preferred.
func (s *Server) isMeantFor(preferred model.NodeID, scripts bool) bool {
	return preferred != s.n.ID && s.cluster.MayLead(preferred, scripts, steadyFor)
}

// heirs are the nodes that may take from this one what it should not lead: none if it
// may. What it should not lead at all goes to one that runs no scripts rather than stay.
func (s *Server) heirs(replicas []model.NodeID, scripts bool) []model.NodeID {
	if s.cluster.MayLead(s.n.ID, scripts, 0) {
		return nil
	}
	heirs := s.fit(replicas, scripts, steadyFor)
	if len(heirs) == 0 && scripts && !s.cluster.MayLead(s.n.ID, false, 0) {
		heirs = s.fit(replicas, false, steadyFor)
	}
	return heirs
}

// fit are the other nodes of replicas that may lead, and could for so long.
func (s *Server) fit(replicas []model.NodeID, scripts bool, since time.Duration) (nodes []model.NodeID) {
	for _, n := range replicas {
		if n != s.n.ID && s.cluster.MayLead(n, scripts, since) {
			nodes = append(nodes, n)
		}
	}
	return nodes
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
	b := balancer{s: s, tries: map[model.ShardID]try{}}
	tick := time.NewTicker(handOverCheck)
	defer tick.Stop()
	for {
		now, waiting := time.Now(), 0
		scripted := s.cluster.Metadata().Scripted()
		give := func(shard model.ShardID, others []model.NodeID) {
			if len(others) > 0 {
				waiting++
				b.give(now, shard, others, handOverAgain)
			}
		}
		s.ledHere(func(h *core.Handle, p cluster.Partition) bool {
			give(h.Shard, s.takers(p.Replicas, scripted[h.Topic]))
			return true
		})
		if c, ok := s.raft.Leader(raft.ControllerShard); ok && c.Leader == s.n.ID {
			give(raft.ControllerShard, s.takers(voters, false))
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

// takers are the other nodes of replicas that are alive and take leadership: the fit
// ones, or where there is none all, since this node is about to be gone.
func (s *Server) takers(replicas []model.NodeID, scripts bool) (nodes []model.NodeID) {
	for _, wanted := range []bool{scripts, false} {
		if nodes = s.fit(replicas, wanted, 0); len(nodes) > 0 {
			return nodes
		}
	}
	for _, n := range replicas {
		if n != s.n.ID && s.cluster.Steady(n, 0) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
