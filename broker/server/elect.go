package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// election asks the node that leads a partition to have another lead it, as
// raft.MethodElect carries it.
type election struct {
	Partition model.PartitionID `json:"partition"`
	To        model.NodeID      `json:"to"`
}

// electCheck is how often it is looked whether an election has come to its end.
const electCheck = 10 * time.Millisecond

// elect has a node lead a partition, whoever leads it now, and returns when it does. It
// asks again while ctx lasts.
func (s *Server) elect(ctx context.Context, id model.PartitionID, to model.NodeID) error {
	tick := time.NewTicker(electCheck)
	defer tick.Stop()
	var asked time.Time
	var refused error
	for {
		leader, _ := s.cluster.Leader(id)
		if leader == to {
			return nil
		}
		if leader != model.NoNode && time.Since(asked) >= handOverAgain {
			asked = time.Now()
			refused = s.askToElect(ctx, leader, election{id, to})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("node %d does not lead %s yet: %w", to, id, ctx.Err()), refused)
		}
	}
}

func (s *Server) askToElect(ctx context.Context, leader model.NodeID, e election) error {
	if leader == s.n.ID {
		return s.giveTo(e)
	}
	body, err := json.Marshal(e)
	if err == nil {
		_, err = s.raft.Call(ctx, leader, raft.MethodElect, body)
	}
	return err
}

// answerElect answers raft.MethodElect.
func (s *Server) answerElect(body []byte) error {
	var e election
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("read an election: %w", err)
	}
	return s.giveTo(e)
}

// giveTo gives a partition that this node leads to another.
func (s *Server) giveTo(e election) error {
	h, ok := s.cores.Handle(e.Partition)
	if ok {
		_, ok = h.Serving()
	}
	if !ok {
		return fmt.Errorf("node %d does not lead %s", s.n.ID, e.Partition)
	}
	return s.raft.Transfer(h.Shard, e.To)
}
