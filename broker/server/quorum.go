package server

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/raft"
)

func (s *Server) newKeeper() *move.Keeper {
	return move.NewKeeper(move.KeeperOptions{
		Node: s.n.ID, Cluster: s.cluster, Raft: s.raft, Applied: s.askApplied, Log: s.log,
		Settle: func(ctx context.Context) error { return s.register(ctx, *s.identity.Load()) },
	})
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

// answerKnown answers raft.MethodApplied of the controller's group: how new the metadata
// is.
func (s *Server) answerKnown(birth model.Birth) ([]byte, error) {
	if have, held := s.raft.Birth(raft.ControllerShard); !held || have != birth {
		return nil, &raft.Refusal{Code: move.RefusedNoReplica, Text: fmt.Sprintf("node %d does not run replica %d of the controller's group", s.n.ID, birth)}
	}
	return binary.LittleEndian.AppendUint64(nil, s.shared.Load().Metadata().Version), nil
}
