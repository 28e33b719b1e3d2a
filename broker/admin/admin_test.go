package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
)

var rewrite = flag.Bool("rewrite", false, "write docs/openapi.json anew")

func dial(t *testing.T) (*fake, *client.Client, *httptest.Server) {
	t.Helper()
	f, h, _ := newFake()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := client.New(client.Options{Addrs: []string{srv.Listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	return f, c, srv
}

func TestEveryCallMakesTheRoundTrip(t *testing.T) {
	f, c, _ := dial(t)
	ctx := context.Background()
	if r, err := c.Ready(ctx); err != nil || !r.Ready {
		t.Errorf("ready: %+v, %v", r, err)
	}
	f.ready = api.Ready{Reason: "replaying"}
	if r, err := c.Ready(ctx); err != nil || r.Ready || r.Reason != "replaying" {
		t.Errorf("not ready: %+v, %v", r, err)
	}
	if n, err := c.Node(ctx); err != nil || n.Version != "v1" {
		t.Errorf("node: %+v, %v", n, err)
	}
	if i, err := c.ClusterInfo(ctx); err != nil || i.ID != "c1" || len(i.Nodes) != 1 || !i.Nodes[0].Alive {
		t.Errorf("info: %+v, %v", i, err)
	}
	if h, err := c.Health(ctx); err != nil || !h.Healthy {
		t.Errorf("health: %+v, %v", h, err)
	}
	if p, err := c.Partitions(ctx, "a b", true); err != nil || len(p) != 1 || p[0].Topic != "a b" || !p[0].Internal || p[0].TopicID[0] != 1 {
		t.Errorf("partitions: %+v, %v", p, err)
	}
	if v, err := c.Config(ctx); err != nil || len(v) != 1 || v[0].Value != "7" {
		t.Errorf("config: %+v, %v", v, err)
	}
	if r, err := c.ConfigSchema(ctx); err != nil || len(r) != 1 || r[0].Type != "integer" {
		t.Errorf("schema: %+v, %v", r, err)
	}
	if s, err := c.ConfigStatus(ctx); err != nil || len(s) != 1 || s[0].Version != 3 {
		t.Errorf("status: %+v, %v", s, err)
	}
	if r, err := c.ChangeConfig(ctx, api.ConfigChange{Set: map[string]string{"a": "b"}, Remove: []string{"x"}}); err != nil || r.Version != 3 || f.change.Set["a"] != "b" || f.change.Remove[0] != "x" {
		t.Errorf("change: %+v, %v; asked %+v", r, err, f.change)
	}
	if s, err := c.Scripts(ctx); err != nil || len(s) != 1 || s[0].RecordsIn != 5 {
		t.Errorf("scripts: %+v, %v", s, err)
	}
	if s, err := c.Script(ctx, "scrub"); err != nil || s.Created.Unix() != 7 {
		t.Errorf("script: %+v, %v", s, err)
	}
	part := int32(2)
	if a, err := c.Seek(ctx, api.SeekAsk{Name: "scrub", To: "end", Topic: "t", Partition: &part}); err != nil || a.Activation != 10 || f.seek.To != "end" || *f.seek.Partition != 2 || f.seek.Name != "scrub" {
		t.Errorf("seek: %+v, %v; asked %+v", a, err, f.seek)
	}
	for _, do := range []func(context.Context, string) error{c.Pause, c.Resume, c.Remove} {
		if err := do(ctx, "a/b"); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(f.calls, ","); got != "pause a/b,resume a/b,remove a/b" {
		t.Errorf("steered %q", got)
	}
	f.calls = nil
	if err := errors.Join(c.Decommission(ctx, 3), c.Recommission(ctx, 3)); err != nil || strings.Join(f.calls, ",") != "decommission 3,recommission 3" {
		t.Errorf("%q, %v", f.calls, err)
	}
	if d, err := c.DecommissionStatus(ctx, 3); err != nil || d.Node != 3 || d.State != "decommissioning" || len(d.Partitions) != 1 || d.Partitions[0].Next != "what" {
		t.Errorf("status: %+v, %v", d, err)
	}
	if m, err := c.Moves(ctx); err != nil || len(m) != 1 || m[0].Topic != "t" || m[0].Leader != 2 || m[0].Reason != "why" {
		t.Errorf("moves: %+v, %v", m, err)
	}
	if _, err := c.DecommissionStatus(ctx, 9); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a node that is not there: %v", err)
	}
	f.calls = nil
	if err := errors.Join(c.SetMaintenance(ctx, 3, true), c.SetMaintenance(ctx, 3, false)); err != nil || strings.Join(f.calls, ",") != "maintenance 3 true,maintenance 3 false" {
		t.Errorf("%q, %v", f.calls, err)
	}
	if m, err := c.Maintenance(ctx, 3); err != nil || m.Node != 3 || !m.Enabled || len(m.Partitions) != 1 || !m.Partitions[0].Stays || m.Partitions[0].Reason != "why" {
		t.Errorf("maintenance: %+v, %v", m, err)
	}
	if _, err := c.Maintenance(ctx, 9); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("the maintenance of a node that is not there: %v", err)
	}
}

func TestDeployStreamsBothParts(t *testing.T) {
	f, c, _ := dial(t)
	module := bytes.Repeat([]byte{0, 'a', 's', 'm'}, 1<<18)
	a, err := c.Deploy(context.Background(), api.DeployAsk{
		Name: "scrub", Manifest: []byte("name: other\ninputs: [orders]\n"), Module: module, Start: "+3", AllowMissing: true, Wait: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.Activation != 9 || a.Digest[0] != 0xab || a.Starts[0].Offset != 42 {
		t.Errorf("answer %+v", a)
	}
	if d := f.deploy; d.Name != "scrub" || string(d.Manifest) != "name: other\ninputs: [orders]\n" || !bytes.Equal(d.Module, module) || d.Start != "+3" || !d.AllowMissing || !d.Wait {
		t.Errorf("deployed %q %q %d bytes %q %v %v", d.Name, d.Manifest, len(d.Module), d.Start, d.AllowMissing, d.Wait)
	}
}

func TestDeployRefusesWhatIsTooLargeOrNotAForm(t *testing.T) {
	f, c, srv := dial(t)
	_, err := c.Deploy(context.Background(), api.DeployAsk{Name: "s", Manifest: []byte("inputs: [t]"), Module: make([]byte, api.ModuleBytesMax+1)})
	if !errors.Is(err, api.ErrTooLarge) {
		t.Errorf("a module beyond the limit: %v", err)
	}
	_, err = c.Deploy(context.Background(), api.DeployAsk{Name: "s", Manifest: make([]byte, api.ManifestBytesMax+1), Module: []byte("m")})
	if !errors.Is(err, api.ErrTooLarge) {
		t.Errorf("a manifest beyond the limit: %v", err)
	}
	_, err = c.Deploy(context.Background(), api.DeployAsk{Name: "s", Manifest: []byte("x")})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "module") {
		t.Errorf("no module: %v", err)
	}
	for kind, body := range map[string]string{
		"application/json":                "{}",
		"multipart/form-data":             "x",
		"multipart/form-data; boundary=b": "--b\r\nno header",
	} {
		r, _ := http.NewRequest(http.MethodPut, srv.URL+"/v1/scripts/s", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d", kind, resp.StatusCode)
		}
	}
	if f.deploy.Name != "" {
		t.Errorf("deployed %q", f.deploy.Name)
	}
}

func TestDeploymentsHaveAPlaceEach(t *testing.T) {
	f, c, _ := dial(t)
	f.hold, f.held = make(chan struct{}), make(chan struct{})
	done := make(chan error, deploysMax)
	ask := api.DeployAsk{Name: "s", Manifest: []byte("inputs: [t]"), Module: []byte("m")}
	for range deploysMax {
		go func() {
			_, err := c.Deploy(context.Background(), ask)
			done <- err
		}()
		<-f.held
	}
	if _, err := c.Deploy(context.Background(), ask); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("one too many: %v", err)
	}
	close(f.hold)
	for range deploysMax {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestRefusalsKeepTheirKindAndText(t *testing.T) {
	f, c, _ := dial(t)
	ctx := context.Background()
	for _, kind := range []error{api.ErrInvalid, api.ErrNotFound, api.ErrConflict, api.ErrTooLarge, api.ErrUnavailable, api.ErrTimedOut} {
		f.fail = fmt.Errorf("script x: %w: do this next", kind)
		err := c.Pause(ctx, "x")
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), "do this next") {
			t.Errorf("%v came back as %v", kind, err)
		}
	}
	f.fail = errors.New("something else")
	var r *client.Refusal
	if err := c.Pause(ctx, "x"); !errors.As(err, &r) || r.Status != 500 || r.Detail != "something else" {
		t.Errorf("no kind: %v", err)
	}
	if _, err := c.ChangeConfig(ctx, api.ConfigChange{Set: map[string]string{"nonsense": "1"}}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("bad setting: %v", err)
	}
	if _, err := c.Partitions(ctx, "none", false); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("unknown topic: %v", err)
	}
}

func TestLogsFollowUntilTheClientLeaves(t *testing.T) {
	f, c, _ := dial(t)
	if err := c.Logs(context.Background(), api.LogsAsk{Name: "none"}, nil); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("unknown script: %v", err)
	}
	ctx, leave := context.WithCancel(context.Background())
	var got []string
	err := c.Logs(ctx, api.LogsAsk{Name: "scrub", Tail: 4, Follow: true}, func(l api.LogLine) error {
		got = append(got, l.Text)
		switch len(got) {
		case 1, 2: // the next line is produced only after this one arrived
			go func() { f.follow <- api.LogLine{Text: fmt.Sprint("line ", len(got))} }()
		case 3:
			leave()
		}
		return nil
	})
	if err != nil || len(got) != 3 || got[0] != "tail 4" {
		t.Errorf("lines %q, %v", got, err)
	}
}

