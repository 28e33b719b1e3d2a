package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

// routeMaintenance has what keeps a node from leading.
func (s *Server) routeMaintenance() {
	const path = "/v1/nodes/{id}/maintenance"
	set := func(id, method, summary string, on bool) {
		huma.Register(s.api, huma.Operation{
			OperationID: id, Method: method, Path: path, Tags: []string{"cluster"}, Summary: summary, DefaultStatus: http.StatusNoContent,
		}, func(ctx context.Context, ask *nodeAsk) (*struct{}, error) {
			return nil, problem(s.o.Cluster.SetMaintenance(ctx, model.NodeID(ask.ID), on))
		})
	}
	set("enable-maintenance", http.MethodPut, "Have a node give away all that it leads; one node at a time", true)
	set("disable-maintenance", http.MethodDelete, "Let a node lead again", false)
	huma.Register(s.api, huma.Operation{
		OperationID: "get-maintenance", Method: http.MethodGet, Path: path, Tags: []string{"cluster"},
		Summary: "What a node leads and, in maintenance, why still",
	}, func(ctx context.Context, ask *nodeAsk) (*answer[api.Maintenance], error) {
		return ok(s.o.Cluster.Maintenance(ctx, model.NodeID(ask.ID)))
	})
}
