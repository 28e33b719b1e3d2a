package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/coordinator"
)

// FindCoordinator (key 10), versions 0 to 6: the node that coordinates a group,
// several groups from version 4 on. The first one makes __consumer_offsets.
// Transactional ids are refused until there are transactions; share groups
// (type 2, from version 6 on) are not served.

// Types of keys.
const (
	coordinatorGroup = 0
	coordinatorTxn   = 1
)

// coordinatorKeysMax bounds the keys of one request: each may wait for a topic.
const coordinatorKeysMax = 10_000

var (
	errNoTransactions  = errors.New("transactions are not supported yet")
	errCoordinatorType = errors.New("unknown type of coordinator")
	errTooManyKeys     = fmt.Errorf("more than %d coordinator keys in one request", coordinatorKeysMax)
)

func (s *Server) findCoordinator(ctx context.Context, r *request, m *kmsg.FindCoordinatorRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.FindCoordinatorResponse)
	if m.Version < 4 {
		c := s.coordinatorOf(ctx, r, m.CoordinatorType, m.CoordinatorKey, nil)
		answer.ErrorCode, answer.ErrorMessage = c.ErrorCode, c.ErrorMessage
		answer.NodeID, answer.Host, answer.Port = c.NodeID, c.Host, c.Port
		return answer
	}
	var err error
	if len(m.CoordinatorKeys) > coordinatorKeysMax {
		err = errTooManyKeys
	}
	answer.Coordinators = make([]kmsg.FindCoordinatorResponseCoordinator, 0, len(m.CoordinatorKeys))
	for _, key := range m.CoordinatorKeys {
		answer.Coordinators = append(answer.Coordinators, s.coordinatorOf(ctx, r, m.CoordinatorType, key, err))
	}
	return answer
}

// coordinatorOf answers for one key, with err if there is one already.
func (s *Server) coordinatorOf(ctx context.Context, r *request, kind int8, key string, err error) kmsg.FindCoordinatorResponseCoordinator {
	c := kmsg.NewFindCoordinatorResponseCoordinator()
	c.Key, c.NodeID, c.Port = key, -1, -1
	switch {
	case err != nil:
		c.ErrorCode = codeInvalidRequest
	case kind == coordinatorTxn:
		c.ErrorCode, err = codeTransactionalIDDenied, errNoTransactions
	case kind != coordinatorGroup:
		c.ErrorCode, err = codeInvalidRequest, fmt.Errorf("%w: %d", errCoordinatorType, kind)
	default:
		err = s.groupCoordinator(ctx, r, &c)
		c.ErrorCode = groupCode(err)
	}
	c.ErrorMessage = text(err)
	return c
}

func (s *Server) groupCoordinator(ctx context.Context, r *request, c *kmsg.FindCoordinatorResponseCoordinator) error {
	id, err := s.o.Groups.Find(ctx, c.Key)
	if err != nil {
		return err
	}
	node, ok := s.o.Cluster.Metadata().Node(id)
	if !ok {
		return fmt.Errorf("%w: node %d is not registered", coordinator.ErrUnavailable, id)
	}
	if node, ok = r.seen(node); !ok {
		return fmt.Errorf("%w: node %d has no listener %q", coordinator.ErrUnavailable, id, r.conn.listener)
	}
	c.NodeID, c.Host, c.Port = int32(node.ID), node.Host, node.Port
	return nil
}
