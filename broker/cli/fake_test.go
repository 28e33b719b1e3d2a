package cli

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin"
	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

// fakeAdmin is a broker's admin side in memory, behind the real front.
type fakeAdmin struct {
	scripts map[string]*api.ScriptStatus
	deploys []api.DeployAsk
	configs map[string]string
	healthy bool
	leaving []model.NodeID
	level   int
	tested  api.SelfTestAsk
	addr    string // where it listens
	secret  string // the value of a setting that must not be shown, which it shows
	dataDir string
	resting model.NodeID // in maintenance; NoNode: none is
	asked   int          // for it
}

func newFakeAdmin(t *testing.T) (*fakeAdmin, string) {
	f := &fakeAdmin{scripts: map[string]*api.ScriptStatus{}, configs: map[string]string{}, healthy: true, resting: model.NoNode}
	s, err := admin.New(admin.Options{Cluster: f, Node: f, Configs: f, Scripts: f, Operate: f})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	f.addr = srv.Listener.Addr().String()
	return f, f.addr
}

func (f *fakeAdmin) Info(context.Context) (api.ClusterInfo, error) {
	return api.ClusterInfo{ID: "fake", Nodes: []api.NodeInfo{
		{ID: 0, Host: "127.0.0.1", Admin: f.addr, Alive: true}, {ID: 1, Host: "127.0.0.1", Admin: "off"}, {ID: 2, Host: "127.0.0.1", Admin: "off"},
	}}, nil
}
func (f *fakeAdmin) Health(context.Context) (api.Health, error) {
	h := api.Health{Healthy: f.healthy, Nodes: []model.NodeID{0}, Sidecar: "up"}
	if !f.healthy {
		h.Leaderless = []api.TopicPartition{{Topic: "orders", Partition: 1}}
		h.Problems = []string{"orders/1 has no leader: look at the log of node 0"}
	}
	return h, nil
}
func (f *fakeAdmin) Partitions(context.Context, string, bool) ([]api.PartitionInfo, error) {
	return nil, nil
}
func (f *fakeAdmin) Decommission(_ context.Context, n model.NodeID) error {
	if n > 2 {
		return fmt.Errorf("%w: invalid node: node %d is not registered", api.ErrNotFound, n)
	}
	f.leaving = append(f.leaving, n)
	return nil
}

func (f *fakeAdmin) Recommission(_ context.Context, n model.NodeID) error {
	f.leaving = slices.DeleteFunc(f.leaving, func(id model.NodeID) bool { return id == n })
	return nil
}

func (f *fakeAdmin) DecommissionStatus(_ context.Context, n model.NodeID) (api.Decommission, error) {
	d := api.Decommission{Node: n, State: "active", Alive: true, Partitions: []api.DecommissionPartition{}}
	if slices.Contains(f.leaving, n) {
		d.State = "decommissioning"
		if n == 1 {
			d.Partitions = append(d.Partitions, api.DecommissionPartition{
				Topic: "orders", Partition: 1, Leader: 2, Replicas: []model.NodeID{1, 2, 0}, MovesTo: []model.NodeID{2, 0},
				Reason: "node 0 is catching up", Next: "bring in the replicas of nodes [0]",
			})
		}
		d.Finished = len(d.Partitions) == 0
	}
	return d, nil
}

func (f *fakeAdmin) Moves(context.Context) ([]api.Move, error) {
	moves := []api.Move{}
	if len(f.leaving) > 0 {
		moves = append(moves, api.Move{
			Topic: "orders", Partition: 1, Leader: 2, Replicas: []model.NodeID{1, 2, 0}, Adding: []model.NodeID{0}, Removing: []model.NodeID{1},
			Reason: "node 0 is catching up",
		})
	}
	return moves, nil
}

func (f *fakeAdmin) SetMaintenance(_ context.Context, n model.NodeID, on bool) error {
	switch {
	case n > 2:
		return fmt.Errorf("%w: invalid node: node %d is not registered", api.ErrNotFound, n)
	case on && f.resting != model.NoNode && f.resting != n:
		return fmt.Errorf("%w: node is in another state: node %d is in maintenance, one node at a time may be", api.ErrConflict, f.resting)
	}
	f.resting = model.NoNode
	if on {
		f.resting = n
	}
	return nil
}

// Maintenance says that a node leads two partitions, of which it has given one away when
// it is asked the second time.
func (f *fakeAdmin) Maintenance(_ context.Context, n model.NodeID) (api.Maintenance, error) {
	m := api.Maintenance{Node: n, Alive: true, Partitions: []api.MaintenancePartition{{Topic: "orders", Partition: 1, Stays: true}}}
	if n != f.resting {
		return m, nil
	}
	m.Partitions[0].Reason = "it has no other replica"
	if f.asked++; f.asked == 1 {
		m.Partitions = append(m.Partitions, api.MaintenancePartition{Topic: "orders", Partition: 2, Reason: "it waits for its turn: node 0 can take it"})
	}
	m.Enabled, m.Finished = true, f.asked > 1
	return m, nil
}

