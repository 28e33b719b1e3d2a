package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	// quorumEvery is how often the node that leads the controller's group looks whether it
	// is what it should be, and quorumWait bounds what it does about it.
	quorumEvery, quorumWait = time.Second, 10 * time.Second
	// votersWanted are so many of the controller's group, of the nodes that stay: the rest
	// learn. Who has a vote keeps it until the node goes.
	votersWanted, votersWantedLarge = 3, 5
)

// keepQuorum makes the controller's group what the metadata says of nodes: a node that
// joined learns and, where votes are few, is given one; a replica whose disk is gone, or
// whose node was removed, is taken out.
func (s *Server) keepQuorum(ctx context.Context) {
	tick := time.NewTicker(quorumEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l, ok := s.raft.Leader(raft.ControllerShard); !ok || l.Leader != s.n.ID {
			continue
		}
		try, cancel := context.WithTimeout(ctx, quorumWait)
		err := s.mendQuorum(try)
		cancel()
		now := ""
		if err != nil && ctx.Err() == nil {
			now = err.Error()
		}
		if now != "" && now != said {
			s.log.Warn("the controller's group waits", "why", err)
		}
		said = now
	}
}

// mendQuorum does one thing. The members are asked before the metadata, which is then at
// least as new.
func (s *Server) mendQuorum(ctx context.Context) error {
	group, err := s.raft.Members(ctx, raft.ControllerShard)
	if err != nil {
		return err
	}
	m := s.cluster.Metadata()
	for _, n := range m.Nodes {
		if n.State == controller.NodeDecommissioning && !holdsAny(m, n.ID) {
			s.log.Info("node is empty and leaves the cluster", "node", n.ID)
			return s.cluster.RemoveNode(ctx, n.ID)
		}
	}
	a := nextQuorum(m.Nodes, group, s.n.ID)
	if a.do != "" {
		s.log.Info("the controller's group changes", "do", a.do, "replica", a.member)
	}
	switch a.do {
	case doAdd:
		return s.raft.AddLearner(ctx, raft.ControllerShard, a.member, group.Change)
	case doForget:
		return s.takeOut(ctx, group, a.member)
	case doPromote:
		for _, l := range a.after {
			if s.knows(ctx, l) {
				return s.raft.Promote(ctx, raft.ControllerShard, l, group.Change)
			}
		}
		return nil // they come, or come back
	case doRemove:
		return s.removeVoter(ctx, group, a.member)
	case doHandOver:
		for _, v := range group.Voters {
			if v.Node != s.n.ID && s.knows(ctx, v) {
				return s.raft.Transfer(raft.ControllerShard, v.Node)
			}
		}
		return fmt.Errorf("hand over the controller: %w", errTooFewUpToDate)
	}
	return nil
}

// holdsAny tells whether a node holds a partition, or is about to.
func holdsAny(m *cluster.Metadata, node model.NodeID) bool {
	for _, t := range m.Topics() {
		for i := range t.Partitions {
			if slices.Contains(t.Partitions[i].Holders(), node) {
				return true
			}
		}
	}
	return false
}

