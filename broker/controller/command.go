package controller

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
)

// commandVersion is written into every command; a newer one is refused by all.
const commandVersion = 1

// commandBytesMax bounds a command: a manifest is small, modules are elsewhere.
const commandBytesMax = 8 << 20

// Command is one proposal. Exactly one of its pointers is set.
type Command struct {
	Version int      `json:"v"`
	At      int64    `json:"at"`   // ms, the proposer's clock
	Seed    [16]byte `json:"seed"` // random; ids of topics made by this command derive from it

	RegisterNode      *RegisterNode      `json:"register_node,omitempty"`
	CreateTopics      *CreateTopics      `json:"create_topics,omitempty"`
	DeleteTopics      *DeleteTopics      `json:"delete_topics,omitempty"`
	CreatePartitions  *CreatePartitions  `json:"create_partitions,omitempty"`
	SetTopicConfigs   *SetTopicConfigs   `json:"set_topic_configs,omitempty"`
	SetClusterConfigs *SetClusterConfigs `json:"set_cluster_configs,omitempty"`
	AllocateProducers *AllocateProducers `json:"allocate_producers,omitempty"`
	DeployScript      *DeployScript      `json:"deploy_script,omitempty"`
	PauseScript       *PauseScript       `json:"pause_script,omitempty"`
	SeekScript        *SeekScript        `json:"seek_script,omitempty"`
	RemoveScript      *RemoveScript      `json:"remove_script,omitempty"`
	DropScript        *DropScript        `json:"drop_script,omitempty"`

	ReassignPartitions *ReassignPartitions `json:"reassign_partitions,omitempty"`
	Moved              *Moved              `json:"moved,omitempty"`
	DecommissionNode   *DecommissionNode   `json:"decommission_node,omitempty"`
	RecommissionNode   *RecommissionNode   `json:"recommission_node,omitempty"`
	JoinNode           *JoinNode           `json:"join_node,omitempty"`
	RemoveNode         *RemoveNode         `json:"remove_node,omitempty"`
	RenewReplica       *RenewReplica       `json:"renew_replica,omitempty"`
	SetMaintenance     *SetMaintenance     `json:"set_maintenance,omitempty"`
	ForgetLost         *ForgetLost         `json:"forget_lost,omitempty"`

	ActivateFeatures *ActivateFeatures `json:"activate_features,omitempty"`
}

// RegisterNode enters a node or changes its addresses. ClusterID and Founders are
// taken only by a state that has no cluster yet: founders hold replicas before they
// have come themselves.
type RegisterNode struct {
	Node      Node           `json:"node"`
	ClusterID string         `json:"cluster_id"`
	Founders  []model.NodeID `json:"founders,omitempty"`
}

// CreateTopics creates each topic on its own: one refused does not stop others.
type CreateTopics struct {
	Topics []NewTopic `json:"topics"`
	DryRun bool       `json:"dry_run,omitempty"`
}

// NewTopic is a topic to create. Assignments, when given, holds the replicas of
// every partition in order and overrides Partitions and Replication.
type NewTopic struct {
	Name        string            `json:"name"`
	Internal    bool              `json:"internal,omitempty"`
	Partitions  int32             `json:"partitions"`
	Replication int16             `json:"replication"`
	Assignments [][]model.NodeID  `json:"assignments,omitempty"`
	Overrides   map[string]string `json:"overrides,omitempty"`
}

// DeleteTopics deletes by id; an unknown id is refused on its own.
type DeleteTopics struct {
	IDs []model.TopicID `json:"ids"`
}

// CreatePartitions grows one topic to Count, and what scripts made for it.
type CreatePartitions struct {
	ID          model.TopicID    `json:"id"`
	Count       int32            `json:"count"`
	Assignments [][]model.NodeID `json:"assignments,omitempty"` // of the added partitions
	DryRun      bool             `json:"dry_run,omitempty"`
}

