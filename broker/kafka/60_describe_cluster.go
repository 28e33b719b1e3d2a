package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster (key 60), versions 0 to 2. This is a broker's endpoint; asked
// as a controller's it says so. Nodes that are gone are fenced brokers.

const (
	endpointBrokers     = 1
	endpointControllers = 2
)

var (
	errEndpointMismatch = errors.New("this is a broker endpoint, not a controller's")
	errEndpoint         = errors.New("unknown endpoint type")
)

func (s *Server) describeCluster(_ context.Context, r *request, m *kmsg.DescribeClusterRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.DescribeClusterResponse)
	if m.Version >= 1 && m.EndpointType != endpointBrokers {
		err := fmt.Errorf("%w: %d", errEndpoint, m.EndpointType)
		if m.EndpointType == endpointControllers {
			err = errEndpointMismatch
		}
		answer.ErrorCode, answer.ErrorMessage = code(err), text(err)
		return answer
	}
	snapshot := s.o.Cluster.Metadata()
	answer.EndpointType = endpointBrokers
	answer.ClusterID, answer.ControllerID = snapshot.ClusterID, r.controllerID(snapshot)
	answer.ClusterAuthorizedOperations = operations(m.IncludeClusterAuthorizedOperations, operationsCluster)
	for _, n := range r.seenOf(s.brokers(snapshot, m.IncludeFencedBrokers)) {
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(n.ID), n.Host, n.Port, rack(n.Rack)
		b.IsFenced = s.o.Cluster.Gone(n.ID)
		answer.Brokers = append(answer.Brokers, b)
	}
	return answer
}
