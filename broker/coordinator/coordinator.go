package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
)

// Options wires a Service.
type Options struct {
	Log     Log
	Cluster Cluster
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: slog.Default
	// NewID gives a fresh member id that begins with prefix, which is the client's; from
	// any goroutine. nil: a random one.
	NewID func(prefix string) string
}

// Service coordinates the groups whose partitions this node leads. Its methods
// may be called from any goroutine.
type Service struct {
	o   Options
	log *slog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	served sync.WaitGroup

	creating chan struct{} // a seat: taken while __consumer_offsets is being made

	mu     sync.Mutex // guards loops and closed; never held while waiting
	loops  map[model.PartitionID]*loop
	closed bool
}

// New gives a Service that serves nothing yet; end it with Close.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.NewID == nil {
		o.NewID = newID
	}
	s := &Service{o: o, log: o.Logger.With("room", "coordinator"), creating: make(chan struct{}, 1), loops: map[model.PartitionID]*loop{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.served.Go(s.watch)
	return s
}

// Close ends all loops; who waits is answered ErrNotCoordinator.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.served.Wait()
}

// Leadership says that this node serves a partition under Epoch, or no longer
// does. It has the fields of core.Leadership and converts from it.
type Leadership struct {
	Partition model.PartitionID
	Epoch     model.LeaderEpoch
	Serving   bool
}

// Lead takes an event of this node's own leadership, of any partition. It does
// not block.
func (s *Service) Lead(e Leadership) {
	topic, ok := s.o.Cluster.Metadata().Topic(cluster.TopicOffsets)
	if !ok || topic.ID != e.Partition.Topic {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.loops[e.Partition]
	switch {
	case s.closed, old != nil && e.Epoch < old.epoch:
		return
	case !e.Serving:
		if old != nil {
			old.cancel()
			delete(s.loops, e.Partition)
		}
		return
	case old != nil && old.epoch == e.Epoch:
		return
	case old != nil:
		old.cancel()
	}
	s.loops[e.Partition] = s.start(e, old)
}

// Partition gives the partition of __consumer_offsets that group belongs to, by
// Kafka's rule, so that tools which compute it agree.
func Partition(group string, count int32) int32 {
	h := javaHash(group)
	if h == -1<<31 {
		h = 0 // as Kafka's Utils.abs
	}
	return max(h, -h) % count
}

// Find gives the node that coordinates group, and makes __consumer_offsets on
// first use. ErrUnavailable: try again.
func (s *Service) Find(ctx context.Context, group string) (model.NodeID, error) {
	topic, ok := s.o.Cluster.Metadata().Topic(cluster.TopicOffsets)
	if !ok {
		var err error
		if topic, err = s.createTopic(ctx); err != nil {
			return model.NoNode, err
		}
	}
	id := topic.PartitionID(Partition(group, int32(len(topic.Partitions))))
	node, _ := s.o.Cluster.Leader(id)
	if node == model.NoNode {
		return node, fmt.Errorf("%w: %s-%d has no leader yet", ErrUnavailable, topic.Name, id.Index)
	}
	return node, nil
}

// offsetsBytesMax is max.message.bytes of __consumer_offsets: a group's members
// are stored in one record, all offsets of a commit in one batch.
const offsetsBytesMax = "10485760"

func (s *Service) createTopic(ctx context.Context) (*cluster.Topic, error) {
	select {
	case s.creating <- struct{}{}:
		defer func() { <-s.creating }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: create %s: %w", ErrUnavailable, cluster.TopicOffsets, ctx.Err())
	}
	m := s.o.Cluster.Metadata()
	if topic, ok := m.Topic(cluster.TopicOffsets); ok {
		return topic, nil
	}
	compact, producer := "compact", "producer"
	segment, bytesMax := fmt.Sprint(m.Cluster.OffsetsSegmentBytes), offsetsBytesMax
	results, err := s.o.Cluster.CreateTopics(ctx, []cluster.CreateTopic{{
		Name: cluster.TopicOffsets, Internal: true, Partitions: m.Cluster.OffsetsPartitions, Replication: -1,
		Configs: map[string]*string{
			"cleanup.policy": &compact, "compression.type": &producer,
			"segment.bytes": &segment, "max.message.bytes": &bytesMax,
		},
	}}, false)
	if topic, ok := s.o.Cluster.Metadata().Topic(cluster.TopicOffsets); ok {
		return topic, nil // by us, or by somebody in the meantime
	}
	if err == nil && len(results) == 1 {
		err = results[0].Err
	}
	return nil, fmt.Errorf("%w: create %s: %w", ErrUnavailable, cluster.TopicOffsets, err)
}

// loop finds the loop that hosts group here.
func (s *Service) loop(group string) (*loop, error) {
	topic, ok := s.o.Cluster.Metadata().Topic(cluster.TopicOffsets)
	if !ok {
		return nil, ErrNotCoordinator
	}
	id := topic.PartitionID(Partition(group, int32(len(topic.Partitions))))
	s.mu.Lock()
	l := s.loops[id]
	s.mu.Unlock()
	switch {
	case l == nil:
		return nil, ErrNotCoordinator
	case l.loading.Load():
		return nil, ErrLoading
	}
	return l, nil
}
