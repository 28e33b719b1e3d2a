package client

import (
	"context"
	"net/http"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

// SetMaintenance has a node lead nothing, or ends that.
func (c *Client) SetMaintenance(ctx context.Context, node model.NodeID, on bool) error {
	method := http.MethodDelete
	if on {
		method = http.MethodPut
	}
	return c.get(ctx, call{method: method, path: nodePath(node, "/maintenance")}, nil)
}

// Maintenance asks how far it is.
func (c *Client) Maintenance(ctx context.Context, node model.NodeID) (m api.Maintenance, err error) {
	return m, c.get(ctx, call{method: http.MethodGet, path: nodePath(node, "/maintenance")}, &m)
}
