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
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/raft"
)

// quorumEvery is how often the node that leads the controller's group looks whether it
// is what it should be, and quorumWait bounds what it does about it.
const quorumEvery, quorumWait = time.Second, 10 * time.Second

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
	a := move.NextQuorum(m.Nodes, group, s.n.ID)
	if a.Do != move.DoNothing {
		s.log.Info("the controller's group changes", "do", a.Do, "replica", a.Member)
	}
	switch a.Do {
	case move.DoAdd:
		return s.raft.AddLearner(ctx, raft.ControllerShard, a.Member, group.Change)
	case move.DoForget:
		return s.takeOut(ctx, group, a.Member)
	case move.DoPromote:
		for _, l := range a.After {
			if s.knows(ctx, l) {
				return s.raft.Promote(ctx, raft.ControllerShard, l, group.Change)
			}
		}
		return nil // they come, or come back
	case move.DoRemove:
		return s.removeVoter(ctx, group, a)
	case move.DoHandOver:
		for _, v := range group.Voters {
			if v.Node != s.n.ID && s.knows(ctx, v) {
				return s.raft.Transfer(raft.ControllerShard, v.Node)
			}
		}
		return fmt.Errorf("hand over the controller: %w", move.ErrTooFewUpToDate)
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

// removeVoter takes one out of the controller's group if a majority of those who are left
// has what this node knows.
func (s *Server) removeVoter(ctx context.Context, group raft.Members, a move.Action) error {
	var up []raft.Member
	for _, v := range group.Voters {
		if v.Node == s.n.ID || s.knows(ctx, v) {
			up = append(up, v)
		}
	}
	gone, err := a.FirstOut(group.Voters, up)
	if err != nil {
		return fmt.Errorf("the controller's group: %w", err)
	}
	return s.takeOut(ctx, group, gone)
}

// takeOut also writes once more, so that what was committed is on the disks of those who
// are left: see move.Mover.settle.
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
		return nil, &raft.Refusal{Code: move.RefusedNoReplica, Text: fmt.Sprintf("node %d does not run replica %d of the controller's group", s.n.ID, birth)}
	}
	return binary.LittleEndian.AppendUint64(nil, s.shared.Load().Metadata().Version), nil
}
