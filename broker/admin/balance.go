package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
)

// Balancer shows and steers the cluster's own balance.
type Balancer interface {
	Balance(ctx context.Context) (api.Balance, error)
	// PauseBalance pauses it, or has it go on. What is under way is not taken back.
	PauseBalance(ctx context.Context, paused bool) error
}

func (s *Server) routeBalance() {
	huma.Register(s.api, huma.Operation{
		OperationID: "get-balance", Method: http.MethodGet, Path: "/v1/cluster/balance", Tags: []string{"cluster"},
		Summary: "What is moved for the sake of balance, what would be next, and why",
	}, func(ctx context.Context, _ *struct{}) (*answer[api.Balance], error) {
		return ok(s.o.Cluster.Balance(ctx))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "pause-balance", Method: http.MethodPost, Path: "/v1/cluster/balance/pause", Tags: []string{"cluster"},
		Summary: "Begin no more moves; those under way go on", DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		return nil, problem(s.o.Cluster.PauseBalance(ctx, true))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "resume-balance", Method: http.MethodPost, Path: "/v1/cluster/balance/resume", Tags: []string{"cluster"},
		Summary: "Have the cluster balance on its own again", DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		return nil, problem(s.o.Cluster.PauseBalance(ctx, false))
	})
}
