package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
)

const (
	// appendBytesMax bounds what one child is given for one range; a range that
	// yields more is cut in halves. A command is one entry of the log.
	appendBytesMax = 8 << 20
	// decidedTries is how often a record is run again that passed for another
	// child and now fails. A script that is a function never needs it.
	decidedTries = 50
	// verdictsMax is how many records one range may skip: children keep the newest
	// few thousand, and the next may ask for those of this range.
	verdictsMax  = 1 << 11
	decidedPause = 20 * time.Millisecond
)

// piece is what became of a range: what the takers have to be given.
type piece struct {
	from, to model.Offset
	batches  map[int][][]byte // by index in the leg's children; only takers'
	bytes    int
	failed   []async.FailedRecord
	letters  [][]byte // failed as batches for the dead letters, if the policy has them
	gap      int64
	in, out  int64
	dropped  int64
	cpu      time.Duration
	err      error // the end of the leg, after from; nothing else is set
}

// transformAll turns ranges into pieces, in order, until ctx ends or one fails.
func (l *leg) transformAll(ctx context.Context, in <-chan span, out chan<- piece) {
	for s := range in {
		pieces, err := l.transform(ctx, s)
		if err == nil { // else a guest may still be reading it
			l.buffers.put(s.buffer)
		}
		if err != nil {
			pieces = append(pieces, piece{err: err})
		}
		for _, p := range pieces {
			select {
			case out <- p:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// transform gives the pieces of s up to the error, if there is one.
func (l *leg) transform(ctx context.Context, s span) ([]piece, error) {
	switch {
	case s.err != nil:
		return nil, s.err
	case s.records == nil:
		return []piece{{from: s.from, to: s.to, gap: s.gap}}, nil
	}
	r, err := l.call(ctx, s)
	if err != nil {
		return nil, err
	}
	if l.decided && len(r.Failed) > 0 {
		return l.halves(ctx, s, "") // the fewer records, the sooner all of them pass
	}
	if fault := l.fault(r); fault != "" {
		return l.halves(ctx, s, fault)
	}
	if len(r.Failed) > 0 && l.plan.OnError == script.Stop {
		return l.stopBefore(ctx, s, r.Failed[0])
	}
	p, err := l.piece(s, r)
	if err != nil {
		return nil, err
	}
	return []piece{p}, nil
}

// call runs the guest. Where another child has decided, it runs a single record
// again until it passes.
func (l *leg) call(ctx context.Context, s span) (async.Result, error) {
	batch := async.Batch{From: s.from, To: s.to, Records: s.records, Avoid: within(l.failed, s.from, s.to)}
	for try := 1; ; try++ {
		r, err := l.f.guest.Transform(ctx, batch)
		switch {
		case err != nil && errors.Is(err, control.ErrRequest):
			return r, &halt{reason: fmt.Sprintf("the sidecar refused [%d, %d): %v", s.from, s.to, err), offset: s.from}
		case err != nil:
			return r, guestError{fmt.Errorf("transform [%d, %d): %w", s.from, s.to, err)}
		case !l.decided || len(r.Failed) == 0 || s.to-s.from > 1:
			return r, nil
		case try == decidedTries:
			bad := r.Failed[0]
			return r, &halt{offset: bad.Offset, reason: fmt.Sprintf("record %d passed for another child and fails now (%s): %s", bad.Offset, bad.Kind, bad.Text)}
		}
		select {
		case <-time.After(decidedPause):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// within gives those of sorted that lie in [from, to).
func within(sorted []model.Offset, from, to model.Offset) []model.Offset {
	i, _ := slices.BinarySearch(sorted, from)
	j, _ := slices.BinarySearch(sorted, to)
	return sorted[i:j]
}

// fault says why r cannot be appended as it is; empty if it can.
func (l *leg) fault(r async.Result) string {
	if l.plan.OnError == script.Skip && len(r.Failed) > verdictsMax {
		return fmt.Sprintf("%d records failed, the limit is %d", len(r.Failed), verdictsMax)
	}
	bytes := map[int]int{}
	for _, o := range r.Outputs {
		if o.Output < 0 || o.Output >= len(l.plan.Outputs) || l.plan.Outputs[o.Output].DLQ {
			return fmt.Sprintf("output %d is not declared", o.Output)
		}
		n, own := l.plan.Outputs[o.Output].Partitions, l.f.key.Parent.Index
		switch {
		case l.plan.ByKey && (o.Partition < 0 || o.Partition >= n):
			return fmt.Sprintf("output %q has no partition %d", l.plan.Outputs[o.Output].Topic, o.Partition)
		case !l.plan.ByKey && o.Partition != own:
			return fmt.Sprintf("partition %d of output %q: a script that chooses partitions needs partitioning: key", o.Partition, l.plan.Outputs[o.Output].Topic)
		}
		i, there := l.outlets[outlet{o.Output, o.Partition}]
		if !there {
			continue
		}
		for _, b := range o.Batches {
			bytes[i] += len(b)
		}
		if bytes[i] > appendBytesMax {
			return fmt.Sprintf("its outputs in %s-%d have more than %d bytes", l.all[i].Topic, o.Partition, appendBytesMax)
		}
	}
	return ""
}

// halves transforms s in two parts, or fails its one offset.
func (l *leg) halves(ctx context.Context, s span, fault string) ([]piece, error) {
	if s.to-s.from == 1 {
		bad := async.FailedRecord{Offset: s.from, Kind: control.FailureGarbage, Text: fault}
		if l.decided {
			return nil, &halt{offset: bad.Offset, reason: fmt.Sprintf("record %d passed for another child and fails now: %s", s.from, fault)}
		}
		if l.plan.OnError == script.Stop {
			return l.stopBefore(ctx, s, bad)
		}
		p, err := l.piece(s, async.Result{RecordsIn: 1, Failed: []async.FailedRecord{bad}})
		return []piece{p}, err
	}
	first, second := s, s
	first.to = s.from + (s.to-s.from)/2
	second.from = first.to
	pieces, err := l.transform(ctx, first)
	if err != nil {
		return pieces, err
	}
	more, err := l.transform(ctx, second)
	return append(pieces, more...), err
}

// stopBefore gives what comes before the failed record, and the halt.
func (l *leg) stopBefore(ctx context.Context, s span, bad async.FailedRecord) ([]piece, error) {
	stop := &halt{offset: bad.Offset, reason: fmt.Sprintf("record %d failed (%s): %s", bad.Offset, bad.Kind, bad.Text)}
	if bad.Offset <= s.from {
		return nil, stop
	}
	s.to = bad.Offset
	pieces, err := l.transform(ctx, s)
	if err != nil {
		return pieces, err
	}
	return pieces, stop
}

// piece sorts r by child.
func (l *leg) piece(s span, r async.Result) (piece, error) {
	p := piece{
		from: s.from, to: s.to, batches: map[int][][]byte{},
		in: r.RecordsIn, out: r.RecordsOut, dropped: r.RecordsDropped, cpu: r.CPU,
	}
	for _, o := range r.Outputs {
		i, there := l.outlets[outlet{o.Output, o.Partition}]
		if !there || !slices.Contains(l.takers, &l.all[i]) {
			continue // it has taken this range
		}
		p.batches[i] = append(p.batches[i], o.Batches...)
		for _, b := range o.Batches {
			p.bytes += len(b)
		}
	}
	p.failed = r.Failed
	if len(r.Failed) == 0 || l.plan.OnError != script.Dead {
		return p, nil
	}
	var err error
	if p.letters, err = l.letters(s, r.Failed); err != nil {
		return p, fmt.Errorf("make dead letters of [%d, %d): %w", s.from, s.to, err)
	}
	return p, nil
}
