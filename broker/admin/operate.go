package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
)

type featuresAsk struct {
	Body api.ActivateFeatures
}

// routeFeatures has what newer builds bring to the cluster.
func (s *Server) routeFeatures() {
	huma.Register(s.api, huma.Operation{
		OperationID: "get-features", Method: http.MethodGet, Path: "/v1/features", Tags: []string{"cluster"},
		Summary: "What newer versions bring: what of it is used, and which nodes lack it",
	}, func(ctx context.Context, _ *struct{}) (*answer[api.Features], error) {
		return ok(s.o.Operate.Features(ctx))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "activate-features", Method: http.MethodPost, Path: "/v1/features/activate", Tags: []string{"cluster"},
		Summary: "Use what all nodes have; no node can go back to an older version then",
	}, func(ctx context.Context, ask *featuresAsk) (*answer[api.Features], error) {
		return ok(s.o.Operate.ActivateFeatures(ctx, ask.Body.Level))
	})
}
