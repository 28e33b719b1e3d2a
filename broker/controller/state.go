package controller

import (
	"maps"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/model"
)

const (
	// shardFirst is the first partition's Raft group; those below are the
	// broker's own (1 is the controller's).
	shardFirst model.ShardID = 100
	// partitionsMax bounds one topic, whatever the cluster's setting allows.
	partitionsMax = 1 << 16
	// topicsPerCommandMax bounds what one command may ask.
	topicsPerCommandMax = 10_000
	// producersPerCommandMax keeps a faulty proposer from using the ids up.
	producersPerCommandMax = 1 << 20
)

// State is everything cluster-wide. Its owner is whoever calls Step. The maps
// in it are replaced or private; the records they hold never change.
type State struct {
	version   uint64
	clusterID string
	level     Level // 0: LevelFirst
	nodes     map[model.NodeID]*Node
	gone      map[model.NodeID]model.Birth // nodes that were removed
	topics    map[model.TopicID]*Topic
	names     map[string]*Topic
	scripts   map[string]*Script

	configRevision uint64
	clusterConfigs map[string]string                  // replaced, never written
	nodeConfigs    map[model.NodeID]map[string]string // inner maps likewise

	next counters
}

// counters are the next ids to give. They only grow.
type counters struct {
	Shard      model.ShardID    `json:"shard"`
	Producer   model.ProducerID `json:"producer"`
	Script     model.ScriptID   `json:"script"`
	Activation model.Activation `json:"activation"`
}

// New gives the state of a cluster that has nothing yet.
func New() *State {
	return &State{
		nodes:       map[model.NodeID]*Node{},
		gone:        map[model.NodeID]model.Birth{},
		topics:      map[model.TopicID]*Topic{},
		names:       map[string]*Topic{},
		scripts:     map[string]*Script{},
		nodeConfigs: map[model.NodeID]map[string]string{},
		next:        counters{Shard: shardFirst, Script: 1, Activation: 1},
	}
}

// clone gives a state that may be changed without changing s.
func (s *State) clone() *State {
	c := *s
	c.nodes = maps.Clone(s.nodes)
	c.gone = maps.Clone(s.gone)
	c.topics = maps.Clone(s.topics)
	c.names = maps.Clone(s.names)
	c.scripts = maps.Clone(s.scripts)
	c.nodeConfigs = maps.Clone(s.nodeConfigs)
	return &c
}

// Version grows by one with every command that changed something.
func (s *State) Version() uint64 { return s.version }

// ClusterID is empty until the first node registered.
func (s *State) ClusterID() string { return s.clusterID }

// Nodes gives the registered nodes by id.
func (s *State) Nodes() []*Node {
	return slices.SortedFunc(maps.Values(s.nodes), func(a, b *Node) int { return int(a.ID) - int(b.ID) })
}

// Topics gives the topics by name.
func (s *State) Topics() []*Topic {
	return slices.SortedFunc(maps.Values(s.topics), func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
}

// Scripts gives the scripts by name.
func (s *State) Scripts() []*Script {
	return slices.SortedFunc(maps.Values(s.scripts), func(a, b *Script) int { return strings.Compare(a.Name, b.Name) })
}

// ClusterConfigs gives the overrides of the whole cluster. Not to be written.
func (s *State) ClusterConfigs() map[string]string { return s.clusterConfigs }

// NodeConfigs gives the overrides of single nodes.
func (s *State) NodeConfigs() map[model.NodeID]map[string]string { return maps.Clone(s.nodeConfigs) }

// ConfigRevision is the version that last changed a cluster or node override.
func (s *State) ConfigRevision() uint64 { return s.configRevision }
