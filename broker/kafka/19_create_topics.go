package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopics (key 19), versions 2 to 7, each topic on its own: assignments,
// validate-only, configs (unknown ones are INVALID_CONFIG). Defaults for the
// partition count and the replication factor may be left to the cluster with -1:
// documented from version 4 on, but Kafka takes it in any, and kafkajs sends it
// in version 3. Version 5 tells what was made, 7 its id.

// createTopicsMax bounds one request: each topic's answer has all its settings.
const createTopicsMax = 5000

var (
	errTooManyTopics = fmt.Errorf("one request may create %d topics", createTopicsMax)
	errBoth          = errors.New("give replica assignments or counts, not both")
)

func (s *Server) createTopics(ctx context.Context, _ *request, m *kmsg.CreateTopicsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.CreateTopicsResponse)
	answer.Topics = make([]kmsg.CreateTopicsResponseTopic, len(m.Topics))
	named := map[string]int{}
	for i := range m.Topics {
		named[m.Topics[i].Topic]++
	}
	var asks []cluster.CreateTopic
	var at []int
	for i := range m.Topics {
		t, out := &m.Topics[i], &answer.Topics[i]
		out.Default()
		out.Topic = t.Topic
		ask, err := createAsk(t)
		switch {
		case len(m.Topics) > createTopicsMax:
			err = errTooManyTopics
		case named[t.Topic] > 1:
			err = fmt.Errorf("%w: topic %q", cluster.ErrDuplicate, t.Topic)
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = code(err), text(err)
			continue
		}
		asks, at = append(asks, ask), append(at, i)
	}
	if len(asks) == 0 {
		return answer
	}
	ctx, cancel := adminContext(ctx, m.TimeoutMillis)
	defer cancel()
	results, err := s.o.Cluster.CreateTopics(ctx, asks, m.ValidateOnly)
	for i, at := range at {
		out := &answer.Topics[at]
		if err != nil {
			out.ErrorCode, out.ErrorMessage = codeOfAdmin(err), text(err)
			continue
		}
		s.created(out, m, &results[i])
	}
	return answer
}

func createAsk(t *kmsg.CreateTopicsRequestTopic) (cluster.CreateTopic, error) {
	ask := cluster.CreateTopic{Name: t.Topic, Partitions: t.NumPartitions, Replication: t.ReplicationFactor}
	if len(t.ReplicaAssignment) > 0 {
		if t.NumPartitions != -1 || t.ReplicationFactor != -1 {
			return ask, fmt.Errorf("%w: topic %q", errBoth, t.Topic)
		}
		ask.Assignments = map[int32][]model.NodeID{}
		for _, a := range t.ReplicaAssignment {
			if _, twice := ask.Assignments[a.Partition]; twice {
				return ask, fmt.Errorf("%w: topic %q assigns partition %d twice", cluster.ErrInvalidAssignment, t.Topic, a.Partition)
			}
			ask.Assignments[a.Partition] = nodeIDs(a.Replicas)
		}
	}
	ask.Configs = make(map[string]*string, len(t.Configs))
	for _, c := range t.Configs {
		ask.Configs[c.Name] = c.Value
	}
	return ask, nil
}

func nodeIDs(ids []int32) []model.NodeID {
	out := make([]model.NodeID, len(ids))
	for i, id := range ids {
		out[i] = model.NodeID(id)
	}
	return out
}

// created answers for one topic that the cluster was asked for.
func (s *Server) created(out *kmsg.CreateTopicsResponseTopic, m *kmsg.CreateTopicsRequest, result *cluster.TopicResult) {
	if result.Err != nil {
		out.ErrorCode, out.ErrorMessage = codeOfAdmin(result.Err), text(result.Err)
		return
	}
	t := result.Topic
	if t == nil {
		return
	}
	if !m.ValidateOnly {
		out.TopicID = t.ID
	}
	out.NumPartitions = int32(len(t.Partitions))
	if len(t.Partitions) > 0 {
		out.ReplicationFactor = int16(len(t.Partitions[0].Replicas))
	}
	for _, v := range s.o.Cluster.Metadata().DescribeTopic(t, s.o.Node) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Source, c.IsSensitive = v.Row.Name, int8(v.Source), v.Row.Secret
		if !v.Row.Secret {
			c.Value = kmsg.StringPtr(v.Value)
		}
		out.Configs = append(out.Configs, c)
	}
}
