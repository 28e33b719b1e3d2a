package kafka

import (
	"slices"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
)

// As Kafka does, clients are told of brokers that are there; replicas on others are
// listed as offline, under ids that stand for no broker of the answer.

// brokers are the nodes that clients are told of, this one always; fenced: those that
// are gone, too.
func (s *Server) brokers(m *cluster.Metadata, fenced bool) []cluster.Node {
	return slices.DeleteFunc(m.Brokers(), func(n cluster.Node) bool { return !fenced && s.o.Cluster.Gone(n.ID) })
}

// whereabouts is where a partition is, as Metadata and DescribeTopicPartitions tell it.
type whereabouts struct {
	code                   int16
	leader                 model.NodeID
	epoch                  model.LeaderEpoch
	replicas, isr, offline []int32
}

func (s *Server) whereabouts(r *request, m *cluster.Metadata, t *cluster.Topic, p *cluster.Partition) whereabouts {
	id, holders := t.PartitionID(p.Index), p.Holders()
	w := whereabouts{replicas: int32s(holders), isr: int32s(s.o.Cluster.InSync(id, p.Replicas)), offline: r.unseen(m, holders)}
	leader, epoch := s.o.Cluster.Reachable(id)
	w.leader, w.code = r.leading(m, leader)
	w.epoch = epoch
	for _, n := range holders {
		if s.o.Cluster.Gone(n) && r.sees(m, n) {
			w.offline = append(w.offline, int32(n))
		}
	}
	return w
}
