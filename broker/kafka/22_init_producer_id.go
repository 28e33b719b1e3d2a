package kafka

import (
	"context"
	"sync"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId (key 22), versions 0 to 5: a new id of epoch 0 for an idempotent
// producer, whatever id it had. Transactional ids are refused until there are
// transactions.

func (s *Server) initProducerID(ctx context.Context, _ *request, m *kmsg.InitProducerIDRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.InitProducerIDResponse)
	answer.ProducerID, answer.ProducerEpoch = int64(model.NoProducer), -1
	switch {
	case m.TransactionalID != nil && *m.TransactionalID == "":
		answer.ErrorCode = codeInvalidRequest
		return answer
	case m.TransactionalID != nil:
		answer.ErrorCode = code(errTransactional)
		return answer
	}
	id, err := s.producers.next(ctx, s.o.Cluster)
	if err != nil {
		s.log.Warn("cannot take producer ids", "err", err)
		answer.ErrorCode = codeCoordinatorLoading // retriable, for the oldest clients too
		return answer
	}
	answer.ProducerID, answer.ProducerEpoch = int64(id), 0
	return answer
}

// producerIDs hands out the ids of a block and takes the next one when it is
// used up. Safe from any goroutine.
type producerIDs struct {
	mu    sync.Mutex // held while a block is taken: the others want of the same
	first model.ProducerID
	left  int64
}

func (p *producerIDs) next(ctx context.Context, from Cluster) (model.ProducerID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		ctx, cancel := context.WithTimeout(ctx, autoCreateTimeout)
		defer cancel()
		first, count, err := from.ProducerIDs(ctx)
		if err != nil {
			return model.NoProducer, err
		}
		p.first, p.left = first, count
	}
	id := p.first
	p.first++
	p.left--
	return id, nil
}
