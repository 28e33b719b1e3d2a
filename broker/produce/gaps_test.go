package produce

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

// TestGaps: the least refused sequence counts, numbers wrap, and neither memory
// nor time is without a bound.
func TestGaps(t *testing.T) {
	var g gaps
	now := time.Unix(0, 0)
	s := func(epoch int16, first int32) sequenced {
		return sequenced{producer: 7, epoch: epoch, first: first, valid: true}
	}
	refused := func(s sequenced, at time.Time) bool {
		return errors.Is(g.check(s, at), partition.ErrOutOfOrderSequence)
	}
	g.note(s(1, 10), now)
	g.note(s(1, 12), now)
	g.note(s(1, 8), now)
	g.note(s(0, 1), now) // of an epoch that has passed
	for first, want := range map[int32]bool{7: false, 9: true, 10: true, 12: true} {
		if refused(s(1, first), now) != want {
			t.Errorf("sequence %d: refused is not %v", first, want)
		}
	}
	if refused(s(0, 9), now) {
		t.Error("an old epoch is for apply to judge")
	}
	if refused(s(1, 8), now) || refused(s(1, 9), now) {
		t.Error("the gap was not closed by the batch that fills it")
	}
	g.note(s(1, math.MaxInt32), now)
	if !refused(s(1, 0), now) || refused(s(1, math.MaxInt32-1), now) {
		t.Error("sequences do not wrap")
	}
	if refused(s(1, 0), now.Add(2*gapKeep)) || len(g.byProducer) != 0 {
		t.Error("a gap is kept for ever")
	}
	for i := range 3 * gapsMax {
		g.note(sequenced{producer: model.ProducerID(i), valid: true}, now.Add(time.Duration(i)))
	}
	if _, last := g.byProducer[3*gapsMax-1]; len(g.byProducer) != gapsMax || !last {
		t.Errorf("%d gaps, %d are allowed", len(g.byProducer), gapsMax)
	}
	g.note(sequenced{}, now)
	if err := g.check(sequenced{}, now); err != nil {
		t.Error(err)
	}
}

// TestMendedGap: what was refused here and written under another leader is no gap.
func TestMendedGap(t *testing.T) {
	now := time.Unix(0, 0)
	for name, c := range map[string]struct {
		log  partition.ProducerState
		open bool
	}{
		"not written":      {partition.ProducerState{Producer: 7, Epoch: 1, LastSequence: 9}, true},
		"written":          {partition.ProducerState{Producer: 7, Epoch: 1, LastSequence: 10}, false},
		"and more":         {partition.ProducerState{Producer: 7, Epoch: 1, LastSequence: 400}, false},
		"wrapped":          {partition.ProducerState{Producer: 7, Epoch: 1, LastSequence: math.MaxInt32 - 3}, true},
		"a later epoch":    {partition.ProducerState{Producer: 7, Epoch: 2, LastSequence: 0}, false},
		"an earlier epoch": {partition.ProducerState{Producer: 7, Epoch: 0, LastSequence: 99}, true},
		"nothing in it":    {partition.ProducerState{Producer: 7, Epoch: 1, LastSequence: record.NoSequence}, true},
		"another's":        {partition.ProducerState{Producer: 8, Epoch: 1, LastSequence: 400}, true},
	} {
		var g gaps
		g.note(sequenced{producer: 7, epoch: 1, first: 10, valid: true}, now)
		g.mend(c.log)
		err := g.check(sequenced{producer: 7, epoch: 1, first: 11, valid: true}, now)
		if open := err != nil; open != c.open {
			t.Errorf("%s: %v", name, err)
		}
	}
}
