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

// List describes all scripts, sorted by name.
func (s *Service) List(ctx context.Context) ([]api.ScriptStatus, error) {
	m := s.o.Cluster.Metadata()
	all := make([]api.ScriptStatus, 0, len(m.Scripts()))
	for _, sc := range m.Scripts() {
		all = append(all, s.describe(m, sc))
	}
	return all, nil
}

// Describe describes one script.
func (s *Service) Describe(ctx context.Context, name string) (api.ScriptStatus, error) {
	sc, err := s.find(name)
	if err != nil {
		return api.ScriptStatus{}, err
	}
	return s.describe(s.o.Cluster.Metadata(), sc), nil
}

func (s *Service) describe(m *cluster.Metadata, sc *controller.Script) api.ScriptStatus {
	st := api.ScriptStatus{
		Name: sc.Name, ID: sc.ID, Activation: sc.Activation, Digest: sc.Digest, Mode: string(sc.Mode), Inputs: sc.Inputs,
		Paused: sc.Paused, Created: time.UnixMilli(sc.Created).UTC(), Updated: time.UnixMilli(sc.Updated).UTC(),
		Nodes: []api.ScriptNode{s.nodeOf(sc)}, Partitions: []api.ScriptPartition{},
	}
	for _, o := range sc.Outputs {
		st.Outputs = append(st.Outputs, o.Topic)
	}
	if man, err := manifest.Decode(sc.Manifest); err == nil {
		st.Description, st.Env, st.OnError = man.Description, man.Env, policyOf(man)
	}
	if sc.Mode == controller.ModeSync {
		c := s.table.countsOf(sc.Digest)
		st.ScriptCounts, st.LastError = c.counts(), c.last.Load()
	} else {
		st.Partitions = s.partitionsOf(m, sc)
		for _, p := range st.Partitions {
			st.RecordsIn += p.RecordsIn
			st.RecordsOut += p.RecordsOut
			st.RecordsFailed += p.RecordsFailed
			st.RecordsDropped += p.RecordsDropped
			st.CPUSeconds += p.CPUSeconds
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

// nodeOf says what this node has loaded of a script.
func (s *Service) nodeOf(sc *controller.Script) api.ScriptNode {
	n := api.ScriptNode{Node: s.o.Node, State: api.StateStarting}
	ok, why := s.sidecars.Running(sc.Digest)
	switch {
	case ok:
		n.Digest, n.State = sc.Digest, api.StateRunning
	case s.refused(sc.Digest):
		n.State, n.Reason = api.StateStopped, why
	default:
		n.Reason = why
	}
	return n
}

// stateOf sums up: the worst that holds anywhere.
func (s *Service) stateOf(m *cluster.Metadata, sc *controller.Script, st *api.ScriptStatus) (state, reason string) {
	for _, in := range sc.Inputs {
		if _, ok := m.Topic(in); !ok {
			state, reason = api.StateMissing, fmt.Sprintf("input %q does not exist", in)
		}
	}
	node := st.Nodes[0]
	switch {
	case sc.Removing:
		return api.StateRemoving, ""
	case sc.Fault != "":
		return api.StateStopped, sc.Fault
	case node.State == api.StateStopped:
		return api.StateStopped, node.Reason
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
	case node.State != api.StateRunning:
		return api.StateStarting, node.Reason
	case counts[api.StateStarting] > 0:
		return api.StateStarting, ""
	}
	return api.StateRunning, ""
}

// partitionsOf gives a row for each partition of each input.
func (s *Service) partitionsOf(m *cluster.Metadata, sc *controller.Script) []api.ScriptPartition {
	running := map[model.PartitionID]FiberState{}
	for _, f := range s.fibers.Fibers(sc.ID) {
		running[f.Parent] = f
	}
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
				row.Node, row.SourceOffset, row.EndOffset, row.LagRecords, row.LagMs = s.o.Node, f.Offset, f.End, f.LagRecords, f.LagMs
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
