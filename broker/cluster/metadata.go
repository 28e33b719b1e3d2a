package cluster

import (
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// Node is a registered broker.
type Node = controller.Node

// Partition is one partition's place.
type Partition = controller.Partition

// Topic is a topic with its resolved settings. It never changes.
type Topic struct {
	Name        string
	ID          model.TopicID
	Internal    bool
	Partitions  []Partition
	Overrides   map[string]string // of this topic alone; not to be written
	Config      config.Topic
	Revision    uint64
	MadeFor     model.ScriptID
	SyncScripts []*controller.Script // in order of name

	record *controller.Topic
}

// PartitionID gives the identity of the partition at index.
func (t *Topic) PartitionID(index int32) model.PartitionID {
	return model.PartitionID{Topic: t.ID, Index: index}
}

// Metadata is the cluster at one version. It never changes.
type Metadata struct {
	ClusterID        string
	Version          uint64
	Level            controller.Level             // what all nodes know: see controller.Features
	Controller       model.NodeID                 // who leads the controller's shard; NoNode while unknown
	Nodes            []Node                       // by id
	Gone             map[model.NodeID]model.Birth // nodes that were removed. Not to be written
	Cluster          config.Cluster
	ClusterOverrides map[string]string                  // not to be written
	NodeOverrides    map[model.NodeID]map[string]string // not to be written
	Static           map[string]string                  // this node's own cluster settings; overrides win. Not to be written
	ConfigRevision   uint64

	effective map[string]string // Static, ClusterOverrides, this node's overrides, merged
	topics    []*Topic          // by name
	byName    map[string]*Topic
	byID      map[model.TopicID]*Topic
	scripts   []*controller.Script // by name
}

// Topic finds a topic by name.
func (m *Metadata) Topic(name string) (*Topic, bool) {
	t, ok := m.byName[name]
	return t, ok
}

// TopicByID finds a topic by its id.
func (m *Metadata) TopicByID(id model.TopicID) (*Topic, bool) {
	t, ok := m.byID[id]
	return t, ok
}

// Topics gives all topics, sorted by name. Not to be written.
func (m *Metadata) Topics() []*Topic { return m.topics }

// Scripts gives all scripts, sorted by name. Not to be written.
func (m *Metadata) Scripts() []*controller.Script { return m.scripts }

// Script finds a script by name.
func (m *Metadata) Script(name string) (*controller.Script, bool) {
	i, ok := slices.BinarySearchFunc(m.scripts, name, func(s *controller.Script, n string) int {
		return strings.Compare(s.Name, n)
	})
	if !ok {
		return nil, false
	}
	return m.scripts[i], true
}

// Node finds a node by id.
func (m *Metadata) Node(id model.NodeID) (Node, bool) {
	i, ok := slices.BinarySearchFunc(m.Nodes, id, func(n Node, id model.NodeID) int { return int(n.ID) - int(id) })
	if !ok {
		return Node{}, false
	}
	return m.Nodes[i], true
}

// Brokers gives the nodes that Kafka clients can connect to, by id.
func (m *Metadata) Brokers() []Node {
	reachable := make([]Node, 0, len(m.Nodes))
	for _, n := range m.Nodes {
		if n.Host != "" {
			reachable = append(reachable, n)
		}
	}
	return reachable
}

// Effective gives the cluster settings that hold on this node, without
// defaults. Not to be written.
func (m *Metadata) Effective() map[string]string { return m.effective }

// Partition finds a partition's place.
func (m *Metadata) Partition(id model.PartitionID) (Partition, bool) {
	t, ok := m.byID[id.Topic]
	if !ok || id.Index < 0 || int(id.Index) >= len(t.Partitions) {
		return Partition{}, false
	}
	return t.Partitions[id.Index], true
}
