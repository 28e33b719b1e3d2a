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

type selfTestAsk struct {
	Body api.SelfTestAsk
}

// routeSelfTest has what measures the cluster's machines.
func (s *Server) routeSelfTest() {
	huma.Register(s.api, huma.Operation{
		OperationID: "start-self-test", Method: http.MethodPost, Path: "/v1/self-test/start", Tags: []string{"cluster"},
		Summary: "Measure the nodes' disks and the network between them; clients feel it meanwhile",
	}, func(ctx context.Context, ask *selfTestAsk) (*answer[api.SelfTest], error) {
		return ok(s.o.Operate.StartSelfTest(ctx, ask.Body))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "get-self-test", Method: http.MethodGet, Path: "/v1/self-test/status", Tags: []string{"cluster"},
		Summary: "How the self-test stands, and what was measured",
	}, func(ctx context.Context, _ *struct{}) (*answer[api.SelfTest], error) {
		return ok(s.o.Operate.SelfTest(ctx))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "stop-self-test", Method: http.MethodPost, Path: "/v1/self-test/stop", Tags: []string{"cluster"},
		Summary: "End the self-test on every node",
	}, func(ctx context.Context, _ *struct{}) (*answer[api.SelfTest], error) {
		return ok(s.o.Operate.StopSelfTest(ctx))
	})
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