// nextQuorum says what is to be done, given the nodes and who is in the group. A node has
// one replica there, so what it had goes before what it has; and votes that go are
// made up for first.
func nextQuorum(nodes []cluster.Node, group raft.Members, self model.NodeID) action {
	named, stays, votes := map[raft.Member]bool{}, map[model.NodeID]bool{}, 0
	for i := range nodes {
		n := &nodes[i]
		named[raft.Member{Node: n.ID, Birth: n.Birth}] = true
		stays[n.ID] = n.State != controller.NodeDecommissioning
	}
	for _, l := range group.Learners {
		if !named[l] {
			return action{do: doForget, member: l}
		}
	}
	in := map[model.NodeID]bool{}
	var going *raft.Member
	for i, v := range group.Voters {
		in[v.Node] = true
		_, known := stays[v.Node]
		switch {
		case named[v]:
			if stays[v.Node] {
				votes++
			}
		case known:
			return action{do: doRemove, member: v} // its node is back with another disk
		default:
			going = &group.Voters[i]
		}
	}
	for _, l := range group.Learners {
		in[l.Node] = true
	}
	staying := 0
	for i := range nodes {
		n := &nodes[i]
		if n.Birth > 0 && n.RPC != "" && !in[n.ID] {
			return action{do: doAdd, member: raft.Member{Node: n.ID, Birth: n.Birth}}
		}
		if stays[n.ID] && n.Come() {
			staying++
		}
	}
	learners := slices.DeleteFunc(slices.Clone(group.Learners), func(l raft.Member) bool { return !stays[l.Node] })
	if votes < votersOf(staying) && len(learners) > 0 {
		return action{do: doPromote, after: learners}
	}
	switch {
	case going == nil:
		return action{}
	case going.Node == self:
		return action{do: doHandOver, member: *going}
	}
	return action{do: doRemove, member: *going}
}

// votersOf is how many of so many nodes are to vote.
func votersOf(nodes int) int {
	switch {
	case nodes >= votersWantedLarge:
		return votersWantedLarge
	case nodes >= votersWanted:
		return votersWanted
	}
	return 1
}

// removeVoter takes one out of the controller's group if a majority of those who are left
// has what this node knows.
func (s *Server) removeVoter(ctx context.Context, group raft.Members, gone raft.Member) error {
	up, rest := 0, 0
	for _, v := range group.Voters {
		if v == gone {
			continue
		}
		rest++
		if v.Node == s.n.ID || s.knows(ctx, v) {
			up++
		}
	}
	if up <= rest/2 {
		return fmt.Errorf("remove node %d from the controller's group: %w: %d of %d", gone.Node, errTooFewUpToDate, up, rest)
	}
	return s.takeOut(ctx, group, gone)
}

// takeOut also writes once more, so that what was committed is on the disks of those who
// are left: see mover.settle.
func (s *Server) takeOut(ctx context.Context, group raft.Members, gone raft.Member) error {
	if err := s.raft.RemoveMember(ctx, raft.ControllerShard, gone, group.Change); err != nil {
		return err
	}
	return s.register(ctx, *s.identity.Load())
}

// controllerVoters gives who may lead the controller's group; none if this node does not.
func (s *Server) controllerVoters(ctx context.Context) (nodes []model.NodeID) {
	if l, ok := s.raft.Leader(raft.ControllerShard); !ok || l.Leader != s.n.ID {
		return nil
	}
	group, err := s.raft.Members(ctx, raft.ControllerShard)
	if err != nil {
		s.log.Debug("members of the controller's group not known", "err", err)
	}
	for _, v := range group.Voters {
		nodes = append(nodes, v.Node)
	}
	return nodes
}

// knowsWait bounds the question to one node what it knows.
const knowsWait = 2 * time.Second

// knows tells whether a replica of the controller's group has all that this node had of
// it when it was asked.
func (s *Server) knows(ctx context.Context, of raft.Member) bool {
	ctx, cancel := context.WithTimeout(ctx, knowsWait)
	defer cancel()
	goal := s.cluster.Metadata().Version
	version, err := askApplied(ctx, s.raft, raft.ControllerShard, of)
	if err != nil {
		s.log.Debug("replica of the controller not asked", "node", of.Node, "err", err)
	}
	return err == nil && version >= goal
}

// answerKnown answers raft.MethodApplied of the controller's group: how new the metadata
// is.
func (s *Server) answerKnown(birth model.Birth) ([]byte, error) {
	if have, held := s.raft.Birth(raft.ControllerShard); !held || have != birth {
		return nil, &raft.Refusal{Code: refusedNoReplica, Text: fmt.Sprintf("node %d does not run replica %d of the controller's group", s.n.ID, birth)}
	}
	return binary.LittleEndian.AppendUint64(nil, s.shared.Load().Metadata().Version), nil
}
