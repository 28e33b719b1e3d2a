package produce

import (
	"fmt"
	"math"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

// sequenced names a batch of an idempotent producer. The zero one is of nobody.
type sequenced struct {
	producer model.ProducerID
	epoch    int16
	first    int32
	valid    bool
}

// sequencedOf reads what a batch's header says, however broken the rest may be.
func sequencedOf(records []byte) sequenced {
	b := record.Batch(records)
	if len(b) < record.HeaderSize || b.Magic() != 2 || b.ProducerID() < 0 || b.BaseSequence() < 0 {
		return sequenced{}
	}
	return sequenced{producer: b.ProducerID(), epoch: b.ProducerEpoch(), first: b.BaseSequence(), valid: true}
}

// gapsMax is how many producers a partition waits for at once to send a refused
// batch again; beyond it the one waited for longest is forgotten.
const gapsMax = 1024

// gapKeep is how long a gap stays open. What was in flight when the batch was
// refused has arrived by then; a producer that went on elsewhere may return later.
const gapKeep = time.Minute

// gaps are the batches that were refused here and not sent again yet. Clients
// keep several in flight: one that follows a refused batch would be written before
// it, and where the log does not know the producer yet, apply would take it; the
// refused one would then be called a duplicate and be lost. Owned by a lane.
type gaps struct {
	byProducer map[model.ProducerID]gap
}

// gap is the least sequence that was refused in an epoch.
type gap struct {
	epoch int16
	first int32
	at    time.Time
}

// check refuses what follows a gap. The batch that fills it closes it.
func (g *gaps) check(s sequenced, now time.Time) error {
	open, known := g.byProducer[s.producer]
	if !s.valid || !known || s.epoch < open.epoch {
		return nil
	}
	if now.Sub(open.at) > gapKeep {
		delete(g.byProducer, s.producer)
		return nil
	}
	if s.epoch == open.epoch && follows(s.first, open.first) {
		return fmt.Errorf("%w: producer %d sent %d, and %d was refused before it", partition.ErrOutOfOrderSequence, s.producer, s.first, open.first)
	}
	if s.epoch > open.epoch || s.first == open.first {
		delete(g.byProducer, s.producer)
	}
	return nil
}

// mend closes a producer's gap if the log has what was refused here: the producer sent
// it again to another leader, and came back with this one.
func (g *gaps) mend(log partition.ProducerState) {
	open, known := g.byProducer[log.Producer]
	filled := log.Epoch > open.epoch ||
		log.Epoch == open.epoch && log.LastSequence != record.NoSequence && !follows(open.first, log.LastSequence)
	if known && filled {
		delete(g.byProducer, log.Producer)
	}
}

// note remembers a refused batch.
func (g *gaps) note(s sequenced, now time.Time) {
	if !s.valid {
		return
	}
	open, known := g.byProducer[s.producer]
	if known && (s.epoch < open.epoch || s.epoch == open.epoch && !follows(open.first, s.first)) {
		return
	}
	if !known && len(g.byProducer) >= gapsMax {
		g.forgetOldest()
	}
	if g.byProducer == nil {
		g.byProducer = map[model.ProducerID]gap{}
	}
	g.byProducer[s.producer] = gap{epoch: s.epoch, first: s.first, at: now}
}

func (g *gaps) forgetOldest() {
	var oldest model.ProducerID
	var at time.Time
	for id, open := range g.byProducer {
		if at.IsZero() || open.at.Before(at) {
			oldest, at = id, open.at
		}
	}
	delete(g.byProducer, oldest)
}

// follows compares sequences, which wrap: a follows b if it is less than half the
// circle ahead.
func follows(a, b int32) bool {
	ahead := (int64(a) - int64(b) + math.MaxInt32 + 1) % (math.MaxInt32 + 1)
	return ahead > 0 && ahead <= math.MaxInt32/2
}
