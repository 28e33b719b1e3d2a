package client

import (
	"context"
	"net/http"

	"github.com/millrace-io/millrace/broker/admin/api"
)

// Features asks what newer versions bring, and what of it is used.
func (c *Client) Features(ctx context.Context) (f api.Features, err error) {
	return f, c.get(ctx, call{method: http.MethodGet, path: "/v1/features"}, &f)
}

// ActivateFeatures raises the cluster to a level; 0 is the highest that all nodes have.
func (c *Client) ActivateFeatures(ctx context.Context, level int) (f api.Features, err error) {
	k, err := withJSON(http.MethodPost, "/v1/features/activate", api.ActivateFeatures{Level: level})
	if err != nil {
		return f, err
	}
	return f, c.get(ctx, k, &f)
}