// SetTopicConfigs changes overrides if the topic is still at Revision.
type SetTopicConfigs struct {
	ID       model.TopicID     `json:"id"`
	Revision uint64            `json:"revision"`
	Set      map[string]string `json:"set,omitempty"`
	Delete   []string          `json:"delete,omitempty"`
}

// SetClusterConfigs changes overrides of the cluster, or of one node, if they
// are still at Revision (State.ConfigRevision).
type SetClusterConfigs struct {
	Node     model.NodeID      `json:"node"` // NoNode: all nodes
	Revision uint64            `json:"revision"`
	Set      map[string]string `json:"set,omitempty"`
	Delete   []string          `json:"delete,omitempty"`
}

// AllocateProducers takes the next Count producer ids.
type AllocateProducers struct {
	Count int64 `json:"count"`
}

// DeployScript deploys or redeploys Script.Name. ID, Activation, Created,
// Updated and Output.Partitions are assigned by Step.
type DeployScript struct {
	Script Script           `json:"script"`
	Expect model.Activation `json:"expect"` // of the deployed one; 0: none is deployed
	DryRun bool             `json:"dry_run,omitempty"`
}

// PauseScript pauses, or resumes, without a new activation.
type PauseScript struct {
	Name   string `json:"name"`
	Paused bool   `json:"paused"`
}

// SeekScript begins a new activation at Starts.
type SeekScript struct {
	Name   string           `json:"name"`
	Expect model.Activation `json:"expect"`
	Starts []Start          `json:"starts"`
}

// RemoveScript begins the removal: Removing, under a new activation.
type RemoveScript struct {
	Name string `json:"name"`
}

// DropScript forgets a script whose children have all taken its removal.
type DropScript struct {
	Name       string           `json:"name"`
	Activation model.Activation `json:"activation"` // the removal's
}

// ReassignPartitions moves each partition on its own: one refused does not stop others.
type ReassignPartitions struct {
	Partitions []Reassignment `json:"partitions"`
}

// Reassignment asks that a partition's replicas be on Replicas, the first preferred to
// lead, instead of where they are or are on their way to. Cancel: where they were.
type Reassignment struct {
	Partition model.PartitionID `json:"partition"`
	Replicas  []model.NodeID    `json:"replicas,omitempty"`
	Cancel    bool              `json:"cancel,omitempty"`
	// Balance says why nobody but the cluster's own balance asks for it. It then holds only
	// while the partition is, or is on its way to, From, and by no other's word.
	Balance string         `json:"balance,omitempty"`
	From    []model.NodeID `json:"from,omitempty"`
}

// Moved is the word of who leads a partition: the replicas of the move of this revision
// are all in, or, when they were already, nobody else is in any more.
type Moved struct {
	Partition model.PartitionID `json:"partition"`
	Revision  uint64            `json:"revision"`
}

// DecommissionNode has a node's replicas brought to others, and gives it no more.
type DecommissionNode struct {
	Node model.NodeID `json:"node"`
}

// RecommissionNode ends that: what has not left yet stays.
type RecommissionNode struct {
	Node model.NodeID `json:"node"`
}

// ErrCommand is wrapped by every refusal to read a command.
var ErrCommand = errors.New("invalid controller command")

// Encode gives the bytes to propose.
func (c Command) Encode() ([]byte, error) {
	c.Version = commandVersion
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode controller command: %w", err)
	}
	if len(b) > commandBytesMax {
		return nil, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrCommand, len(b), commandBytesMax)
	}
	return b, nil
}

// DecodeCommand reads what Encode wrote.
func DecodeCommand(b []byte) (Command, error) {
	var c Command
	if len(b) > commandBytesMax {
		return c, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrCommand, len(b), commandBytesMax)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%w: %w", ErrCommand, err)
	}
	if c.Version < 1 || c.Version > commandVersion {
		return c, fmt.Errorf("%w: version %d, this build reads 1 to %d", ErrCommand, c.Version, commandVersion)
	}
	return c, nil
}
