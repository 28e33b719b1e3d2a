package kafka

import (
	"context"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
)

// Cluster is what this front asks of broker/cluster.
type Cluster interface {
	Metadata() *cluster.Metadata
	Leader(id model.PartitionID) (model.NodeID, model.LeaderEpoch)
	Reachable(id model.PartitionID) (model.NodeID, model.LeaderEpoch)
	InSync(id model.PartitionID, replicas []model.NodeID) []model.NodeID
	Gone(node model.NodeID) bool
	MayLead(node model.NodeID, scripts bool, since time.Duration) bool
	CreateTopics(ctx context.Context, asks []cluster.CreateTopic, validateOnly bool) ([]cluster.TopicResult, error)
	DeleteTopics(ctx context.Context, refs []cluster.TopicRef) ([]cluster.TopicResult, error)
	CreatePartitions(ctx context.Context, ask cluster.CreatePartitions, validateOnly bool) (*cluster.Topic, error)
	AlterTopicConfigs(ctx context.Context, topic string, ops []cluster.ConfigOp, validateOnly bool) (*cluster.Topic, error)
	ReplaceTopicConfigs(ctx context.Context, topic string, values map[string]string, validateOnly bool) (*cluster.Topic, error)
	AlterClusterConfigs(ctx context.Context, node model.NodeID, ops []cluster.ConfigOp, validateOnly bool) error
	ReplaceClusterConfigs(ctx context.Context, node model.NodeID, values map[string]string, validateOnly bool) error
	Reassign(ctx context.Context, asks []cluster.Reassignment) ([]error, error)
	ProducerIDs(ctx context.Context) (first model.ProducerID, count int64, err error)
}

// Producer is what this front asks of broker/produce; see FromProduce.
type Producer interface {
	Start(ask produce.Ask) Pending
	Trim(ctx context.Context, id model.PartitionID, to model.Offset) (logStart model.Offset, err error)
}

// Pending is a produce under way, as of one partition.
type Pending interface {
	Done() <-chan struct{}
	Result() produce.Result
}

// Fetcher is what this front asks of broker/fetch.
type Fetcher interface {
	Fetch(ctx context.Context, ask fetch.Ask) []fetch.PartitionAnswer
	ListOffset(ctx context.Context, ask fetch.ListAsk) (fetch.ListAnswer, error)
	EpochEnd(ctx context.Context, id model.PartitionID, current, wanted model.LeaderEpoch) (model.LeaderEpoch, model.Offset, error)
	Describe(ctx context.Context, id model.PartitionID) (fetch.PartitionState, error)
}

// FromProduce makes a Producer of the service.
func FromProduce(s *produce.Service) Producer { return producerService{s} }

type producerService struct{ *produce.Service }

// Start begins a write; see produce.Service.
func (p producerService) Start(ask produce.Ask) Pending { return p.Service.Start(ask) }

var _ Fetcher = (*fetch.Service)(nil)

var _ Cluster = (*cluster.Cluster)(nil)

// Disk tells about the device under the data directory, for DescribeLogDirs.
type Disk struct {
	Dir           string
	Total, Usable int64 // bytes; -1 when not known
}
