package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/pull"
	"github.com/millrace-io/millrace/broker/raft"
)

// startPulls makes both ends of how a replica that is far behind gets its files.
func (s *Server) startPulls() {
	s.giver = pull.NewGiver(pull.GiverOptions{Log: s.log, Find: func(shard model.ShardID) (pull.Exporter, bool) {
		h, ok := s.cores.HandleByShard(shard)
		return h, ok
	}})
	s.taker = pull.NewTaker(pull.TakerOptions{
		Node: s.n.ID, Caller: pullCaller{s}, Peers: s.holders, BytesPerSecond: s.n.RecoveryRate,
		Throttle: func() int64 { return s.cluster.Metadata().Cluster.FollowerRate }, Space: s.space.Check, Log: s.log,
	})
}

// note is core.Options.Note.
func (s *Server) note(h *core.Handle, applied uint64) []byte {
	return pull.Note(s.n.ID, h.Shard, applied)
}

// recover is core.Options.Recover.
func (s *Server) recover(h *core.Handle, note []byte, stop <-chan struct{}) error {
	err := s.taker.Recover(h, note, stop)
	if err == nil {
		s.damages.forget(h.ID) // the files are others, and were read
	}
	return err
}

// holders are the nodes that the metadata gives a shard's partition to.
func (s *Server) holders(shard model.ShardID) []model.NodeID {
	h, ok := s.cores.HandleByShard(shard)
	if !ok {
		return nil
	}
	p, _ := s.cluster.Metadata().Partition(h.ID)
	return p.Holders()
}

// pullMethods are pull's methods as raft carries them.
var pullMethods = map[pull.Method]raft.Method{
	pull.MethodLease: raft.MethodLease, pull.MethodPiece: raft.MethodPiece, pull.MethodRelease: raft.MethodRelease,
}

type pullCaller struct{ s *Server }

// Call implements pull.Caller.
func (c pullCaller) Call(ctx context.Context, node model.NodeID, m pull.Method, body []byte) ([]byte, error) {
	b, err := c.s.raft.Call(ctx, node, pullMethods[m], body)
	if r := (*raft.Refusal)(nil); errors.As(err, &r) {
		return nil, &pull.Refusal{Code: r.Code, Text: r.Text}
	}
	return b, err
}

// give answers a call of another node's Taker.
func (s *Server) give(ctx context.Context, from model.NodeID, m raft.Method, body []byte) ([]byte, error) {
	for method, carried := range pullMethods {
		if carried != m {
			continue
		}
		b, err := s.giver.Answer(ctx, from, method, body)
		if r := (*pull.Refusal)(nil); errors.As(err, &r) {
			return nil, &raft.Refusal{Code: r.Code, Text: r.Text}
		}
		return b, err
	}
	return nil, fmt.Errorf("method %d is not known to this build", m)
}
