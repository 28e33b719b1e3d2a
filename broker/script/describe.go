package script

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/sdk/manifest"
)

// List describes all scripts, sorted by name, as all nodes tell of them.
func (s *Service) List(ctx context.Context) ([]api.ScriptStatus, error) {
	if len(s.o.Cluster.Metadata().Scripts()) == 0 {
		return []api.ScriptStatus{}, nil
	}
	return s.list(s.ask(ctx)), nil
}

// ListHere is List without asking other nodes: of what runs there nothing is known.
func (s *Service) ListHere() []api.ScriptStatus { return s.list(s.here()) }

func (s *Service) list(told []told) []api.ScriptStatus {
	m := s.o.Cluster.Metadata()
	all := make([]api.ScriptStatus, 0, len(m.Scripts()))
	for _, sc := range m.Scripts() {
		all = append(all, s.describe(m, sc, told))
	}
	return all
}

// Describe describes one script, as all nodes tell of it.
func (s *Service) Describe(ctx context.Context, name string) (api.ScriptStatus, error) {
	sc, err := s.find(name)
	if err != nil {
		return api.ScriptStatus{}, err
	}
	told := s.ask(ctx, sc.ID)
	return s.describe(s.o.Cluster.Metadata(), sc, told), nil
}

func (s *Service) describe(m *cluster.Metadata, sc *controller.Script, told []told) api.ScriptStatus {
	st := api.ScriptStatus{
		Name: sc.Name, ID: sc.ID, Activation: sc.Activation, Digest: sc.Digest, Mode: string(sc.Mode), Inputs: sc.Inputs,
		Paused: sc.Paused, Created: time.UnixMilli(sc.Created).UTC(), Updated: time.UnixMilli(sc.Updated).UTC(),
		Partitions: []api.ScriptPartition{},
	}
	for _, o := range sc.Outputs {
		st.Outputs = append(st.Outputs, o.Topic)
	}
	if man, err := manifest.Decode(sc.Manifest); err == nil {
		st.Description, st.Env, st.OnError = man.Description, man.Env, policyOf(man)
	}
	for i := range told {
		st.Nodes = append(st.Nodes, nodeOf(sc, &told[i]))
		if r, ok := told[i].of(sc.ID); ok && sc.Mode == controller.ModeSync {
			add(&st.ScriptCounts, r.Counts)
			if e := r.LastError; e != nil && (st.LastError == nil || e.Time.After(st.LastError.Time)) {
				st.LastError = e
			}
		}
	}
	if sc.Mode == controller.ModeAsync {
		st.Partitions = s.partitionsOf(m, sc, told)
		for _, p := range st.Partitions {
			add(&st.ScriptCounts, p.ScriptCounts)
		}
	}
	st.State, st.Reason = s.stateOf(m, sc, &st)
	return st
}

func policyOf(man *manifest.Manifest) string {
	if man.Mode == manifest.Sync {
		return string(man.Sync.Policy)
	}
	return fmt.Sprintf("retry %d, then %s", man.OnError.Retry, man.OnError.Then)
}

func add(sum *api.ScriptCounts, c api.ScriptCounts) {
	sum.RecordsIn += c.RecordsIn
	sum.RecordsOut += c.RecordsOut
	sum.RecordsFailed += c.RecordsFailed
	sum.RecordsDropped += c.RecordsDropped
	sum.CPUSeconds += c.CPUSeconds
}

// nodeOf says what a node has loaded of a script.
func nodeOf(sc *controller.Script, t *told) api.ScriptNode {
	if why := t.silent(); why != "" {
		return api.ScriptNode{Node: t.node, State: api.StateUnknown, Reason: why}
	}
	r, ok := t.of(sc.ID)
	if !ok {
		return api.ScriptNode{Node: t.node, State: api.StateStarting, Reason: "the node has not heard of it yet"}
	}
	return api.ScriptNode{Node: t.node, Digest: r.Digest, State: r.State, Reason: r.Reason}
}

// stateOf sums up: the worst that holds anywhere.
func (s *Service) stateOf(m *cluster.Metadata, sc *controller.Script, st *api.ScriptStatus) (state, reason string) {
	for _, in := range sc.Inputs {
		if _, ok := m.Topic(in); !ok {
			state, reason = api.StateMissing, fmt.Sprintf("input %q does not exist", in)
		}
	}
	stopped, starting := nodeIn(st, api.StateStopped), nodeIn(st, api.StateStarting)
	switch {
	case sc.Removing:
		return api.StateRemoving, ""
	case sc.Fault != "":
		return api.StateStopped, sc.Fault
	case stopped != "":
		return api.StateStopped, stopped
	}
	counts := map[string]int{}
	for _, p := range st.Partitions {
		counts[p.State]++
		if p.State == api.StateStopped && p.LastError != nil {
			reason = fmt.Sprintf("%s-%d: %s", p.Topic, p.Partition, p.LastError.Text)
		}
	}
	switch {
	case counts[api.StateStopped] > 0:
		return api.StateStopped, reason
	case sc.Paused:
		return api.StatePaused, ""
	case state != "":
		return state, reason
	case starting != "":
		return api.StateStarting, starting
	case counts[api.StateStarting] > 0:
		return api.StateStarting, ""
	}
	return api.StateRunning, ""
}

// nodeIn gives the reason of a node that is in state; empty when none is. Of nodes
// that are silent nothing is known: the rows of what they lead tell.
func nodeIn(st *api.ScriptStatus, state string) string {
	i := slices.IndexFunc(st.Nodes, func(n api.ScriptNode) bool { return n.State == state })
	if i < 0 {
		return ""
	}
	return on(st.Nodes[i].Node, len(st.Nodes), st.Nodes[i].Reason)
}

// partitionsOf gives a row for each partition of each input.
func (s *Service) partitionsOf(m *cluster.Metadata, sc *controller.Script, told []told) []api.ScriptPartition {
	running := s.fibersOf(sc.ID, told)
	rows := []api.ScriptPartition{}
	for _, in := range sc.Inputs {
		t, ok := m.Topic(in)
		if !ok {
			continue
		}
		for _, p := range t.Partitions {
			row := api.ScriptPartition{
				Topic: in, Partition: p.Index, Node: model.NoNode, SourceOffset: model.NoOffset, EndOffset: model.NoOffset, State: api.StateStarting,
			}
			if f, ok := running[t.PartitionID(p.Index)]; ok {
				row.Node, row.SourceOffset, row.EndOffset, row.LagRecords, row.LagMs = f.node, f.Offset, f.End, f.LagRecords, f.LagMs
				row.GapRecords, row.State, row.LastError, row.ScriptCounts = f.Gap, f.State, f.LastError, f.ScriptCounts
			}
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b api.ScriptPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return rows
}

func (c *syncCounts) counts() api.ScriptCounts {
	in, out := c.in.Load(), c.out.Load()
	return api.ScriptCounts{
		RecordsIn: in, RecordsOut: out, RecordsFailed: c.failed.Load(), RecordsDropped: max(0, in-out),
		CPUSeconds: time.Duration(c.cpu.Load()).Seconds(),
	}
}