func TestGuard(t *testing.T) {
	_, h, s := newFake()
	for _, c := range []struct {
		name, method, path, host, from string
		header                         map[string]string
		remote                         bool
		want                           int
	}{
		{"local read", "GET", "/v1/scripts", "localhost:9644", "127.0.0.1:5", nil, false, 200},
		{"local change", "POST", "/v1/scripts/scrub/pause", "127.0.0.1:9644", "[::1]:5", nil, false, 204},
		{"rebound name", "GET", "/v1/scripts", "evil.example:9644", "127.0.0.1:5", nil, false, 403},
		{"other site's page", "POST", "/v1/scripts/scrub/pause", "localhost:9644", "127.0.0.1:5", map[string]string{"Sec-Fetch-Site": "cross-site"}, false, 403},
		{"other origin", "POST", "/v1/scripts/scrub/pause", "localhost:9644", "127.0.0.1:5", map[string]string{"Origin": "http://evil.example"}, false, 403},
		{"remote read", "GET", "/v1/scripts", "broker.example:9644", "10.0.0.9:5", nil, false, 200},
		{"remote change", "POST", "/v1/scripts/scrub/pause", "broker.example:9644", "10.0.0.9:5", nil, false, 403},
		{"remote change, allowed", "POST", "/v1/scripts/scrub/pause", "broker.example:9644", "10.0.0.9:5", nil, true, 204},
		{"remote profile", "GET", "/debug/pprof/cmdline", "broker.example:9644", "10.0.0.9:5", nil, true, 403},
		{"local profile", "GET", "/debug/pprof/cmdline", "localhost:9644", "127.0.0.1:5", nil, false, 200},
		{"page", "GET", "/docs", "localhost", "127.0.0.1:5", nil, false, 200},
		{"no such path", "GET", "/v2", "localhost", "127.0.0.1:5", nil, false, 404},
	} {
		s.o.Remote = c.remote
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Host, r.RemoteAddr = c.host, c.from
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
}

// TestNoAnswer: a node that takes connections and does not answer yet keeps nobody from asking another.
func TestNoAnswer(t *testing.T) {
	_, _, srv := dial(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ask := func(timeout time.Duration, addrs ...string) error {
		c, err := client.New(client.Options{Addrs: addrs, AnswerTimeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Node(t.Context())
		return err
	}
	if err := ask(time.Second, silent.Addr().String(), srv.Listener.Addr().String()); err != nil {
		t.Errorf("the second was not asked: %v", err)
	}
	if err := ask(50*time.Millisecond, silent.Addr().String()); !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestServeAndClose(t *testing.T) {
	_, _, s := newFake()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c, _ := client.New(client.Options{Addrs: []string{"127.0.0.1:1", l.Addr().String()}}) // the first refuses
	first := make(chan struct{})
	logs := make(chan error, 1)
	go func() {
		logs <- c.Logs(context.Background(), api.LogsAsk{Name: "scrub", Follow: true}, func(api.LogLine) error {
			close(first)
			return nil
		})
	}()
	<-first
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := <-logs; err != nil {
		t.Errorf("a followed log does not end cleanly: %v", err)
	}
	_, err = c.Node(context.Background())
	if !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("after close: %v", err)
	}
}

// TestOpenAPI keeps docs/openapi.json true; -rewrite writes it.
func TestOpenAPI(t *testing.T) {
	_, _, s := newFake()
	doc := s.OpenAPI()
	doc.Info.Version = "1" // of the document; the build's would make it stale at every release
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Indent(&want, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	want.WriteByte('\n')
	const file = "../../docs/openapi.json"
	if *rewrite {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("docs/openapi.json is stale (%v): go test ./broker/admin -run TestOpenAPI -rewrite", err)
	}
	for path := range doc.Paths {
		if !slices.ContainsFunc([]string{"/v1/"}, func(p string) bool { return strings.HasPrefix(path, p) }) {
			t.Errorf("path %s is outside /v1/", path)
		}
	}
}
