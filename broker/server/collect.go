package server

import (
	"context"
	"strconv"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/metrics"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// scrapeWait bounds what a scrape asks of the loops.
const scrapeWait = 2 * time.Second

// collect registers what is sampled at each scrape.
func (s *Server) collect() {
	metrics.Partitions(s.registry, s.samplePartitions)
	metrics.Replication(s.registry, s.sampleReplication)
	metrics.Groups(s.registry, s.sampleGroups)
	metrics.Scripts(s.registry, s.scripts.samples)
	metrics.Peers(s.registry, s.samplePeers)
	metrics.Pulls(s.registry, s.samplePulls)
	metrics.Unfit(s.registry, s.sampleUnfit)
}

func (s *Server) samplePartitions() []metrics.PartitionSample {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWait)
	defer cancel()
	var samples []metrics.PartitionSample
	s.cores.Handles(func(h *core.Handle) bool {
		sample := metrics.PartitionSample{Topic: h.Topic, Partition: strconv.Itoa(int(h.ID.Index))}
		_, sample.Leader = h.Serving()
		err := h.Query(ctx, func(p *partition.Partition) {
			sample.LogStart, sample.High, sample.Bytes = float64(p.LogStart()), float64(p.HighWatermark()), float64(p.Bytes())
		})
		if err == nil {
			samples = append(samples, sample)
		}
		return ctx.Err() == nil
	})
	return samples
}

// sampleReplication counts what this node leads, and what nobody does of what it holds.
func (s *Server) sampleReplication() (sample metrics.ReplicationSample) {
	m := s.cluster.Metadata()
	s.cores.Handles(func(h *core.Handle) bool {
		t, ok := m.TopicByID(h.ID.Topic)
		if !ok || int(h.ID.Index) >= len(t.Partitions) {
			return true
		}
		if leader, _ := s.cluster.Reachable(h.ID); leader == model.NoNode {
			sample.Offline++
		}
		if _, serving := h.Serving(); !serving {
			return true
		}
		replicas := t.Partitions[h.ID.Index].Replicas
		in := len(s.cluster.InSync(h.ID, replicas))
		if in < len(replicas) || t.Partitions[h.ID.Index].Lacks() {
			sample.UnderReplicated++
		}
		if in < t.Config.MinInsyncReplicas && !t.Internal {
			sample.UnderMinInsync++
		}
		return true
	})
	return sample
}

// sampleGroups gives committed offsets with their lag; the high watermarks are
// those that partitions have when asked.
func (s *Server) sampleGroups() []metrics.GroupSample {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWait)
	defer cancel()
	m := s.cluster.Metadata()
	var samples []metrics.GroupSample
	committed, err := s.groups.CommittedOffsets(ctx)
	if err != nil {
		s.log.Debug("committed offsets not sampled", "err", err)
	}
	for _, c := range committed {
		sample := metrics.GroupSample{
			Group: c.Group, Topic: c.Topic, Partition: strconv.Itoa(int(c.Partition)), Offset: float64(c.Offset.Offset), Lag: -1,
		}
		if t, ok := m.Topic(c.Topic); ok {
			if h, ok := s.cores.Handle(t.PartitionID(c.Partition)); ok {
				_ = h.Query(ctx, func(p *partition.Partition) { // a lag that is not known stays -1
					sample.Lag = max(0, float64(p.HighWatermark()-c.Offset.Offset))
				})
			}
		}
		samples = append(samples, sample)
	}
	return samples
}
