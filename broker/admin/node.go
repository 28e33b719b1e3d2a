package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
)

// answer is what huma writes: a body, and a status other than 200 when set.
type answer[T any] struct {
	Status int
	Body   T
}

func ok[T any](body T, err error) (*answer[T], error) {
	if err != nil {
		return nil, problem(err)
	}
	return &answer[T]{Status: http.StatusOK, Body: body}, nil
}

func (s *Server) routeNode() {
	huma.Register(s.api, huma.Operation{
		OperationID: "ready", Method: http.MethodGet, Path: "/v1/status/ready", Tags: []string{"node"},
		Summary: "Whether this broker serves; 503 with the reason until then",
	}, func(context.Context, *struct{}) (*answer[api.Ready], error) {
		r := s.o.Node.Ready()
		status := http.StatusOK
		if !r.Ready {
			status = http.StatusServiceUnavailable
		}
		return &answer[api.Ready]{Status: status, Body: r}, nil
	})
	huma.Register(s.api, huma.Operation{
		OperationID: "get-node", Method: http.MethodGet, Path: "/v1/node", Tags: []string{"node"},
		Summary: "The broker that answers: version, resources, listeners, sidecar",
	}, func(ctx context.Context, _ *struct{}) (*answer[api.Node], error) {
		return ok(s.o.Node.Node(ctx))
	})
}
