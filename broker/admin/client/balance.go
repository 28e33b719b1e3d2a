package client

import (
	"context"
	"net/http"

	"github.com/millrace-io/millrace/broker/admin/api"
)

// Balance asks what is moved for the sake of balance, and what would be next.
func (c *Client) Balance(ctx context.Context) (b api.Balance, err error) {
	return b, c.get(ctx, call{method: http.MethodGet, path: "/v1/cluster/balance"}, &b)
}

// PauseBalance has the cluster begin no more moves.
func (c *Client) PauseBalance(ctx context.Context) error {
	return c.get(ctx, call{method: http.MethodPost, path: "/v1/cluster/balance/pause"}, nil)
}

// ResumeBalance ends that.
func (c *Client) ResumeBalance(ctx context.Context) error {
	return c.get(ctx, call{method: http.MethodPost, path: "/v1/cluster/balance/resume"}, nil)
}
