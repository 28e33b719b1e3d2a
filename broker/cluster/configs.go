package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// OpKind is an incremental change of one setting.
type OpKind uint8

// The kinds, numbered as IncrementalAlterConfigs does. Append and Subtract are
// for lists.
const (
	OpSet OpKind = iota
	OpDelete
	OpAppend
	OpSubtract
)

// ConfigOp changes one setting.
type ConfigOp struct {
	Name  string
	Kind  OpKind
	Value string
}

// overrides is what one change works on.
type overrides struct {
	scope   config.Scope
	now     map[string]string // the overrides before
	inherit map[string]string // where a list without override is read from, by row name
}

// work gives the changed settings of ops: what to set and what to delete.
func (o *overrides) work(ops []ConfigOp) (set map[string]string, remove []string, err error) {
	set = map[string]string{}
	seen := map[string]bool{}
	for _, op := range ops {
		row, err := config.Lookup(o.scope, op.Name)
		if err != nil {
			// A setting of another version may still be taken back.
			if _, there := o.now[op.Name]; op.Kind == OpDelete && there {
				remove = append(remove, op.Name)
				continue
			}
			return nil, nil, err
		}
		if seen[op.Name] {
			return nil, nil, fmt.Errorf("%w: %s is changed twice in one request", ErrInvalidConfig, op.Name)
		}
		seen[op.Name] = true
		if op.Kind == OpDelete {
			remove = append(remove, op.Name)
			continue
		}
		if set[op.Name], err = o.value(row, op); err != nil {
			return nil, nil, err
		}
	}
	return set, remove, nil
}

// value works out what a setting becomes.
func (o *overrides) value(row *config.Row, op ConfigOp) (string, error) {
	switch {
	case op.Kind == OpSet:
		return op.Value, nil
	case op.Kind != OpAppend && op.Kind != OpSubtract:
		return "", fmt.Errorf("%w of %s: no change of kind %d", ErrInvalidConfig, op.Name, op.Kind)
	case row.Kind != config.KindList:
		return "", fmt.Errorf("%w of %s: it is no list to append to or subtract from", ErrInvalidConfig, op.Name)
	}
	have, ok := o.now[op.Name]
	if !ok {
		if have, ok = o.inherit[op.Name]; !ok {
			have = row.Default
		}
	}
	items := list(have)
	for _, item := range list(op.Value) {
		if op.Kind == OpSubtract {
			items = slices.DeleteFunc(items, func(i string) bool { return i == item })
		} else if !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	return strings.Join(items, ","), nil
}

// after gives the overrides once set and remove are done.
func (o *overrides) after(set map[string]string, remove []string) map[string]string {
	next := map[string]string{}
	maps.Copy(next, o.now)
	maps.Copy(next, set)
	for _, name := range remove {
		delete(next, name)
	}
	return next
}

// AlterTopicConfigs changes a topic's overrides, all or none, and gives the
// topic as it is, or with validateOnly would be, afterwards.
func (c *Cluster) AlterTopicConfigs(ctx context.Context, topic string, ops []ConfigOp, validateOnly bool) (t *Topic, err error) {
	err = repeat(func() error {
		t, err = c.alterTopic(ctx, topic, ops, validateOnly)
		return err
	})
	return t, err
}

// ReplaceTopicConfigs makes values the topic's only overrides.
func (c *Cluster) ReplaceTopicConfigs(ctx context.Context, topic string, values map[string]string, validateOnly bool) (t *Topic, err error) {
	err = repeat(func() error {
		var now map[string]string
		if t, ok := c.Metadata().Topic(topic); ok {
			now = t.Overrides
		}
		t, err = c.alterTopic(ctx, topic, replacing(now, values), validateOnly)
		return err
	})
	return t, err
}

// replacing gives the changes that lead from now to values.
func replacing(now, values map[string]string) (ops []ConfigOp) {
	for name, v := range values {
		ops = append(ops, ConfigOp{Name: name, Kind: OpSet, Value: v})
	}
	for name := range now {
		if _, stays := values[name]; !stays {
			ops = append(ops, ConfigOp{Name: name, Kind: OpDelete})
		}
	}
	return ops
}

func (c *Cluster) alterTopic(ctx context.Context, topic string, ops []ConfigOp, validateOnly bool) (*Topic, error) {
	m := c.Metadata()
	t, ok := m.Topic(topic)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %q", ErrUnknownTopic, topic)
	case t.Internal:
		return nil, fmt.Errorf("%w: settings of %q are the broker's", ErrInternalTopic, topic)
	}
	inherit := map[string]string{}
	for _, row := range config.Rows(config.ScopeTopic) {
		if v, ok := m.effective[row.Cluster]; ok {
			inherit[row.Name] = v
		}
	}
	o := overrides{scope: config.ScopeTopic, now: t.Overrides, inherit: inherit}
	set, remove, err := o.work(ops)
	if err != nil {
		return nil, fmt.Errorf("topic %q: %w", topic, err)
	}
	next := o.after(set, remove)
	for name := range next {
		if _, asked := set[name]; !asked && config.CheckTopic(name, next[name]) != nil {
			delete(next, name) // of another version: it does not stand in the way
		}
	}
	if err := config.CheckTopicTogether(next, m.effective); err != nil {
		return nil, fmt.Errorf("topic %q: %w", topic, err)
	}
	if validateOnly {
		would := *t.record
		would.Overrides, would.Revision = next, would.Revision+1
		return m.resolved(&would), nil
	}
	r, err := c.propose(ctx, controller.Command{SetTopicConfigs: &controller.SetTopicConfigs{ID: t.ID, Revision: t.Revision, Set: set, Delete: remove}})
	if err != nil {
		return nil, err
	}
	return c.Metadata().resolved(r.Topics[0].Topic), nil
}