func (f *fakeAdmin) Node(context.Context) (api.Node, error) { return api.Node{DataDir: f.dataDir}, nil }
func (f *fakeAdmin) Ready() api.Ready                       { return api.Ready{Ready: true} }

func (f *fakeAdmin) Schema() []api.ConfigRow {
	return []api.ConfigRow{
		{Name: "auto.create.topics.enable", Type: "boolean", Default: "true", Doc: "Make topics that clients ask for."},
		{Name: "log.retention.ms", Type: "integer", Unit: "ms", Default: "604800000", Doc: "How long records are kept.\nNegative: for ever."},
		{Name: "num.partitions", Type: "integer", Default: "1", Doc: "Partitions of a new topic.", NeedsRestart: true},
	}
}

func (f *fakeAdmin) Values(context.Context) (out []api.ConfigValue, err error) {
	for _, r := range f.Schema() {
		v := api.ConfigValue{Name: r.Name, Value: r.Default, Source: "default"}
		if set, found := f.configs[r.Name]; found {
			v.Value, v.Source = set, "cluster"
		}
		out = append(out, v)
	}
	if f.secret != "" {
		out = append(out, api.ConfigValue{Name: "sasl.password", Value: f.secret}, api.ConfigValue{Name: "newer.token", Value: f.secret})
	}
	return out, nil
}

func (f *fakeAdmin) Change(_ context.Context, c api.ConfigChange) (done api.ConfigChanged, err error) {
	known := func(name string) *api.ConfigRow {
		for _, r := range f.Schema() {
			if r.Name == name {
				return &r
			}
		}
		return nil
	}
	for name := range c.Set {
		if known(name) == nil {
			return done, fmt.Errorf("%w: no setting is called %q", api.ErrInvalid, name)
		}
	}
	done.Version = 5
	for name, value := range c.Set {
		done.Changed = append(done.Changed, name)
		if known(name).NeedsRestart {
			done.NeedsRestart = append(done.NeedsRestart, name)
		}
		if !c.DryRun {
			f.configs[name] = value
		}
	}
	for _, name := range c.Remove {
		done.Changed = append(done.Changed, name)
		delete(f.configs, name)
	}
	slices.Sort(done.Changed)
	return done, nil
}

func (f *fakeAdmin) Status(context.Context) ([]api.ConfigStatus, error) {
	return []api.ConfigStatus{{Node: 0, Version: 5, NeedsRestart: true}}, nil
}

func (f *fakeAdmin) Deploy(_ context.Context, ask api.DeployAsk) (api.DeployAnswer, error) {
	if strings.Contains(string(ask.Manifest), "nosuch") {
		return api.DeployAnswer{}, fmt.Errorf("%w: deploy script %q: unknown topic: input \"nosuch\" of script %[2]q does not exist; create it, or deploy with --allow-missing", api.ErrInvalid, ask.Name)
	}
	f.deploys = append(f.deploys, ask)
	_, known := f.scripts[ask.Name]
	f.scripts[ask.Name] = fakeScript(ask.Name)
	s := f.scripts[ask.Name]
	a := api.DeployAnswer{
		Name: ask.Name, Activation: s.Activation, Digest: s.Digest, Mode: s.Mode, Inputs: s.Inputs, Outputs: s.Outputs,
		Redeployed: known, Running: ask.Wait, Starts: []api.StartOffset{{Topic: "orders", Offset: 10}, {Topic: "orders", Partition: 1, Offset: 12}},
	}
	if !known {
		a.Created = s.Outputs
	}
	return a, nil
}

func fakeScript(name string) *api.ScriptStatus {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	digest := model.Digest{0xab, 0xcd, 0xef, 1, 2, 3}
	return &api.ScriptStatus{
		Name: name, ID: 3, Activation: 7, Digest: digest, Mode: "async", Inputs: []string{"orders"}, Outputs: []string{"orders." + name},
		OnError: "retry 3, then dlq", Env: map[string]string{"REGION": "eu"}, State: api.StateRunning, Created: at, Updated: at,
		Nodes:        []api.ScriptNode{{Node: 0, Digest: digest, State: api.StateRunning}},
		ScriptCounts: api.ScriptCounts{RecordsIn: 100, RecordsOut: 25, RecordsFailed: 1, RecordsDropped: 74, CPUSeconds: 0.125},
		Partitions: []api.ScriptPartition{
			{Topic: "orders", Partition: 0, SourceOffset: 60, EndOffset: 60, State: api.StateRunning, ScriptCounts: api.ScriptCounts{RecordsIn: 60}},
			{Topic: "orders", Partition: 1, SourceOffset: 40, EndOffset: 45, LagRecords: 5, LagMs: 1500, State: api.StateStopped,
				ScriptCounts: api.ScriptCounts{RecordsIn: 40}, LastError: &api.ScriptError{Text: "TypeError: x is not a function\n  at main.js:3", Offset: 40, Time: at}},
		},
	}
}

