package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders (key 43), versions 0 to 2, each partition on its own; null is all of them,
// and then those that need none are not in the answer. Any node does it. A preferred
// election has the first replica lead, and is over when it does. Version 0 knows no other.
//
// Raft elects a leader whenever a majority is there, and without one nobody could be
// elected who surely has all that was acknowledged: an unclean election is refused.

const (
	electionPreferred = 0
	electionUnclean   = 1
)

var (
	errElectionNotNeeded   = errors.New("no election is needed")
	errPreferredLeader     = errors.New("the preferred leader is not available")
	errNoEligibleLeader    = errors.New("there is no eligible leader")
	errElectionType        = errors.New("unknown election type")
	errElectionUnsupported = fmt.Errorf("%w: this broker holds no elections", errNoEligibleLeader)
)

// noElections is Options.Elect of a server that has none.
func noElections(context.Context, model.PartitionID, model.NodeID) error {
	return errElectionUnsupported
}

// election is what is asked for one partition, and its outcome.
type election struct {
	topic string
	index int32
	err   error
}

func (s *Server) electLeaders(ctx context.Context, _ *request, m *kmsg.ElectLeadersRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.ElectLeadersResponse)
	if m.Version == 0 {
		m.ElectionType = electionPreferred
	}
	if m.ElectionType != electionPreferred && m.ElectionType != electionUnclean {
		answer.ErrorCode = code(fmt.Errorf("%w: %d", errElectionType, m.ElectionType))
		return answer
	}
	ctx, cancel := adminContext(ctx, m.TimeoutMillis)
	defer cancel()
	snapshot := s.o.Cluster.Metadata()
	scripted := snapshot.Scripted()
	asked := elections(m, snapshot)
	parallel(len(asked), func(i int) {
		e := &asked[i]
		e.err = s.elect(ctx, e, m.ElectionType, scripted[e.topic])
	})
	var out *kmsg.ElectLeadersResponseTopic
	for i := range asked {
		e := &asked[i]
		if m.Topics == nil && errors.Is(e.err, errElectionNotNeeded) {
			continue
		}
		if out == nil || out.Topic != e.topic {
			answer.Topics = append(answer.Topics, kmsg.NewElectLeadersResponseTopic())
			out = &answer.Topics[len(answer.Topics)-1]
			out.Topic = e.topic
		}
		row := kmsg.NewElectLeadersResponseTopicPartition()
		row.Partition, row.ErrorCode, row.ErrorMessage = e.index, codeOfAdmin(e.err), text(e.err)
		out.Partitions = append(out.Partitions, row)
	}
	return answer
}

// elections lists what a request asks for, in its order.
func elections(m *kmsg.ElectLeadersRequest, snapshot *cluster.Metadata) (asked []election) {
	for i := range m.Topics {
		for _, index := range m.Topics[i].Partitions {
			asked = append(asked, election{topic: m.Topics[i].Topic, index: index})
		}
	}
	if m.Topics != nil {
		return asked
	}
	for _, t := range snapshot.Topics() {
		for i := range t.Partitions {
			asked = append(asked, election{topic: t.Name, index: int32(i)})
		}
	}
	return asked
}

// elect returns when the preferred replica leads, or says why it does not.
func (s *Server) elect(ctx context.Context, e *election, kind int8, scripts bool) error {
	t, err := s.topic(false, e.topic, [16]byte{})
	if err != nil {
		return err
	}
	id, err := place(t, e.index)
	if err != nil {
		return err
	}
	leader, _ := s.o.Cluster.Leader(id)
	preferred := t.Partitions[e.index].Replicas[0]
	switch {
	case kind == electionUnclean && leader != model.NoNode:
		return fmt.Errorf("%w: node %d leads %s-%d", errElectionNotNeeded, leader, e.topic, e.index)
	case kind == electionUnclean:
		return fmt.Errorf("%w: %s-%d is led again when a majority of its replicas is there; an unclean election would lose what was acknowledged",
			errNoEligibleLeader, e.topic, e.index)
	case leader == preferred:
		return fmt.Errorf("%w: node %d leads %s-%d, as it is preferred to", errElectionNotNeeded, leader, e.topic, e.index)
	case !s.o.Cluster.MayLead(preferred, scripts, 0):
		return fmt.Errorf("%w: node %d, for %s-%d, is down, in maintenance, or should not lead: see `millrace cluster health`",
			errPreferredLeader, preferred, e.topic, e.index)
	}
	return s.o.Elect(ctx, id, preferred)
}
