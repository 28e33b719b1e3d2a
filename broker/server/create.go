package server

import (
	"context"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
)

// newTopicWait bounds how long a creation waits for the first elections. A lone
// replica takes 0.6 to 1.2 s: tools that create and at once use a topic would
// meet LEADER_NOT_AVAILABLE.
const newTopicWait = 3 * time.Second

// kafkaCluster is the cluster as clients change it: a topic that was created
// has leaders when they are told.
type kafkaCluster struct{ *cluster.Cluster }

// CreateTopics is cluster's, and waits for leaders.
func (k kafkaCluster) CreateTopics(ctx context.Context, asks []cluster.CreateTopic, validateOnly bool) ([]cluster.TopicResult, error) {
	results, err := k.Cluster.CreateTopics(ctx, asks, validateOnly)
	if err != nil || validateOnly {
		return results, err
	}
	var made []*cluster.Topic
	for _, r := range results {
		if r.Err == nil && r.Topic != nil {
			made = append(made, r.Topic)
		}
	}
	k.awaitLeaders(ctx, made...)
	return results, nil
}

// CreatePartitions is cluster's, and waits for leaders.
func (k kafkaCluster) CreatePartitions(ctx context.Context, ask cluster.CreatePartitions, validateOnly bool) (*cluster.Topic, error) {
	t, err := k.Cluster.CreatePartitions(ctx, ask, validateOnly)
	if err == nil && !validateOnly {
		k.awaitLeaders(ctx, t)
	}
	return t, err
}

func (k kafkaCluster) awaitLeaders(ctx context.Context, topics ...*cluster.Topic) {
	ctx, cancel := context.WithTimeout(ctx, newTopicWait)
	defer cancel()
	tick := time.NewTicker(leadersCheck)
	defer tick.Stop()
	for _, t := range topics {
		for _, p := range t.Partitions {
			for {
				if leader, _ := k.Leader(t.PartitionID(p.Index)); leader != model.NoNode {
					break
				}
				if _, ok := k.Metadata().TopicByID(t.ID); !ok {
					break // deleted meanwhile
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return // they will have leaders a little later
				}
			}
		}
	}
}
