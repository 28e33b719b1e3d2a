package cluster

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/test/node"
)

// operate has three nodes of one build say so, measure their machines, and be looked at.
func operate(t *testing.T, c *node.Cluster) {
	t.Helper()
	await(t, "the level that all nodes have", func() error {
		out, err := c.Nodes[2].CLI("cluster", "features", "list", "--format", "json")
		f := api.Features{}
		if err == nil {
			err = json.Unmarshal([]byte(out), &f)
		}
		if err == nil && (f.Active != f.Build || len(f.Nodes) != 3) {
			err = errorOf(out)
		}
		return err
	})
	measure(t, c)
	path := filepath.Join(t.TempDir(), "b.zip")
	if out, err := c.Nodes[1].CLI("debug", "bundle", "-o", path, "--metrics-interval", "0s", "--cpu-profiler-wait", "0s", "--logs-unit", ""); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range c.Nodes {
		metrics := read(t, &r.Reader, fmt.Sprintf("nodes/%d/metrics-2.txt", i))
		for _, other := range []int{(i + 1) % 3, (i + 2) % 3} {
			if sent := fmt.Sprintf(`millrace_rpc_sent_messages_total{node="%d"}`, other); !strings.Contains(metrics, sent) {
				t.Errorf("node %d has no %s", i, sent)
			}
		}
	}
	for name, has := range map[string]string{
		"cluster/health.json": `"healthy": true`, "kafka/topic-configs.json": topic, "kafka/end-offsets.json": topic, "machine/data-dir.txt": "identity.json",
		"nodes/0/heap.pprof": "", "nodes/2/goroutines.txt": "goroutine",
	} {
		if !strings.Contains(read(t, &r.Reader, name), has) {
			t.Errorf("%s has no %q", name, has)
		}
	}
}

// read gives a file of a zip.
func read(t *testing.T, r *zip.Reader, name string) string {
	t.Helper()
	f, err := r.Open(name)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// measure runs a self-test of a few milliseconds.
func measure(t *testing.T, c *node.Cluster) {
	t.Helper()
	if out, err := c.Nodes[1].CLI("cluster", "self-test", "start", "--no-confirm", "--disk-duration-ms", "20", "--network-duration-ms", "20"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := c.Nodes[0].CLI("cluster", "self-test", "status", "--wait", "--format", "json")
	var test api.SelfTest
	if err == nil {
		err = json.Unmarshal([]byte(out), &test)
	}
	if err != nil || len(test.Nodes) != 3 {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, n := range test.Nodes {
		if want := 3 + 3*(2-i); n.State != "idle" || len(n.Results) != want || n.ID != test.Nodes[0].ID {
			t.Errorf("node %d has %d results of %d: %+v", i, len(n.Results), want, n)
		}
		for _, r := range n.Results {
			if r.Error != "" || r.Requests == 0 || r.P50 <= 0 || r.BytesPerSecond <= 0 {
				t.Errorf("node %d: %+v", i, r)
			}
		}
	}
}
