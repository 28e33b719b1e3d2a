package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

// Ready asks whether the broker serves.
func (c *Client) Ready(ctx context.Context) (r api.Ready, err error) {
	return r, c.get(ctx, call{method: http.MethodGet, path: "/v1/status/ready"}, &r)
}

// Node asks the broker about itself.
func (c *Client) Node(ctx context.Context) (n api.Node, err error) {
	return n, c.get(ctx, call{method: http.MethodGet, path: "/v1/node"}, &n)
}

// ClusterInfo asks for the cluster in one page.
func (c *Client) ClusterInfo(ctx context.Context) (i api.ClusterInfo, err error) {
	return i, c.get(ctx, call{method: http.MethodGet, path: "/v1/cluster/info"}, &i)
}

// Health asks whether everything is served.
func (c *Client) Health(ctx context.Context) (h api.Health, err error) {
	return h, c.get(ctx, call{method: http.MethodGet, path: "/v1/cluster/health"}, &h)
}

// Partitions lists partitions of one topic, or of all when topic is empty.
func (c *Client) Partitions(ctx context.Context, topic string, internal bool) (p []api.PartitionInfo, err error) {
	q := url.Values{}
	if topic != "" {
		q.Set("topic", topic)
	}
	if internal {
		q.Set("internal", "true")
	}
	return p, c.get(ctx, call{method: http.MethodGet, path: "/v1/partitions", query: q}, &p)
}

func nodePath(node model.NodeID, verb string) string {
	return "/v1/nodes/" + strconv.Itoa(int(node)) + verb
}

// Decommission has a node's replicas brought elsewhere.
func (c *Client) Decommission(ctx context.Context, node model.NodeID) error {
	return c.get(ctx, call{method: http.MethodPost, path: nodePath(node, "/decommission")}, nil)
}

// Recommission ends that.
func (c *Client) Recommission(ctx context.Context, node model.NodeID) error {
	return c.get(ctx, call{method: http.MethodPost, path: nodePath(node, "/recommission")}, nil)
}

// DecommissionStatus asks how far it is.
func (c *Client) DecommissionStatus(ctx context.Context, node model.NodeID) (d api.Decommission, err error) {
	return d, c.get(ctx, call{method: http.MethodGet, path: nodePath(node, "/decommission")}, &d)
}

// Moves lists the partitions that are on their way to other nodes.
func (c *Client) Moves(ctx context.Context) (m []api.Move, err error) {
	return m, c.get(ctx, call{method: http.MethodGet, path: "/v1/cluster/moves"}, &m)
}

// Config lists every cluster setting.
func (c *Client) Config(ctx context.Context) (v []api.ConfigValue, err error) {
	return v, c.get(ctx, call{method: http.MethodGet, path: "/v1/cluster/config"}, &v)
}

// ConfigSchema describes every cluster setting.
func (c *Client) ConfigSchema(ctx context.Context) (r []api.ConfigRow, err error) {
	return r, c.get(ctx, call{method: http.MethodGet, path: "/v1/cluster/config/schema"}, &r)
}

// ConfigStatus says how far each node is.
func (c *Client) ConfigStatus(ctx context.Context) (s []api.ConfigStatus, err error) {
	return s, c.get(ctx, call{method: http.MethodGet, path: "/v1/cluster/config/status"}, &s)
}

// ChangeConfig sets and removes overrides, all or none.
func (c *Client) ChangeConfig(ctx context.Context, change api.ConfigChange) (r api.ConfigChanged, err error) {
	k, err := withJSON(http.MethodPut, "/v1/cluster/config", change)
	if err != nil {
		return r, err
	}
	return r, c.get(ctx, k, &r)
}

func scriptPath(name, verb string) string {
	return "/v1/scripts/" + url.PathEscape(name) + verb
}

// Deploy uploads and deploys a script.
func (c *Client) Deploy(ctx context.Context, ask api.DeployAsk) (a api.DeployAnswer, err error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, p := range []struct {
		name, file string
		content    []byte
	}{{"manifest", "transform.yaml", ask.Manifest}, {"module", "module.wasm", ask.Module}} {
		w, err := form.CreateFormFile(p.name, p.file)
		if err == nil {
			_, err = w.Write(p.content)
		}
		if err != nil {
			return a, fmt.Errorf("build the upload: %w", err)
		}
	}
	if err := form.Close(); err != nil {
		return a, fmt.Errorf("build the upload: %w", err)
	}
	q := url.Values{}
	if ask.Start != "" {
		q.Set("start", ask.Start)
	}
	if ask.AllowMissing {
		q.Set("allow_missing", "true")
	}
	if ask.Wait {
		q.Set("wait", "true")
	}
	return a, c.get(ctx, call{
		method: http.MethodPut, path: scriptPath(ask.Name, ""), query: q,
		body: body.Bytes(), contentType: form.FormDataContentType(),
	}, &a)
}

// Scripts lists what is deployed and what runs of it.
func (c *Client) Scripts(ctx context.Context) (s []api.ScriptStatus, err error) {
	return s, c.get(ctx, call{method: http.MethodGet, path: "/v1/scripts"}, &s)
}

// Script describes one script.
func (c *Client) Script(ctx context.Context, name string) (s api.ScriptStatus, err error) {
	return s, c.get(ctx, call{method: http.MethodGet, path: scriptPath(name, "")}, &s)
}

// Remove removes a script; it returns when its children have taken that.
func (c *Client) Remove(ctx context.Context, name string) error {
	return c.get(ctx, call{method: http.MethodDelete, path: scriptPath(name, "")}, nil)
}

// Pause stops a script from taking records.
func (c *Client) Pause(ctx context.Context, name string) error {
	return c.get(ctx, call{method: http.MethodPost, path: scriptPath(name, "/pause")}, nil)
}

// Resume lets a script go on.
func (c *Client) Resume(ctx context.Context, name string) error {
	return c.get(ctx, call{method: http.MethodPost, path: scriptPath(name, "/resume")}, nil)
}

// Seek moves a script.
func (c *Client) Seek(ctx context.Context, ask api.SeekAsk) (a api.SeekAnswer, err error) {
	k, err := withJSON(http.MethodPost, scriptPath(ask.Name, "/seek"), ask)
	if err != nil {
		return a, err
	}
	return a, c.get(ctx, k, &a)
}

// Logs calls emit for each line until there is no more, ctx ends, or emit
// returns an error.
func (c *Client) Logs(ctx context.Context, ask api.LogsAsk, emit func(api.LogLine) error) error {
	q := url.Values{"tail": {strconv.Itoa(ask.Tail)}}
	if !ask.Since.IsZero() {
		q.Set("since", ask.Since.UTC().Format(time.RFC3339Nano))
	}
	if ask.Follow {
		q.Set("follow", "true")
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: scriptPath(ask.Name, "/logs"), query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var l api.LogLine
		if err := lines.Decode(&l); err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read the logs of %s: %w", ask.Name, err)
		}
		if err := emit(l); err != nil {
			return err
		}
	}
}
