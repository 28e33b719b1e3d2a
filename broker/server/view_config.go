package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// configView reads and changes the cluster's settings for the admin API.
type configView struct{ *Server }

// Schema implements admin.Configs.
func (v configView) Schema() []api.ConfigRow {
	var rows []api.ConfigRow
	for _, r := range config.Rows(config.ScopeCluster) {
		rows = append(rows, api.ConfigRow{
			Name: r.Name, Type: configType(r.Kind), Unit: configUnit(r.Kind), Default: r.Show(r.Default), Doc: r.Doc,
			Min: r.Min, Max: r.Max, Values: r.Values, NeedsRestart: r.Restart, Secret: r.Secret,
		})
	}
	return rows
}

func configType(k config.Kind) string {
	switch k {
	case config.KindBool:
		return "boolean"
	case config.KindInt, config.KindLong:
		return "integer"
	case config.KindDouble:
		return "number"
	case config.KindMillis:
		return "duration"
	case config.KindBytes:
		return "bytes"
	case config.KindList:
		return "list"
	}
	return "string"
}

func configUnit(k config.Kind) string {
	switch k {
	case config.KindMillis:
		return "ms"
	case config.KindBytes:
		return "bytes"
	}
	return ""
}

// Values implements admin.Configs.
func (v configView) Values(context.Context) ([]api.ConfigValue, error) {
	var values []api.ConfigValue
	for _, d := range v.cluster.Metadata().DescribeCluster(v.n.ID) {
		source := "cluster"
		if d.Source == config.SourceDefault {
			source = "default"
		}
		values = append(values, api.ConfigValue{Name: d.Row.Name, Value: d.Row.Show(d.Value), Source: source})
	}
	return values, nil
}

// Change implements admin.Configs: all or nothing.
func (v configView) Change(ctx context.Context, change api.ConfigChange) (api.ConfigChanged, error) {
	var ops []cluster.ConfigOp
	var complaints []error
	for name, value := range change.Set {
		complaints = append(complaints, config.CheckCluster(name, value))
		ops = append(ops, cluster.ConfigOp{Name: name, Kind: cluster.OpSet, Value: value})
	}
	for _, name := range change.Remove {
		_, err := config.Lookup(config.ScopeCluster, name)
		complaints = append(complaints, err)
		ops = append(ops, cluster.ConfigOp{Name: name, Kind: cluster.OpDelete})
	}
	if err := errors.Join(complaints...); err != nil {
		return api.ConfigChanged{}, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	slices.SortFunc(ops, func(a, b cluster.ConfigOp) int { return compareText(a.Name, b.Name) })
	before := v.settings()
	if err := v.cluster.AlterClusterConfigs(ctx, model.NoNode, ops, change.DryRun); err != nil {
		return api.ConfigChanged{}, fmt.Errorf("change cluster settings: %w", adminError(err))
	}
	changed := api.ConfigChanged{Version: v.cluster.Metadata().Version, Changed: []string{}, NeedsRestart: []string{}}
	after := v.settings()
	for _, r := range config.Rows(config.ScopeCluster) {
		if before[r.Name] == after[r.Name] {
			continue
		}
		changed.Changed = append(changed.Changed, r.Name)
		if r.Restart {
			changed.NeedsRestart = append(changed.NeedsRestart, r.Name)
		}
	}
	return changed, nil
}

func (v configView) settings() map[string]string {
	values := map[string]string{}
	for _, d := range v.cluster.Metadata().DescribeCluster(v.n.ID) {
		values[d.Row.Name] = d.Value
	}
	return values
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Status implements admin.Configs. It asks every node that has come.
func (v configView) Status(ctx context.Context) ([]api.ConfigStatus, error) {
	var all []api.ConfigStatus
	for _, n := range v.cluster.Metadata().Nodes {
		if n.Come() {
			all = append(all, api.ConfigStatus{Node: n.ID})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, configuredWait)
	defer cancel()
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i] = v.configuredAt(ctx, all[i].Node) })
	}
	wg.Wait()
	return all, nil
}

// configuredWait bounds the question to one node how far it is with the settings.
const configuredWait = 2 * time.Second

func (v configView) configuredAt(ctx context.Context, node model.NodeID) api.ConfigStatus {
	if node == v.n.ID {
		return v.configured(v.cluster)
	}
	st := api.ConfigStatus{}
	b, err := v.raft.Call(ctx, node, raft.MethodConfigured, nil)
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		return api.ConfigStatus{Node: node, Invalid: []string{}, Unknown: []string{}, Reason: "it does not answer: " + err.Error()}
	}
	return st
}

// configured tells how far this node is with the cluster's settings.
func (s *Server) configured(c *cluster.Cluster) api.ConfigStatus {
	m := c.Metadata()
	st := api.ConfigStatus{Node: s.n.ID, Version: m.ConfigRevision, Invalid: []string{}, Unknown: []string{}}
	for name, value := range m.ClusterOverrides {
		switch err := config.CheckCluster(name, value); {
		case errors.Is(err, config.ErrUnknown):
			st.Unknown = append(st.Unknown, name)
		case err != nil:
			st.Invalid = append(st.Invalid, name)
		}
	}
	slices.Sort(st.Unknown)
	slices.Sort(st.Invalid)
	return st
}

// adminError puts a refusal of the rooms below into the admin API's words.
func adminError(err error) error {
	switch {
	case errors.Is(err, config.ErrUnknown), errors.Is(err, config.ErrInvalid):
		return fmt.Errorf("%w: %w", api.ErrInvalid, err)
	case errors.Is(err, cluster.ErrConflict), errors.Is(err, cluster.ErrFeatureLevel):
		return fmt.Errorf("%w: %w", api.ErrConflict, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", api.ErrTimedOut, err)
	}
	return err
}
