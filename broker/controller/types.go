package controller

import "github.com/millrace-io/millrace/broker/model"

// Node is a registered broker. Ports are 0 where a listener is off. A founder that
// has not come yet has an id alone.
type Node struct {
	ID    model.NodeID `json:"id"`
	Host  string       `json:"host"` // told to Kafka clients of the listener without a name; none: as the first of Listeners
	Port  int32        `json:"port"`
	Rack  string       `json:"rack,omitempty"`
	Admin string       `json:"admin,omitempty"` // HOST:PORT
	RPC   string       `json:"rpc,omitempty"`   // HOST:PORT
	State NodeState    `json:"state,omitempty"`
	// Version and Level are its build's, Disk names its data directory, and Birth counts those
	// that it had before: it is that of the node's replica of the controller's group.
	// Registration changes no birth. All are nothing while the cluster is at the first level.
	Version string      `json:"version,omitempty"`
	Level   Level       `json:"level,omitempty"`
	Disk    string      `json:"disk,omitempty"`
	Birth   model.Birth `json:"birth,omitempty"`
	// Listeners are those that have a name. Never changed once handed out.
	Listeners []Listener `json:"listeners,omitempty"`
}

// Listener is what Kafka clients of the listener of that name are told of a node.
type Listener struct {
	Name string `json:"name"`
	Host string `json:"host"`
	Port int32  `json:"port"`
}

// At gives the node's address for clients that come in by the listener of that name, on
// any node. ok is false when this one has no such listener.
func (n *Node) At(listener string) (host string, port int32, ok bool) {
	if listener == "" {
		return n.Host, n.Port, n.Host != ""
	}
	for _, l := range n.Listeners {
		if l.Name == listener {
			return l.Host, l.Port, true
		}
	}
	return "", 0, false
}

// Come tells whether the node has registered itself.
func (n *Node) Come() bool { return n.RPC != "" || n.Host != "" || n.Admin != "" }

// Partition is one partition's place. Index is its position in the topic.
type Partition struct {
	Index    int32          `json:"index"`
	Shard    model.ShardID  `json:"shard"`
	Replicas []model.NodeID `json:"replicas"`
	// Births are those of Replicas, in their order; none: all are 0.
	Births []model.Birth `json:"births,omitempty"`
	// Born is the last birth that was given here, and Moved the version of the state that
	// last put others into Replicas than the partition was made with; 0: never.
	Born  model.Birth `json:"born,omitempty"`
	Moved uint64      `json:"moved,omitempty"`
	Move  *Move       `json:"move,omitempty"`
	// Lost: its only replica was on a disk that is gone. Nothing can be read or written.
	Lost bool `json:"lost,omitempty"`
}

// Topic is a topic's record. It is never changed once handed out.
type Topic struct {
	Name       string            `json:"name"`
	ID         model.TopicID     `json:"id"`
	Internal   bool              `json:"internal,omitempty"`
	Partitions []Partition       `json:"partitions"`
	Overrides  map[string]string `json:"overrides,omitempty"`
	Revision   uint64            `json:"revision"`           // version of the state that last changed it
	MadeFor    model.ScriptID    `json:"made_for,omitempty"` // the script whose output it was created as; it grows with that script's inputs
}

// PartitionID gives the identity of the partition at index.
func (t *Topic) PartitionID(index int32) model.PartitionID {
	return model.PartitionID{Topic: t.ID, Index: index}
}

// Replication is the replica count of partition 0, which the others share
// unless an assignment said otherwise.
func (t *Topic) Replication() int16 { return int16(len(t.Partitions[0].Replicas)) }

// Mode is how a script is bound to its inputs.
type Mode string

// The modes.
const (
	ModeAsync Mode = "async" // child topics
	ModeSync  Mode = "sync"  // in the produce path
)

// Output is one declared output of an async script.
type Output struct {
	Topic      string            `json:"topic"`
	Partitions int32             `json:"partitions"` // count used for routing in this activation; 0 until the topic is made
	DLQ        bool              `json:"dlq,omitempty"`
	Overrides  map[string]string `json:"overrides,omitempty"` // configs of the topic, if it has to be made
}

// Start is where a script begins in one parent partition.
type Start struct {
	Parent model.PartitionID `json:"parent"`
	Offset model.Offset      `json:"offset"`
}

// Script is a deployed script's record. It is never changed once handed out.
type Script struct {
	ID           model.ScriptID   `json:"id"`
	Name         string           `json:"name"`
	Activation   model.Activation `json:"activation"`
	Digest       model.Digest     `json:"digest"`
	Mode         Mode             `json:"mode"`
	Inputs       []string         `json:"inputs"`
	Outputs      []Output         `json:"outputs,omitempty"`
	Manifest     []byte           `json:"manifest"`         // canonical
	ByKey        bool             `json:"by_key,omitempty"` // routes by key: an existing output may have any partition count
	AllowMissing bool             `json:"allow_missing,omitempty"`
	Paused       bool             `json:"paused,omitempty"`
	Keep         bool             `json:"keep,omitempty"`   // children keep the source offset they have in an activation of at least KeepFrom
	KeepFrom     model.Activation `json:"keep_from"`        // the last activation that set offsets; a child older than it takes StartOf instead
	Starts       []Start          `json:"starts,omitempty"` // resolved, as of KeepFrom; parent partitions not listed start at 0
	Removing     bool             `json:"removing,omitempty"`
	Fault        string           `json:"fault,omitempty"` // why it cannot run as bound; cleared by a redeploy, or a resume once it fits again
	Created      int64            `json:"created"`         // ms
	Updated      int64            `json:"updated"`         // ms
}

// StartOf gives where the script begins in parent; 0 when Starts does not list it.
func (s *Script) StartOf(parent model.PartitionID) model.Offset {
	for _, st := range s.Starts {
		if st.Parent == parent {
			return st.Offset
		}
	}
	return 0
}