func (f *fakeAdmin) find(name string) (*api.ScriptStatus, error) {
	if s := f.scripts[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("script %q: %w", name, api.ErrNotFound)
}

func (f *fakeAdmin) Remove(_ context.Context, name string) error {
	_, err := f.find(name)
	delete(f.scripts, name)
	return err
}

func (f *fakeAdmin) Pause(_ context.Context, name string) error {
	s, err := f.find(name)
	if err == nil {
		s.Paused, s.State = true, api.StatePaused
	}
	return err
}

func (f *fakeAdmin) Resume(_ context.Context, name string) error {
	s, err := f.find(name)
	if err == nil {
		s.Paused, s.State = false, api.StateRunning
	}
	return err
}

func (f *fakeAdmin) Seek(_ context.Context, ask api.SeekAsk) (api.SeekAnswer, error) {
	_, err := f.find(ask.Name)
	return api.SeekAnswer{Name: ask.Name, Activation: 8, Starts: []api.StartOffset{{Topic: "orders"}}}, err
}

func (f *fakeAdmin) List(context.Context) (out []api.ScriptStatus, err error) {
	for _, s := range f.scripts {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(x, y api.ScriptStatus) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

func (f *fakeAdmin) Describe(_ context.Context, name string) (api.ScriptStatus, error) {
	s, err := f.find(name)
	if err != nil {
		return api.ScriptStatus{}, err
	}
	return *s, nil
}

func (f *fakeAdmin) Logs(_ context.Context, ask api.LogsAsk, emit func(api.LogLine) error) error {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	return emit(api.LogLine{Time: at, Script: ask.Name, Level: "info", Text: "hello\nthere"})
}

func (f *fakeAdmin) Features(context.Context) (api.Features, error) {
	state := "available"
	if f.level > 1 {
		state = "active"
	}
	return api.Features{
		Active: max(1, f.level), Common: 2, Build: 2, Auto: false,
		Nodes:    []api.NodeFeatures{{Node: 0, Version: "v1.2", Level: 2}, {Node: 1, Reason: "it has never come"}},
		Features: []api.Feature{{Name: "feature-levels", Level: 2, State: state, Doc: "The cluster knows each node's build."}},
	}, nil
}

func (f *fakeAdmin) ActivateFeatures(ctx context.Context, level int) (api.Features, error) {
	if level > 2 {
		return api.Features{}, fmt.Errorf("%w: feature level: level 3 is not every node's: node 0 has 2", api.ErrConflict)
	}
	f.level = 2
	return f.Features(ctx)
}

func (f *fakeAdmin) StartSelfTest(_ context.Context, ask api.SelfTestAsk) (api.SelfTest, error) {
	if slices.Contains(ask.Nodes, 7) {
		return api.SelfTest{}, fmt.Errorf("%w: node 7", api.ErrNotFound)
	}
	f.tested = ask
	t := api.SelfTest{ID: "5a1f", Nodes: []api.SelfTestNode{{Node: 0, ID: "5a1f", State: "running"}}}
	silent := api.SelfTestNode{Node: 1, State: "unknown", Error: "it does not answer"}
	switch {
	case len(ask.Nodes) == 0:
		t.Nodes = append(t.Nodes, silent)
	case ask.Nodes[0] == 1:
		t.Nodes = []api.SelfTestNode{silent}
	}
	return t, nil
}

func (f *fakeAdmin) SelfTest(context.Context) (api.SelfTest, error) {
	peer := model.NodeID(1)
	results := []api.SelfTestResult{
		{Test: "disk latency", RequestBytes: 4096, Requests: 812, Bytes: 812 * 4096, Millis: 100, P50: 112.4, P90: 140, P99: 311, Max: 2400, PerSecond: 8120, BytesPerSecond: 33259520},
		{Test: "network send", Peer: &peer, RequestBytes: 1 << 20, Error: "call node 1: connection refused"},
	}
	return api.SelfTest{Nodes: []api.SelfTestNode{
		{Node: 0, ID: "5a1f", State: "idle", Results: results}, {Node: 1, State: "unknown", Error: "it does not answer"},
	}}, nil
}

func (f *fakeAdmin) StopSelfTest(context.Context) (api.SelfTest, error) {
	return api.SelfTest{Nodes: []api.SelfTestNode{{Node: 0, State: "idle"}}}, nil
}
