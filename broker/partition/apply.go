package partition

import (
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// Apply takes committed entries in the order of their raft indexes and answers one
// Outcome for each. Their batches are in memory, for readers and the next flush,
// which writes those of all Applies since the last together. One that Installed covers
// is passed over, with an empty Outcome. An error means that the
// node must stop: the log holds what this version cannot apply.
func (p *Partition) Apply(entries []Entry) ([]Outcome, error) {
	if p.failed != nil {
		return nil, fmt.Errorf("apply to partition %s: %w", p.o.ID, p.failed)
	}
	outcomes := make([]Outcome, len(entries))
	for i := range entries {
		if err := p.applyEntry(&entries[i], &outcomes[i]); err != nil {
			return nil, p.fail(fmt.Errorf("apply entry %d to partition %s: %w", entries[i].Index, p.o.ID, err))
		}
	}
	return outcomes, nil
}

func (p *Partition) fail(err error) error {
	p.failed = err
	return err
}

func (p *Partition) applyEntry(e *Entry, o *Outcome) error {
	o.Index = e.Index
	if e.Index <= p.installed { // the files that came from another node have it
		o.LogStart, o.LogEnd = p.logStart, p.logEnd
		return nil
	}
	if e.Index <= p.applied {
		return fmt.Errorf("%w: entry %d is behind %d, which was applied", ErrCommand, e.Index, p.applied)
	}
	if len(e.Cmd) > 0 { // raft's own entries are empty
		c, err := Decode(e.Cmd)
		if err != nil {
			return err
		}
		if err := p.applyCommand(&c, o); err != nil {
			return err
		}
	}
	p.applied = e.Index
	o.LogStart, o.LogEnd = p.logStart, p.logEnd
	return nil
}

// applyCommand checks the epoch, then does what the command says. Its error stops
// the node; refusals are in the outcome.
func (p *Partition) applyCommand(c *Command, o *Outcome) error {
	o.Token = c.Token
	switch {
	case c.Epoch < p.epoch:
		o.Err = fmt.Errorf("%w: command has %d, the partition %d", ErrStaleEpoch, c.Epoch, p.epoch)
		if c.Kind == KindSource || c.Kind == KindActivate {
			o.Source = p.Source(c.sourceKey())
		}
		return nil
	case c.Kind == KindLead:
		if c.Epoch > p.epoch {
			p.startEpoch(c.Epoch)
		}
		o.Lead = true
		return nil
	case c.Epoch > p.epoch:
		return fmt.Errorf("%w: %s command of epoch %d, the newest leader has %d", ErrCommand, c.Kind, c.Epoch, p.epoch)
	}
	switch c.Kind {
	case KindProduce:
		return p.appendEach(c, o, p.appendClient)
	case KindMarker:
		return p.appendEach(c, o, p.appendMarker)
	case KindSource:
		return p.appendSource(c, o)
	case KindActivate:
		o.Source = p.activate(&c.Activate)
	case KindTrim:
		return p.applyTrim(c, o)
	case KindHorizon:
		p.horizon = max(p.horizon, min(c.Horizon, p.logEnd))
	case KindExpire:
		for _, e := range c.Expired {
			p.producers.expire(e)
		}
	}
	return nil
}

func (c *Command) sourceKey() model.SourceKey {
	if c.Kind == KindSource {
		return c.Source.Key
	}
	return c.Activate.Key
}

// frame checks that b is exactly one batch that can be stored.
func frame(b []byte) (record.Batch, error) {
	batch, rest, err := record.Next(b)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%d bytes behind the batch", len(rest))
	}
	if err == nil {
		err = batch.CheckHeader()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedBatch, err)
	}
	return batch, nil
}

// appendEach gives every batch to take, with an outcome each.
func (p *Partition) appendEach(c *Command, o *Outcome, take func(record.Batch, *BatchOutcome) error) error {
	o.Batches = make([]BatchOutcome, len(c.Batches))
	for i, raw := range c.Batches {
		bo := &o.Batches[i]
		bo.Base, bo.AppendTime = model.NoOffset, record.NoTimestamp
		b, err := frame(raw)
		if err != nil {
			bo.Err = err
			continue
		}
		if err := take(b, bo); err != nil {
			return err
		}
	}
	return nil
}

