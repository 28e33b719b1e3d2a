package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

type partitionsAsk struct {
	Topic    string `query:"topic" doc:"Only this topic"`
	Internal bool   `query:"internal" doc:"Internal topics too"`
}

type nodeAsk struct {
	ID int32 `path:"id" doc:"The node's id" minimum:"0"`
}

// routeDrain has what empties a node, and what is on its way.
func (s *Server) routeDrain() {
	huma.Register(s.api, huma.Operation{
		OperationID: "decommission-node", Method: http.MethodPost, Path: "/v1/nodes/{id}/decommission", Tags: []string{"cluster"},
		Summary: "Bring a node's replicas elsewhere and give it no more", DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, ask *nodeAsk) (*struct{}, error) {
		return nil, problem(s.o.Cluster.Decommission(ctx, model.NodeID(ask.ID)))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "recommission-node", Method: http.MethodPost, Path: "/v1/nodes/{id}/recommission", Tags: []string{"cluster"},
		Summary: "End a node's decommissioning; what has not left it stays", DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, ask *nodeAsk) (*struct{}, error) {
		return nil, problem(s.o.Cluster.Recommission(ctx, model.NodeID(ask.ID)))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "get-decommission", Method: http.MethodGet, Path: "/v1/nodes/{id}/decommission", Tags: []string{"cluster"},
		Summary: "What a node still holds, why, and what is done next",
	}, func(ctx context.Context, ask *nodeAsk) (*answer[api.Decommission], error) {
		return ok(s.o.Cluster.DecommissionStatus(ctx, model.NodeID(ask.ID)))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "list-moves", Method: http.MethodGet, Path: "/v1/cluster/moves", Tags: []string{"cluster"},
		Summary: "The partitions that are on their way to other nodes, and why they are not there yet",
	}, func(ctx context.Context, _ *struct{}) (*answer[[]api.Move], error) {
		return ok(s.o.Cluster.Moves(ctx))
	})
}

func (s *Server) routeCluster() {
	huma.Register(s.api, huma.Operation{
		OperationID: "get-cluster", Method: http.MethodGet, Path: "/v1/cluster/info", Tags: []string{"cluster"},
		Summary: "The cluster in one page",
	}, func(ctx context.Context, _ *struct{}) (*answer[api.ClusterInfo], error) {
		return ok(s.o.Cluster.Info(ctx))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "get-health", Method: http.MethodGet, Path: "/v1/cluster/health", Tags: []string{"cluster"},
		Summary: "Whether everything is served, and what is not",
	}, func(ctx context.Context, _ *struct{}) (*answer[api.Health], error) {
		return ok(s.o.Cluster.Health(ctx))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "list-partitions", Method: http.MethodGet, Path: "/v1/partitions", Tags: []string{"cluster"},
		Summary: "Leaders, offsets and sizes of partitions",
	}, func(ctx context.Context, ask *partitionsAsk) (*answer[[]api.PartitionInfo], error) {
		return ok(s.o.Cluster.Partitions(ctx, ask.Topic, ask.Internal))
	})
}
