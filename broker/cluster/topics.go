package cluster

import (
	"context"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// CreateTopic asks for a topic. Assignments, when given, holds the replicas of
// partitions 0..n-1 and replaces Partitions and Replication.
type CreateTopic struct {
	Name        string
	Internal    bool  // made by the broker itself
	Partitions  int32 // -1: the cluster's default
	Replication int16 // -1: the cluster's default
	Assignments map[int32][]model.NodeID
	Configs     map[string]*string // nil: the default
}

// TopicResult is the outcome for one topic.
type TopicResult struct {
	Name  string
	ID    model.TopicID
	Topic *Topic // nil when Err is set
	Err   error
}

// CreatePartitions asks that a topic have Count partitions. Assignments, when
// given, holds the replicas of each added one.
type CreatePartitions struct {
	Name        string
	Count       int32
	Assignments [][]model.NodeID
}

// OpKind is an incremental change of one setting.
type OpKind uint8

// The kinds, with Kafka's codes. Append and Subtract are for lists.
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

var _ = controller.ErrTopicExists
var _ context.Context
