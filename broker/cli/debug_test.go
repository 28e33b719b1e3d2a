package cli

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/admin/api"
)

// unzipped gives a zip's files by name.
func unzipped(t *testing.T, path string) map[string]string {
	t.Helper()
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		in.Close()
		files[f.Name] = string(b)
	}
	return files
}

// TestDebugBundle: it has what it should, says what it could not have, and nothing that is
// secret, whatever it is told.
func TestDebugBundle(t *testing.T) {
	w := newWorld(t)
	const secret = "hunter2-sentinel"
	t.Setenv("MILLRACE_CLOUD_SECRET", secret)
	w.environ = append(w.environ, "MILLRACE_CLOUD_SECRET="+secret)
	w.admin.secret, w.admin.dataDir = secret, filepath.Join(w.dir, "data")
	w.admin.scripts["leaky"] = &api.ScriptStatus{Name: "leaky", Env: map[string]string{"API_KEY": secret}}
	if err := os.Mkdir(w.admin.dataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.write(t, "data/rpc.key", "-----BEGIN PRIVATE KEY----- "+secret, 0o600)
	path := filepath.Join(w.dir, "b.zip")
	args := []string{"debug", "bundle", "-o", path, "--metrics-interval", "0s", "--cpu-profiler-wait", "0s", "--logs-unit", "millrace-of-no-machine"}
	if out, err := w.run("", args...); err != nil || !strings.Contains(out, "files") {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	files := unzipped(t, path)
	for name, has := range map[string]string{
		"bundle.json": `"written_by": "v1"`, "cluster/info.json": `"fake"`, "cluster/health.json": `"healthy": true`, "cluster/features.json": "feature-levels",
		"cluster/config.json": "num.partitions", "cluster/scripts.json": "API_KEY", "cluster/self-test.json": "disk latency", "kafka/metadata.json": "fake",
		"kafka/broker-configs.json": "[", "nodes/0/node.json": "data", "nodes/0/goroutines.txt": "goroutine ", "nodes/0/heap.pprof": "",
		"machine/proc/meminfo": "MemTotal", "machine/proc/mounts": "/", "machine/sysctl.txt": "vm.swappiness", "machine/data-dir.txt": "rpc.key",
		"errors.txt": "nodes/1: its admin API is off",
	} {
		content, ok := files[name]
		if !ok || !strings.Contains(content, has) {
			t.Errorf("%s has no %q: %.400s", name, has, content)
		}
	}
	for name, content := range files {
		if strings.Contains(content, secret) {
			t.Errorf("%s tells the secret", name)
		}
	}
	if strings.Count(files["cluster/config.json"], "[hidden]") != 2 {
		t.Errorf("settings: %s", files["cluster/config.json"])
	}
	// The broker of the test serves no metrics, and no machine logs that unit.
	for _, missing := range []string{"nodes/0/metrics-1.txt: ", "nodes/0/metrics-2.txt: ", "logs/millrace-of-no-machine.log: "} {
		if !slices.ContainsFunc(strings.Split(files["errors.txt"], "\n"), func(line string) bool { return strings.HasPrefix(line, missing) }) {
			t.Errorf("errors.txt does not say %q:\n%s", missing, files["errors.txt"])
		}
	}
	if out, err := w.run("", args...); err == nil || !strings.Contains(out, "is there already") {
		t.Errorf("it was written over: %v %s", err, out)
	}
}

// TestDebugBundleOfNothing: where nobody answers there is still what the machine says.
func TestDebugBundleOfNothing(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.dir, "b.zip")
	out, err := w.run("", "debug", "bundle", "-o", path, "--metrics-interval", "0s", "--cpu-profiler-wait", "0s", "--logs-unit", "",
		"-X", "admin.hosts=127.0.0.1:1", "-X", "brokers=127.0.0.1:1")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files := unzipped(t, path)
	for _, what := range []string{"cluster/info.json: ", "kafka: ", "nodes: "} {
		if !strings.Contains("\n"+files["errors.txt"], "\n"+what) {
			t.Errorf("no word of %s: %s", what, files["errors.txt"])
		}
	}
	if !strings.Contains(files["machine/proc/cpuinfo"], "processor") {
		t.Errorf("%v", fmt.Sprint(len(files)))
	}
}
