package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
)

// topic finds a topic by id or by name, as the request's version has it.
func (s *Server) topic(byID bool, name string, id [16]byte) (*cluster.Topic, error) {
	m := s.o.Cluster.Metadata()
	if byID {
		if t, ok := m.TopicByID(id); ok {
			return t, nil
		}
		return nil, fmt.Errorf("%w: %s", errUnknownTopicID, model.TopicID(id))
	}
	if t, ok := m.Topic(name); ok {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %q", cluster.ErrUnknownTopic, name)
}

// errUnknownPartition says that a topic has no partition of that index.
var errUnknownPartition = errors.New("topic has no such partition")

// place checks that a topic has a partition. One that it has and that the rooms
// below do not know is being started: another try is right, and NOT_LEADER says
// so to clients that give up soon on what is unknown.
func place(t *cluster.Topic, index int32) (model.PartitionID, error) {
	if index < 0 || int(index) >= len(t.Partitions) {
		return model.PartitionID{}, fmt.Errorf("%w: %s-%d", errUnknownPartition, t.Name, index)
	}
	return t.PartitionID(index), nil
}

const (
	adminTimeoutMin = time.Second // clients that send 0 mean "do not make me wait", not "fail"
	adminTimeoutMax = 5 * time.Minute
	// autoCreateTimeout bounds what a metadata request waits for its new topics.
	autoCreateTimeout = 10 * time.Second
)

// adminContext bounds a change by the time its client allows for it.
func adminContext(ctx context.Context, millis int32) (context.Context, context.CancelFunc) {
	d := time.Duration(millis) * time.Millisecond
	return context.WithTimeout(ctx, min(max(d, adminTimeoutMin), adminTimeoutMax))
}

// parallelMax bounds how many partitions of one request are asked at a time.
const parallelMax = 16

// parallel calls f with 0 to n-1, several at a time, and waits for all.
func parallel(n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	next := make(chan int)
	var wait sync.WaitGroup
	for range min(n, parallelMax) {
		wait.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wait.Wait()
}

const (
	// operationsUnknown says that authorized operations were not asked for.
	operationsUnknown = math.MinInt32
	// Everything is allowed to everyone until there are ACLs. The bits are Kafka's
	// operation codes that make sense for the resource.
	operationsTopic   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	operationsCluster = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

func operations(asked bool, all int32) int32 {
	if asked {
		return all
	}
	return operationsUnknown
}

func int32s(nodes []model.NodeID) []int32 {
	out := make([]int32, len(nodes))
	for i, n := range nodes {
		out[i] = int32(n)
	}
	return out
}
