package admin

import (
	"context"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

// Cluster answers from the metadata snapshot and what nodes report.
type Cluster interface {
	Info(ctx context.Context) (api.ClusterInfo, error)
	Health(ctx context.Context) (api.Health, error)
	// Partitions lists those of one topic, or of all topics when topic is
	// empty, sorted by topic and index. An unknown topic is api.ErrNotFound.
	Partitions(ctx context.Context, topic string, internal bool) ([]api.PartitionInfo, error)
	// Decommission has a node's replicas brought elsewhere, Recommission ends that. They
	// return when the cluster knows; a node that it does not know is api.ErrNotFound.
	Decommission(ctx context.Context, node model.NodeID) error
	Recommission(ctx context.Context, node model.NodeID) error
	DecommissionStatus(ctx context.Context, node model.NodeID) (api.Decommission, error)
	// Moves lists the partitions that are on their way to other nodes, by topic and index.
	Moves(ctx context.Context) ([]api.Move, error)
	// SetMaintenance has a node lead nothing, or ends that; it returns when the cluster
	// knows. api.ErrConflict: its state, or another's, is in the way.
	SetMaintenance(ctx context.Context, node model.NodeID, on bool) error
	Maintenance(ctx context.Context, node model.NodeID) (api.Maintenance, error)
	Balancer
}

// Node answers for this broker alone.
type Node interface {
	Node(ctx context.Context) (api.Node, error)
	Ready() api.Ready // never blocks
}

// Configs reads and changes the cluster's settings.
type Configs interface {
	Schema() []api.ConfigRow // sorted by name
	// Values holds every setting once, sorted by name, secrets without value.
	Values(ctx context.Context) ([]api.ConfigValue, error)
	// Change is all or nothing; a bad name or value is api.ErrInvalid, with
	// every complaint in the text.
	Change(ctx context.Context, change api.ConfigChange) (api.ConfigChanged, error)
	Status(ctx context.Context) ([]api.ConfigStatus, error)
}

// Operate is what operating the cluster itself takes.
type Operate interface {
	// Features says what the cluster's nodes have in common, ActivateFeatures raises it to
	// a level, 0 being the highest that all have. A level that is too high or too low is
	// api.ErrConflict, with the nodes that stand in the way.
	Features(ctx context.Context) (api.Features, error)
	ActivateFeatures(ctx context.Context, level int) (api.Features, error)
	// StartSelfTest has nodes measure disk and network, and returns when each has begun, or
	// said in its SelfTestNode why not. SelfTest tells how it stands on every node, StopSelfTest
	// ends it on all.
	StartSelfTest(ctx context.Context, ask api.SelfTestAsk) (api.SelfTest, error)
	SelfTest(ctx context.Context) (api.SelfTest, error)
	StopSelfTest(ctx context.Context) (api.SelfTest, error)
}

// Scripts deploys, steers and describes scripts. A name that is not deployed
// is api.ErrNotFound.
type Scripts interface {
	Deploy(ctx context.Context, ask api.DeployAsk) (api.DeployAnswer, error)
	// Remove returns when all children have taken the removal.
	Remove(ctx context.Context, name string) error
	Pause(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	Seek(ctx context.Context, ask api.SeekAsk) (api.SeekAnswer, error)
	// List is sorted by name.
	List(ctx context.Context) ([]api.ScriptStatus, error)
	Describe(ctx context.Context, name string) (api.ScriptStatus, error)
	// Logs calls emit for each line, oldest first, until there is no more (or,
	// with Follow, until ctx ends) or emit returns an error, which it returns.
	Logs(ctx context.Context, ask api.LogsAsk, emit func(api.LogLine) error) error
}