// AlterClusterConfigs changes settings of cluster scope, all or none: of every
// node, or with node of that one alone. NoNode means every node.
func (c *Cluster) AlterClusterConfigs(ctx context.Context, node model.NodeID, ops []ConfigOp, validateOnly bool) error {
	return repeat(func() error { return c.alterCluster(ctx, node, ops, validateOnly) })
}

// ReplaceClusterConfigs makes values the only overrides of cluster scope.
func (c *Cluster) ReplaceClusterConfigs(ctx context.Context, node model.NodeID, values map[string]string, validateOnly bool) error {
	return repeat(func() error {
		return c.alterCluster(ctx, node, replacing(c.Metadata().overridesOf(node), values), validateOnly)
	})
}

func (m *Metadata) overridesOf(node model.NodeID) map[string]string {
	if node == model.NoNode {
		return m.ClusterOverrides
	}
	return m.NodeOverrides[node]
}

func (c *Cluster) alterCluster(ctx context.Context, node model.NodeID, ops []ConfigOp, validateOnly bool) error {
	m := c.Metadata()
	o := overrides{scope: config.ScopeCluster, now: m.overridesOf(node), inherit: m.effective}
	set, remove, err := o.work(ops)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if err := config.CheckCluster(name, set[name]); err != nil {
			return err
		}
	}
	if validateOnly {
		return nil
	}
	_, err = c.propose(ctx, controller.Command{SetClusterConfigs: &controller.SetClusterConfigs{Node: node, Revision: m.ConfigRevision, Set: set, Delete: remove}})
	return err
}

// DescribeTopic gives every setting of a topic as it holds, for answers to
// clients: its override, the node's, the cluster's, the node's own, the default.
func (m *Metadata) DescribeTopic(t *Topic, node model.NodeID) []config.Value {
	return config.DescribeTopic(t.Overrides, m.layers(node)...)
}

// DescribeCluster gives every setting of cluster scope as it holds on node;
// with NoNode only what holds for every node.
func (m *Metadata) DescribeCluster(node model.NodeID) []config.Value {
	return config.DescribeCluster(m.layers(node)...)
}

func (m *Metadata) layers(node model.NodeID) []config.Layer {
	return []config.Layer{
		{Source: config.SourceNode, Values: m.NodeOverrides[node]},
		{Source: config.SourceCluster, Values: m.ClusterOverrides},
		{Source: config.SourceStatic, Values: m.Static},
	}
}
