package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments (key 45), versions 0 and 1, each partition on its own; no
// replicas cancel what is under way. It answers when the moves are known to the cluster,
// not when they are done. Where a partition is already, or is on its way to, is no error.

func (s *Server) alterPartitionReassignments(ctx context.Context, _ *request, m *kmsg.AlterPartitionAssignmentsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	answer.AllowReplicationFactorChange = m.AllowReplicationFactorChange
	ctx, cancel := adminContext(ctx, m.TimeoutMillis)
	defer cancel()
	var asks []cluster.Reassignment
	var at [][2]int // place in the answer of each of asks
	named := map[[2]string]bool{}
	for i := range m.Topics {
		t := &m.Topics[i]
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = t.Topic
		for j := range t.Partitions {
			p := &t.Partitions[j]
			row := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			row.Partition = p.Partition
			ask, err := s.reassignment(t.Topic, p, m.Version < 1 || m.AllowReplicationFactorChange)
			key := [2]string{t.Topic, fmt.Sprint(p.Partition)}
			if named[key] {
				err = fmt.Errorf("%w: partition %d of topic %q", cluster.ErrDuplicate, p.Partition, t.Topic)
			}
			named[key] = true
			if row.ErrorCode, row.ErrorMessage = codeOfAdmin(err), text(err); err == nil {
				asks, at = append(asks, ask), append(at, [2]int{i, j})
			}
			out.Partitions = append(out.Partitions, row)
		}
		answer.Topics = append(answer.Topics, out)
	}
	outcomes, err := s.o.Cluster.Reassign(ctx, asks)
	for k, place := range at {
		e := err
		if e == nil {
			e = outcomes[k]
		}
		if errors.Is(e, cluster.ErrUnchanged) {
			continue
		}
		row := &answer.Topics[place[0]].Partitions[place[1]]
		row.ErrorCode, row.ErrorMessage = codeOfAdmin(e), text(e)
	}
	return answer
}

// reassignment gives what is asked for a partition.
func (s *Server) reassignment(topic string, p *kmsg.AlterPartitionAssignmentsRequestTopicPartition, resize bool) (cluster.Reassignment, error) {
	t, err := s.topic(false, topic, [16]byte{})
	if err != nil {
		return cluster.Reassignment{}, err
	}
	if p.Partition < 0 || int(p.Partition) >= len(t.Partitions) {
		return cluster.Reassignment{}, fmt.Errorf("%w: topic %q has no partition %d", cluster.ErrUnknownPartition, topic, p.Partition)
	}
	ask := cluster.Reassignment{Partition: model.PartitionID{Topic: t.ID, Index: p.Partition}, Cancel: p.Replicas == nil}
	if have := len(t.Partitions[p.Partition].Replicas); !ask.Cancel && !resize && have != len(p.Replicas) {
		return ask, fmt.Errorf("%w: partition %d of topic %q has %d replicas, %d are asked for, and the request allows no other count",
			cluster.ErrInvalidReplication, p.Partition, topic, have, len(p.Replicas))
	}
	ask.Replicas = nodeIDs(p.Replicas)
	return ask, nil
}
