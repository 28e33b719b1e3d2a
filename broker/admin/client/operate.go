package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

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

// StartSelfTest has nodes measure disk and network.
func (c *Client) StartSelfTest(ctx context.Context, ask api.SelfTestAsk) (t api.SelfTest, err error) {
	k, err := withJSON(http.MethodPost, "/v1/self-test/start", ask)
	if err != nil {
		return t, err
	}
	return t, c.get(ctx, k, &t)
}

// SelfTest asks how it stands.
func (c *Client) SelfTest(ctx context.Context) (t api.SelfTest, err error) {
	return t, c.get(ctx, call{method: http.MethodGet, path: "/v1/self-test/status"}, &t)
}

// StopSelfTest ends it on every node.
func (c *Client) StopSelfTest(ctx context.Context) (t api.SelfTest, err error) {
	return t, c.get(ctx, call{method: http.MethodPost, path: "/v1/self-test/stop"}, &t)
}

// Fetch reads a page of the broker as it is: /metrics, a profile. It ends with ctx.
func (c *Client) Fetch(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
