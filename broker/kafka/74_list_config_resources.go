package kafka

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources (key 74), versions 0 to 1: what has settings. Version 0
// asks only for client metrics, of which there are none.

func (s *Server) listConfigResources(_ context.Context, _ *request, m *kmsg.ListConfigResourcesRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.ListConfigResourcesResponse)
	answer.ConfigResources = []kmsg.ListConfigResourcesResponseConfigResource{}
	if m.Version == 0 {
		return answer
	}
	topic, broker := int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeBroker)
	known := []int8{
		topic, broker, int8(kmsg.ConfigResourceTypeBrokerLogger),
		int8(kmsg.ConfigResourceTypeClientMetrics), int8(kmsg.ConfigResourceTypeGroupConfig),
	}
	for _, kind := range m.ResourceTypes {
		if !slices.Contains(known, kind) {
			answer.ErrorCode = codeUnsupportedVersion
			return answer
		}
	}
	wanted := func(kind int8) bool { return len(m.ResourceTypes) == 0 || slices.Contains(m.ResourceTypes, kind) }
	add := func(kind int8, name string) {
		r := kmsg.NewListConfigResourcesResponseConfigResource()
		r.Name, r.Type = name, kind
		answer.ConfigResources = append(answer.ConfigResources, r)
	}
	snapshot := s.o.Cluster.Metadata()
	if wanted(topic) {
		for _, t := range snapshot.Topics() {
			add(topic, t.Name)
		}
	}
	if wanted(broker) {
		for _, n := range snapshot.Brokers() {
			add(broker, strconv.Itoa(int(n.ID)))
		}
	}
	return answer
}
