package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
)

type configAsk struct {
	Body api.ConfigChange
}

func (s *Server) routeConfig() {
	huma.Register(s.api, huma.Operation{
		OperationID: "get-config", Method: http.MethodGet, Path: "/v1/cluster/config", Tags: []string{"config"},
		Summary: "Every cluster setting as it holds now",
	}, func(ctx context.Context, _ *struct{}) (*answer[[]api.ConfigValue], error) {
		return ok(s.o.Configs.Values(ctx))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "change-config", Method: http.MethodPut, Path: "/v1/cluster/config", Tags: []string{"config"},
		Summary: "Set and remove overrides, all or none",
	}, func(ctx context.Context, ask *configAsk) (*answer[api.ConfigChanged], error) {
		return ok(s.o.Configs.Change(ctx, ask.Body))
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "get-config-schema", Method: http.MethodGet, Path: "/v1/cluster/config/schema", Tags: []string{"config"},
		Summary: "What each cluster setting means, takes and needs",
	}, func(context.Context, *struct{}) (*answer[[]api.ConfigRow], error) {
		return ok(s.o.Configs.Schema(), nil)
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "get-config-status", Method: http.MethodGet, Path: "/v1/cluster/config/status", Tags: []string{"config"},
		Summary: "Which version of the settings each node has, and what it makes of them",
	}, func(ctx context.Context, _ *struct{}) (*answer[[]api.ConfigStatus], error) {
		return ok(s.o.Configs.Status(ctx))
	})
}
