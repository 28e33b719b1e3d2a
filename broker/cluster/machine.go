package cluster

import (
	"maps"
	"strings"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// StateMachine is the controller's state as raft drives it: Apply, Snapshot and
// Restore are called on one goroutine.
type StateMachine struct {
	cluster *Cluster
	state   *controller.State
	// bad remembers overrides that were reported, so that each is logged once.
	bad map[string]bool
}

func (s *StateMachine) init(c *Cluster) {
	s.cluster, s.state, s.bad = c, controller.New(), map[string]bool{}
	c.publish(s.metadata(&Metadata{Controller: model.NoNode}))
}

// Apply takes one command and publishes what it changed before it returns.
func (s *StateMachine) Apply(_ uint64, cmd []byte) (result []byte) {
	c, err := controller.DecodeCommand(cmd)
	if err != nil {
		r := controller.Result{Version: s.state.Version(), Refused: &controller.Refusal{Code: "command", Text: err.Error()}}
		return r.Encode()
	}
	before := s.state.Version()
	r := s.state.Step(c)
	s.cluster.checkLevel(s.state.Level())
	if s.state.Version() != before {
		s.publish()
	}
	return r.Encode()
}

// Snapshot gives the whole state.
func (s *StateMachine) Snapshot() ([]byte, error) { return s.state.Snapshot(), nil }

// Restore replaces the state with a snapshot's and publishes it.
func (s *StateMachine) Restore(snapshot []byte) error {
	state, err := controller.Restore(snapshot)
	if err != nil {
		return err
	}
	s.state = state
	s.publish()
	return nil
}

func (s *StateMachine) publish() {
	c := s.cluster
	c.publishing.Lock()
	defer c.publishing.Unlock()
	m := s.metadata(c.Metadata())
	c.publish(m)
	c.leaders.forget(func(id model.TopicID) bool { _, ok := m.byID[id]; return !ok })
}

// metadata builds the snapshot of the state. Topics that are as they were in
// old are shared with it.
func (s *StateMachine) metadata(old *Metadata) *Metadata {
	m := &Metadata{
		ClusterID: s.state.ClusterID(), Version: s.state.Version(), Level: s.state.Level(), Controller: old.Controller,
		ClusterOverrides: s.state.ClusterConfigs(), NodeOverrides: s.state.NodeConfigs(),
		ConfigRevision: s.state.ConfigRevision(), Static: s.cluster.o.Static,
		byName: map[string]*Topic{}, byID: map[model.TopicID]*Topic{},
		scripts: s.state.Scripts(), Gone: s.state.Gone(),
	}
	for _, n := range s.state.Nodes() {
		m.Nodes = append(m.Nodes, *n)
	}
	m.effective = effective(m.Static, m.ClusterOverrides, m.NodeOverrides[s.cluster.o.Node])
	m.Cluster = s.resolveCluster(m.effective)
	sameConfigs := old.byID != nil && maps.Equal(old.effective, m.effective)
	synced := syncScripts(m.scripts)
	for _, record := range s.state.Topics() {
		t, ok := old.byID[record.ID]
		if !ok || !sameConfigs || t.record != record || !sameScripts(t.SyncScripts, synced[record.Name]) {
			t = s.topic(record, m.effective, synced[record.Name])
		}
		m.topics = append(m.topics, t)
		m.byName[t.Name], m.byID[t.ID] = t, t
	}
	return m
}

// effective merges what holds for cluster settings on this node, later wins.
func effective(layers ...map[string]string) map[string]string {
	merged := map[string]string{}
	for _, l := range layers {
		maps.Copy(merged, l)
	}
	return merged
}

// syncScripts gives the sync scripts of each topic, by name as scripts are.
func syncScripts(scripts []*controller.Script) map[string][]*controller.Script {
	by := map[string][]*controller.Script{}
	for _, sc := range scripts {
		if sc.Mode != controller.ModeSync || sc.Removing {
			continue
		}
		for _, input := range sc.Inputs {
			by[input] = append(by[input], sc)
		}
	}
	return by
}

func sameScripts(a, b []*controller.Script) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (s *StateMachine) topic(r *controller.Topic, cluster map[string]string, synced []*controller.Script) *Topic {
	return &Topic{
		Name: r.Name, ID: r.ID, Internal: r.Internal, Partitions: r.Partitions, Overrides: r.Overrides,
		Revision: r.Revision, MadeFor: r.MadeFor, SyncScripts: synced, record: r,
		Config: s.resolveTopic(r.Name, r.Overrides, cluster),
	}
}

// resolveTopic resolves what this build can: overrides that another version
// accepted and this one refuses are logged once and their default holds.
func (s *StateMachine) resolveTopic(topic string, overrides, cluster map[string]string) config.Topic {
	t, err := config.ResolveTopic(overrides, cluster)
	if err == nil {
		return t
	}
	t, err = config.ResolveTopic(s.valid(topic, overrides, config.CheckTopic), s.valid("cluster", cluster, config.CheckCluster))
	must(err == nil, "topic %q: checked settings do not resolve: %v", topic, err)
	return t
}

func (s *StateMachine) resolveCluster(settings map[string]string) config.Cluster {
	c, err := config.ResolveCluster(settings)
	if err == nil {
		return c
	}
	c, err = config.ResolveCluster(s.valid("cluster", settings, config.CheckCluster))
	must(err == nil, "checked cluster settings do not resolve: %v", err)
	return c
}

// valid gives the settings that this build accepts.
func (s *StateMachine) valid(owner string, settings map[string]string, check func(name, value string) error) map[string]string {
	good := map[string]string{}
	for name, value := range settings {
		err := check(name, value)
		if err == nil {
			good[name] = value
			continue
		}
		if key := strings.Join([]string{owner, name, value}, "\x00"); !s.bad[key] {
			s.bad[key] = true
			s.cluster.o.Log.Warn("setting ignored, its default holds", "owner", owner, "setting", name, "error", err)
		}
	}
	return good
}
