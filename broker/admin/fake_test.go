package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

// fake stands for all rooms below. It records what was asked.
type fake struct {
	ready  api.Ready
	deploy api.DeployAsk
	change api.ConfigChange
	seek   api.SeekAsk
	calls  []string
	fail   error         // what Deploy and the steering verbs answer
	hold   chan struct{} // Deploy waits for it, when set
	held   chan struct{} // told that Deploy waits
	follow chan api.LogLine
}

func (f *fake) Info(context.Context) (api.ClusterInfo, error) {
	return api.ClusterInfo{ID: "c1", Nodes: []api.NodeInfo{{ID: 0, Host: "127.0.0.1", Port: 9092, Controller: true, Alive: true}}}, nil
}
func (f *fake) Health(context.Context) (api.Health, error) {
	return api.Health{Healthy: true, Sidecar: "up"}, nil
}
func (f *fake) Partitions(_ context.Context, topic string, internal bool) ([]api.PartitionInfo, error) {
	if topic == "none" {
		return nil, fmt.Errorf("topic %q: %w", topic, api.ErrNotFound)
	}
	return []api.PartitionInfo{{Topic: topic, Internal: internal, TopicID: model.TopicID{1}}}, nil
}
func (f *fake) Decommission(_ context.Context, n model.NodeID) error {
	return f.note("decommission", fmt.Sprint(n))
}
func (f *fake) Recommission(_ context.Context, n model.NodeID) error {
	return f.note("recommission", fmt.Sprint(n))
}
func (f *fake) DecommissionStatus(_ context.Context, n model.NodeID) (api.Decommission, error) {
	if n == 9 {
		return api.Decommission{}, fmt.Errorf("node %d: %w", n, api.ErrNotFound)
	}
	return api.Decommission{Node: n, State: "decommissioning", Partitions: []api.DecommissionPartition{{Topic: "t", Reason: "why", Next: "what"}}}, nil
}
func (f *fake) Moves(context.Context) ([]api.Move, error) {
	return []api.Move{{Topic: "t", Partition: 1, Leader: 2, Reason: "why"}}, nil
}
func (f *fake) Features(context.Context) (api.Features, error) {
	return api.Features{Active: 1, Build: 2}, nil
}
func (f *fake) ActivateFeatures(_ context.Context, level int) (api.Features, error) {
	if level > 2 {
		return api.Features{}, fmt.Errorf("%w: node 1 has 2", api.ErrConflict)
	}
	return api.Features{Active: 2, Build: 2}, nil
}
func (f *fake) SetMaintenance(_ context.Context, n model.NodeID, on bool) error {
	return f.note("maintenance", fmt.Sprint(n, on))
}
func (f *fake) Maintenance(_ context.Context, n model.NodeID) (api.Maintenance, error) {
	if n == 9 {
		return api.Maintenance{}, fmt.Errorf("node %d: %w", n, api.ErrNotFound)
	}
	return api.Maintenance{Node: n, Enabled: true, Partitions: []api.MaintenancePartition{{Topic: "t", Stays: true, Reason: "why"}}}, nil
}
func (f *fake) Node(context.Context) (api.Node, error) { return api.Node{Version: "v1"}, nil }
func (f *fake) Ready() api.Ready                       { return f.ready }
func (f *fake) Schema() []api.ConfigRow {
	return []api.ConfigRow{{Name: "log_retention_ms", Type: "integer"}}
}
func (f *fake) Values(context.Context) ([]api.ConfigValue, error) {
	return []api.ConfigValue{{Name: "log_retention_ms", Value: "7", Source: "cluster"}}, nil
}
func (f *fake) Change(_ context.Context, c api.ConfigChange) (api.ConfigChanged, error) {
	f.change = c
	if _, bad := c.Set["nonsense"]; bad {
		return api.ConfigChanged{}, fmt.Errorf("%w: no setting is called nonsense", api.ErrInvalid)
	}
	return api.ConfigChanged{Version: 3, Changed: []string{"log_retention_ms"}}, nil
}
func (f *fake) Status(context.Context) ([]api.ConfigStatus, error) {
	return []api.ConfigStatus{{Node: 0, Version: 3}}, nil
}
func (f *fake) Deploy(ctx context.Context, ask api.DeployAsk) (api.DeployAnswer, error) {
	f.deploy = ask
	if f.hold != nil {
		f.held <- struct{}{}
		<-f.hold
	}
	return api.DeployAnswer{Name: ask.Name, Activation: 9, Digest: model.Digest{0xab}, Starts: []api.StartOffset{{Topic: "t", Offset: 42}}}, f.fail
}
func (f *fake) note(what, name string) error {
	f.calls = append(f.calls, what+" "+name)
	return f.fail
}
func (f *fake) Remove(_ context.Context, name string) error { return f.note("remove", name) }
func (f *fake) Pause(_ context.Context, name string) error  { return f.note("pause", name) }
func (f *fake) Resume(_ context.Context, name string) error { return f.note("resume", name) }
func (f *fake) Seek(_ context.Context, ask api.SeekAsk) (api.SeekAnswer, error) {
	f.seek = ask
	return api.SeekAnswer{Name: ask.Name, Activation: 10}, f.fail
}
func (f *fake) List(context.Context) ([]api.ScriptStatus, error) {
	return []api.ScriptStatus{{Name: "scrub", ScriptCounts: api.ScriptCounts{RecordsIn: 5}}}, nil
}
func (f *fake) Describe(_ context.Context, name string) (api.ScriptStatus, error) {
	if name != "scrub" {
		return api.ScriptStatus{}, fmt.Errorf("script %q: %w; `millrace wasm list` shows what is deployed", name, api.ErrNotFound)
	}
	return api.ScriptStatus{Name: name, Created: time.Unix(7, 0).UTC()}, nil
}
func (f *fake) Logs(ctx context.Context, ask api.LogsAsk, emit func(api.LogLine) error) error {
	if err := emit(api.LogLine{Script: ask.Name, Text: fmt.Sprintf("tail %d", ask.Tail)}); err != nil {
		return err
	}
	for ask.Follow {
		select {
		case l := <-f.follow:
			if err := emit(l); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func newFake() (*fake, http.Handler, *Server) {
	f := &fake{ready: api.Ready{Ready: true}, follow: make(chan api.LogLine)}
	s, err := New(Options{Cluster: f, Node: f, Configs: f, Scripts: f, Operate: f, Version: "v1"})
	if err != nil {
		panic(err)
	}
	return f, s.Handler(), s
}

func (f *fake) StartSelfTest(_ context.Context, ask api.SelfTestAsk) (api.SelfTest, error) {
	return api.SelfTest{ID: "t1", Nodes: []api.SelfTestNode{{Node: 0, ID: "t1", State: "running"}}}, f.note("self-test", fmt.Sprint(ask.DiskMillis))
}
func (f *fake) SelfTest(context.Context) (api.SelfTest, error) {
	return api.SelfTest{Nodes: []api.SelfTestNode{{Node: 0, State: "idle"}}}, nil
}
func (f *fake) StopSelfTest(context.Context) (api.SelfTest, error) {
	return api.SelfTest{}, f.note("stop", "self-test")
}