// appendClient appends one batch of a client, unless its producer's sequence says
// that it was written before or that something before it is missing.
func (p *Partition) appendClient(b record.Batch, o *BatchOutcome) error {
	if b.Control() {
		o.Err = fmt.Errorf("%w: control batch from a client", ErrMalformedBatch)
		return nil
	}
	idempotent := b.ProducerID() != model.NoProducer
	if pr := p.producers.byID[b.ProducerID()]; idempotent && pr != nil {
		old, err := pr.judge(b)
		if err != nil {
			o.Err = err
			return nil
		}
		if old != nil {
			o.Base, o.AppendTime, o.Duplicate = old.base, old.appendTime, true
			return nil
		}
	}
	base := p.append(b)
	o.Base, o.AppendTime = base, appendTime(b)
	if idempotent {
		p.producers.note(b, base)
	}
	return nil
}

// appendMarker appends a control batch, which ends its producer's transaction.
func (p *Partition) appendMarker(b record.Batch, o *BatchOutcome) error {
	kind, err := record.ParseMarker(b)
	if err != nil || b.ProducerID() == model.NoProducer {
		o.Err = fmt.Errorf("%w: not a transaction marker", ErrMalformedBatch)
		return nil
	}
	if pr := p.producers.byID[b.ProducerID()]; pr != nil && b.ProducerEpoch() < pr.epoch {
		o.Err = fmt.Errorf("%w: producer %d has epoch %d, its marker %d", ErrProducerFenced, b.ProducerID(), pr.epoch, b.ProducerEpoch())
		return nil
	}
	base := p.append(b)
	o.Base, o.AppendTime = base, appendTime(b)
	first := p.producers.finish(b, base)
	if kind == record.ControlAbort && first != model.NoOffset {
		p.aborted = append(p.aborted, AbortedTxn{Producer: b.ProducerID(), First: first, Last: base})
	}
	return nil
}

// appendSource is a fiber's compare-and-set: all its batches and the new source
// offset, or nothing.
func (p *Partition) appendSource(c *Command, o *Outcome) error {
	s := p.sources[c.Source.Key]
	if !s.matches(&c.Source) || c.Source.To < c.Source.From || c.Source.Gap < 0 {
		o.Source = s.state()
		o.Err = fmt.Errorf("%w: append of activation %d from %d to %d, the child has activation %d at %d",
			ErrSourceConflict, c.Source.Activation, c.Source.From, c.Source.To, o.Source.Activation, o.Source.Offset)
		if o.Source.Announced > max(o.Source.Activation, c.Source.Seen) {
			o.Err = fmt.Errorf("%w; activation %d is announced", o.Err, o.Source.Announced)
		}
		return nil
	}
	batches := make([]record.Batch, len(c.Batches))
	for i, raw := range c.Batches {
		b, err := frame(raw)
		if err == nil && (b.Control() || b.ProducerID() != model.NoProducer) {
			err = fmt.Errorf("%w: a fiber's batch has no producer and is no marker", ErrMalformedBatch)
		}
		if err != nil {
			o.Err, o.Source = err, s.state()
			return nil
		}
		batches[i] = b
	}
	o.Batches = make([]BatchOutcome, len(batches))
	for i, b := range batches {
		o.Batches[i] = BatchOutcome{Base: p.append(b), AppendTime: appendTime(b)}
	}
	s.advance(&c.Source)
	o.Source = s.state()
	return nil
}

func (p *Partition) applyTrim(c *Command, o *Outcome) error {
	to := c.LogStart
	if to == model.OffsetMax {
		to = p.logEnd
	}
	if to > p.logEnd || to < 0 {
		o.Err = fmt.Errorf("%w: trim to %d, the log ends at %d", ErrOffsetOutOfRange, to, p.logEnd)
		return nil
	}
	if to <= p.logStart {
		return nil
	}
	p.trim(to)
	return nil
}
