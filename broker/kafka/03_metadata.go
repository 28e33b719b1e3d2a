package kafka

import (
	"context"
	"errors"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Metadata (key 3), versions 0 to 13. No topics named: all of them (version 0
// says so by an empty list, later ones by null). Topics that are missing are
// created if the client allows it and auto.create.topics.enable is on; their
// partitions are LEADER_NOT_AVAILABLE until they have been elected one. Topics
// may be named by id from version 10 on. Nodes that are not there are no brokers of the
// answer, and lead nothing; replicas on them are named. Brokers are told by the address
// that they advertise for the listener that the client came in by.

const keyMetadata int16 = 3

func (s *Server) metadata(ctx context.Context, r *request, m *kmsg.MetadataRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.MetadataResponse)
	if m.Version < 4 || m.AllowAutoTopicCreation {
		s.autoCreate(ctx, m)
	}
	snapshot := s.o.Cluster.Metadata()
	all := m.Topics == nil || m.Version == 0 && len(m.Topics) == 0
	if all {
		answer.Topics = make([]kmsg.MetadataResponseTopic, 0, len(snapshot.Topics()))
		for _, t := range snapshot.Topics() {
			answer.Topics = append(answer.Topics, s.describe(r, m, t))
		}
	} else {
		answer.Topics = make([]kmsg.MetadataResponseTopic, 0, len(m.Topics))
		seen := make(map[fetch.SessionTopic]bool, len(m.Topics)) // naming one twice must not double the answer
		for i := range m.Topics {
			ask := &m.Topics[i]
			name := fetch.SessionTopic{ID: ask.TopicID, Name: orEmpty(ask.Topic)}
			if !seen[name] {
				seen[name] = true
				answer.Topics = append(answer.Topics, s.find(r, m, snapshot, ask))
			}
		}
	}
	for _, n := range r.seenOf(s.brokers(snapshot, false)) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(n.ID), n.Host, n.Port, rack(n.Rack)
		answer.Brokers = append(answer.Brokers, b)
	}
	answer.ClusterID = kmsg.StringPtr(snapshot.ClusterID)
	answer.ControllerID = r.controllerID(snapshot)
	answer.AuthorizedOperations = operations(m.IncludeClusterAuthorizedOperations, operationsCluster)
	r.size = 64 * len(answer.Topics)
	return answer
}

// find answers for one topic that was asked for.
func (s *Server) find(r *request, m *kmsg.MetadataRequest, snapshot *cluster.Metadata, ask *kmsg.MetadataRequestTopic) kmsg.MetadataResponseTopic {
	missing := kmsg.NewMetadataResponseTopic()
	missing.Topic, missing.TopicID = ask.Topic, ask.TopicID
	missing.Partitions = []kmsg.MetadataResponseTopicPartition{}
	missing.AuthorizedOperations = operationsUnknown
	if ask.Topic == nil {
		t, ok := snapshot.TopicByID(ask.TopicID)
		if ok {
			return s.describe(r, m, t)
		}
		missing.ErrorCode = codeUnknownTopicID
		return missing
	}
	if t, ok := snapshot.Topic(*ask.Topic); ok {
		return s.describe(r, m, t)
	}
	missing.ErrorCode = codeUnknownTopicOrPartition
	if err := model.CheckTopicName(*ask.Topic); err != nil {
		missing.ErrorCode = code(err)
	}
	return missing
}

func (s *Server) describe(r *request, m *kmsg.MetadataRequest, t *cluster.Topic) kmsg.MetadataResponseTopic {
	snapshot := s.o.Cluster.Metadata()
	a := kmsg.NewMetadataResponseTopic()
	a.Topic, a.TopicID, a.IsInternal = kmsg.StringPtr(t.Name), t.ID, t.Internal
	a.AuthorizedOperations = operations(m.IncludeTopicAuthorizedOperations, operationsTopic)
	a.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i := range t.Partitions {
		p, out := &t.Partitions[i], &a.Partitions[i]
		w := s.whereabouts(r, snapshot, t, p)
		out.Default()
		out.ErrorCode, out.Partition, out.Leader, out.LeaderEpoch = w.code, p.Index, int32(w.leader), int32(w.epoch)
		out.Replicas, out.ISR, out.OfflineReplicas = w.replicas, w.isr, w.offline
	}
	return a
}

// autoCreate creates what m names and nobody has, as far as the cluster's
// settings let it. What cannot be created is missing in the answer.
func (s *Server) autoCreate(ctx context.Context, m *kmsg.MetadataRequest) {
	snapshot := s.o.Cluster.Metadata()
	if !snapshot.Cluster.AutoCreateTopics {
		return
	}
	var asks []cluster.CreateTopic
	asked := map[string]bool{}
	for i := range m.Topics {
		name := m.Topics[i].Topic
		if name == nil || asked[*name] || cluster.IsInternal(*name) || model.CheckTopicName(*name) != nil {
			continue
		}
		asked[*name] = true
		if _, ok := snapshot.Topic(*name); !ok {
			asks = append(asks, cluster.CreateTopic{Name: *name, Partitions: -1, Replication: -1})
		}
	}
	if len(asks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, autoCreateTimeout)
	defer cancel()
	results, err := s.o.Cluster.CreateTopics(ctx, asks, false)
	if err != nil {
		s.log.Warn("cannot create topics on first use", "topics", len(asks), "err", err)
		return
	}
	for _, r := range results {
		if r.Err != nil && !errors.Is(r.Err, cluster.ErrTopicExists) {
			s.log.Warn("cannot create a topic on first use", "topic", r.Name, "err", r.Err)
		}
	}
}
