package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
)

type partitionsAsk struct {
	Topic    string `query:"topic" doc:"Only this topic"`
	Internal bool   `query:"internal" doc:"Internal topics too"`
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
