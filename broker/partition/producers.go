package partition

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

const (
	// seenMax is how many batches per producer are known again, as in Kafka: clients
	// keep at most that many in flight.
	seenMax = 5
	// producersMax bounds the producers that a partition knows; beyond it the ones
	// that wrote longest ago are forgotten, an eighth at once. Part of the format:
	// every replica must forget the same.
	producersMax = 1 << 16
)

// ProducerState describes an idempotent producer.
type ProducerState struct {
	Producer         model.ProducerID
	Epoch            int16
	LastSequence     int32 // NoSequence when none is known in this epoch
	LastOffset       model.Offset
	LastTimestamp    int64        // milliseconds
	TransactionStart model.Offset // NoOffset when none is open
}

// AbortedTxn is an aborted transaction: Last is its marker's offset.
type AbortedTxn struct {
	Producer    model.ProducerID
	First, Last model.Offset
}

// seen is a batch that can be recognised when it comes again.
type seen struct {
	first, last int32 // sequences
	base        model.Offset
	appendTime  int64
}

// producer is what the log says of one producer.
type producer struct {
	epoch    int16
	count    uint8 // of batches
	batches  [seenMax]seen
	last     model.Offset
	time     int64
	txnStart model.Offset
}

func (p *producer) lastSequence() int32 {
	if p.count == 0 {
		return record.NoSequence
	}
	return p.batches[p.count-1].last
}

// note remembers a batch that was appended at base.
func (p *producer) note(b record.Batch, base model.Offset) {
	if p.epoch != b.ProducerEpoch() {
		p.epoch, p.count = b.ProducerEpoch(), 0
	}
	if p.count == seenMax {
		copy(p.batches[:], p.batches[1:])
		p.count--
	}
	p.batches[p.count] = seen{b.BaseSequence(), b.LastSequence(), base, appendTime(b)}
	p.count++
	p.last = base + model.Offset(b.LastOffsetDelta())
	p.time = b.MaxTimestamp()
}

// judge tells whether a batch may follow what the producer wrote. A batch among
// the last seenMax gives its old outcome.
func (p *producer) judge(b record.Batch) (known *seen, err error) {
	first, last := b.BaseSequence(), b.LastSequence()
	switch {
	case b.ProducerEpoch() < p.epoch:
		return nil, fmt.Errorf("%w: producer %d has epoch %d, the batch has %d", ErrProducerFenced, b.ProducerID(), p.epoch, b.ProducerEpoch())
	case b.ProducerEpoch() > p.epoch:
		if first != 0 {
			return nil, fmt.Errorf("%w: producer %d begins epoch %d with %d", ErrOutOfOrderSequence, b.ProducerID(), b.ProducerEpoch(), first)
		}
		return nil, nil
	case p.count == 0:
		return nil, nil
	}
	for i := range p.batches[:p.count] {
		if s := &p.batches[i]; s.first == first && s.last == last {
			return s, nil
		}
	}
	want := record.AddSequence(p.lastSequence(), 1)
	if first == want {
		return nil, nil
	}
	if sequenceBefore(first, want) {
		return nil, fmt.Errorf("%w: producer %d sent %d, the next is %d", ErrDuplicateSequence, b.ProducerID(), first, want)
	}
	return nil, fmt.Errorf("%w: producer %d sent %d, the next is %d", ErrOutOfOrderSequence, b.ProducerID(), first, want)
}

// sequenceBefore compares sequences that wrap: a is before b if it is less than
// half the circle behind it.
func sequenceBefore(a, b int32) bool {
	behind := (int64(b) - int64(a) + math.MaxInt32 + 1) % (math.MaxInt32 + 1)
	return behind > 0 && behind <= math.MaxInt32/2
}

func appendTime(b record.Batch) int64 {
	if b.LogAppendTime() {
		return b.MaxTimestamp()
	}
	return record.NoTimestamp
}

// producers is all that a partition knows of them.
type producers struct {
	byID map[model.ProducerID]*producer
	open map[model.ProducerID]model.Offset // where each open transaction began
	low  model.Offset                      // the least of open, while there is one
}

// stable is the last stable offset of a log that ends at end.
func (p *producers) stable(end model.Offset) model.Offset {
	if len(p.open) == 0 {
		return end
	}
	return p.low
}

// of gives a producer, making it if need be.
func (p *producers) of(b record.Batch) *producer {
	pr := p.byID[b.ProducerID()]
	if pr == nil {
		if p.byID == nil {
			p.byID = map[model.ProducerID]*producer{}
		}
		if len(p.byID) >= producersMax {
			p.evict()
		}
		pr = &producer{epoch: b.ProducerEpoch(), last: model.NoOffset, txnStart: model.NoOffset, time: record.NoTimestamp}
		p.byID[b.ProducerID()] = pr
	}
	return pr
}

