package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Produce (key 0), versions 3 to 13; 0 to 2 are advertised, as Kafka does for
// the sake of old libraries, and answered UNSUPPORTED_VERSION.
//
// Every partition is started in order and the answer queued: the connection goes
// on reading. acks=1 means all, but for min.insync.replicas, which holds for acks=all
// only. acks=0 is not answered; a failure then closes
// the connection. Topics are named by id from version 13 on. From version 10 on
// NOT_LEADER comes with the leader.

// produceVersionMin is the oldest version whose records have today's format.
const produceVersionMin = 3

// acksAll is how acks=all is written.
const acksAll = -1

// produceTimeoutMax bounds what a client may ask the log to wait.
const produceTimeoutMax = 5 * time.Minute

var (
	errOldProduce    = errors.New("produce before version 3 carries message formats 0 and 1, which are not taken")
	errAcks          = errors.New("acks must be -1, 0 or 1")
	errTransactional = errors.New("transactions are not available yet")
	errInternal      = errors.New("topic belongs to the broker and takes no writes of clients")
	errControl       = errors.New("clients may not write control batches")
)

// produced is a produce under way: the answer so far and what is awaited.
type produced struct {
	server *Server
	r      *request
	answer *kmsg.ProduceResponse
	parts  []producedPart
	failed bool // a partition was refused at once
}

// producedPart is one partition that was started. at is its place in the answer.
type producedPart struct {
	topic, at int
	id        model.PartitionID
	pending   Pending
}

func (s *Server) produce(r *request, m *kmsg.ProduceRequest) (pending, error) {
	p := &produced{server: s, r: r, answer: m.ResponseKind().(*kmsg.ProduceResponse)}
	r.silent = m.Acks == 0
	refusal := refuseProduce(m)
	timeout := min(max(0, time.Duration(m.TimeoutMillis)*time.Millisecond), produceTimeoutMax)
	p.answer.Topics = make([]kmsg.ProduceResponseTopic, len(m.Topics))
	for i := range m.Topics {
		t := &m.Topics[i]
		a := &p.answer.Topics[i]
		a.Topic, a.TopicID = t.Topic, t.TopicID
		a.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(t.Partitions))
		topic, err := s.producible(m.Version, t, refusal)
		for j := range t.Partitions {
			out := &a.Partitions[j]
			out.Default()
			out.Partition, out.BaseOffset, out.LogStartOffset = t.Partitions[j].Partition, -1, -1
			part := producedPart{topic: i, at: j}
			err := err
			if err == nil {
				part.id, err = place(topic, out.Partition)
			}
			if err == nil {
				err = refuseRecords(t.Partitions[j].Records)
			}
			if err != nil {
				p.refuse(part, err)
				continue
			}
			part.pending = s.o.Produce.Start(produce.Ask{Partition: part.id, Records: t.Partitions[j].Records, Timeout: timeout, All: m.Acks == acksAll})
			p.parts = append(p.parts, part)
		}
	}
	return p, nil
}

// refuseProduce checks what concerns the request as a whole.
func refuseProduce(m *kmsg.ProduceRequest) error {
	switch {
	case m.Version < produceVersionMin:
		return errOldProduce
	case m.Acks < acksAll || m.Acks > 1:
		return fmt.Errorf("%w, not %d", errAcks, m.Acks)
	case m.TransactionID != nil:
		return errTransactional
	}
	return nil
}

// producible resolves the topic of a part of the request.
func (s *Server) producible(version int16, t *kmsg.ProduceRequestTopic, refusal error) (*cluster.Topic, error) {
	if refusal != nil {
		return nil, refusal
	}
	topic, err := s.topic(version >= 13, t.Topic, t.TopicID)
	switch {
	case err != nil:
		return nil, err
	case topic.Internal:
		return nil, fmt.Errorf("%w: %q", errInternal, topic.Name)
	}
	return topic, nil
}

// refuseRecords looks at what only a transaction may write; all else about
// records is produce's to judge.
func refuseRecords(b []byte) error {
	batch := record.Batch(b)
	switch {
	case len(b) < record.HeaderSize || batch.Magic() != 2:
		return nil
	case batch.Transactional():
		return errTransactional
	case batch.Control():
		return errControl
	}
	return nil
}

func (p *produced) done() bool {
	for i := range p.parts {
		select {
		case <-p.parts[i].pending.Done():
		default:
			return false
		}
	}
	return true
}

// response waits for every partition.
func (p *produced) response() (kmsg.Response, error) {
	for _, part := range p.parts {
		result := part.pending.Result()
		if result.Err != nil {
			p.refuse(part, result.Err)
		}
		out := p.out(part)
		out.BaseOffset, out.LogAppendTime, out.LogStartOffset = int64(result.Base), result.AppendTime, int64(result.LogStart)
		for _, e := range result.RecordErrors {
			out.ErrorRecords = append(out.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{
				RelativeOffset: e.Index, ErrorMessage: kmsg.StringPtr(e.Text),
			})
		}
	}
	if p.r.silent && p.failed {
		return nil, errSilent
	}
	return p.answer, nil
}

func (p *produced) out(part producedPart) *kmsg.ProduceResponseTopicPartition {
	return &p.answer.Topics[part.topic].Partitions[part.at]
}

// refuse answers a partition with err.
func (p *produced) refuse(part producedPart, err error) {
	p.failed = true
	out := p.out(part)
	out.ErrorCode, out.ErrorMessage = codeOfProduce(err), text(err)
	if out.ErrorCode != codeNotLeaderOrFollower || p.r.version < 10 {
		return
	}
	node, epoch := p.server.o.Cluster.Leader(part.id)
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = int32(node), int32(epoch)
	n, ok := p.server.o.Cluster.Metadata().Node(node)
	if ok {
		n, ok = p.r.seen(n)
	}
	if ok && !hasBroker(p.answer.Brokers, n.ID) {
		b := kmsg.NewProduceResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(n.ID), n.Host, n.Port, rack(n.Rack)
		p.answer.Brokers = append(p.answer.Brokers, b)
	}
}

func hasBroker(brokers []kmsg.ProduceResponseBroker, id model.NodeID) bool {
	for i := range brokers {
		if brokers[i].NodeID == int32(id) {
			return true
		}
	}
	return false
}

func rack(name string) *string {
	if name == "" {
		return nil
	}
	return &name
}