// evict forgets the producers that wrote longest ago and have no transaction open.
func (p *producers) evict() {
	ids := slices.DeleteFunc(p.ids(), func(id model.ProducerID) bool { return p.byID[id].txnStart != model.NoOffset })
	slices.SortStableFunc(ids, func(a, b model.ProducerID) int { return cmp.Compare(p.byID[a].last, p.byID[b].last) })
	for _, id := range ids[:min(len(ids), producersMax/8)] {
		delete(p.byID, id)
	}
}

// note remembers a batch of data that was appended at base.
func (p *producers) note(b record.Batch, base model.Offset) {
	pr := p.of(b)
	pr.note(b, base)
	if b.Transactional() && pr.txnStart == model.NoOffset {
		pr.txnStart = base
		p.begin(b.ProducerID(), base)
	}
}

// finish ends a producer's transaction with the marker b, appended at base, and
// tells where it began; NoOffset when none was open.
func (p *producers) finish(b record.Batch, base model.Offset) model.Offset {
	pr := p.of(b)
	if b.ProducerEpoch() > pr.epoch {
		pr.epoch, pr.count = b.ProducerEpoch(), 0 // the next transaction begins at sequence 0
	}
	pr.last, pr.time = base, b.MaxTimestamp()
	first := pr.txnStart
	if first == model.NoOffset {
		return first
	}
	pr.txnStart = model.NoOffset
	delete(p.open, b.ProducerID())
	p.low = model.OffsetMax
	for _, start := range p.open {
		p.low = min(p.low, start)
	}
	return first
}

// begin notes that a producer's transaction began at start.
func (p *producers) begin(id model.ProducerID, start model.Offset) {
	if len(p.open) == 0 {
		p.open, p.low = map[model.ProducerID]model.Offset{}, start
	}
	p.open[id] = start
	p.low = min(p.low, start)
}

func (p *producers) ids() []model.ProducerID { return slices.Sorted(maps.Keys(p.byID)) }

// expire forgets e's producer, unless it has written since or is in a transaction.
func (p *producers) expire(e Expired) {
	pr := p.byID[e.Producer]
	if pr != nil && pr.last <= e.LastOffset && pr.txnStart == model.NoOffset {
		delete(p.byID, e.Producer)
	}
}

// Producer describes one idempotent producer; false if the log knows none of that id.
func (p *Partition) Producer(id model.ProducerID) (ProducerState, bool) {
	pr, ok := p.producers.byID[id]
	if !ok {
		return ProducerState{}, false
	}
	return ProducerState{id, pr.epoch, pr.lastSequence(), pr.last, pr.time, pr.txnStart}, true
}

// Producers describes every known producer, ascending by id.
func (p *Partition) Producers() []ProducerState {
	states := make([]ProducerState, 0, len(p.producers.byID))
	for _, id := range p.producers.ids() {
		pr := p.producers.byID[id]
		states = append(states, ProducerState{id, pr.epoch, pr.lastSequence(), pr.last, pr.time, pr.txnStart})
	}
	return states
}

// ExpiredProducers lists producers whose newest record is older than before, in
// milliseconds, for the leader to propose as KindExpire where it knows them to be idle:
// a record is as old as its writer says.
func (p *Partition) ExpiredProducers(before int64) []Expired {
	var expired []Expired
	for _, id := range p.producers.ids() {
		pr := p.producers.byID[id]
		if pr.time < before && pr.txnStart == model.NoOffset {
			expired = append(expired, Expired{id, pr.last})
		}
	}
	return expired
}

// CheckProduce answers before a batch is proposed what is already certain: a known
// duplicate gives its old outcome, a fenced epoch ErrProducerFenced. Everything
// else, gaps too, is judged by Apply: batches before this one may be on their way.
func (p *Partition) CheckProduce(header record.Batch) (outcome BatchOutcome, known bool, err error) {
	pr := p.producers.byID[header.ProducerID()]
	if header.ProducerID() == model.NoProducer || pr == nil {
		return BatchOutcome{}, false, nil
	}
	if header.ProducerEpoch() < pr.epoch {
		_, err := pr.judge(header)
		return BatchOutcome{Base: model.NoOffset, Err: err}, true, err
	}
	if old, _ := pr.judge(header); old != nil {
		return BatchOutcome{Base: old.base, AppendTime: old.appendTime, Duplicate: true}, true, nil
	}
	return BatchOutcome{}, false, nil
}
