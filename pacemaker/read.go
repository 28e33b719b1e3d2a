package pacemaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

const (
	// readBytesMax is how much of the parent one range of a fiber holds that has
	// to catch up: a call of the sidecar costs the less per record.
	readBytesMax = 1 << 20
	// readBytesShort is how much it holds otherwise: of what has just arrived, or
	// where seatsMax others catch up already.
	readBytesShort = 128 << 10
	// seatsMax bounds how many fibers of a node catch up with long ranges. Each
	// holds about six ranges on their way: memory, not throughput, is bound here.
	seatsMax = 8
	// readWaitMax is how long an idle fiber sits in one fetch.
	readWaitMax = 30 * time.Second
)

// span is a range of the parent as it was read.
type span struct {
	from, to model.Offset
	records  []byte // committed batches, the first may begin before from; nil for none
	first    int64  // ms, timestamp of the first batch; -1 for none
	gap      int64  // offsets that the parent trimmed: the whole span
	err      error  // the end of reading; nothing else is set
	buffer   []byte // that records lie in, for free
}

// buffers are lent to ranges from the read until they are transformed. A leg has
// few on their way, and fresh memory for each costs as much as the guest.
type buffers chan []byte

// buffersKept is how many free ones a leg keeps: it has no more on their way.
const buffersKept = stageDepth + 2

// bufferBytesMax bounds what is kept: one huge batch must not pin its size.
const bufferBytesMax = 4 * readBytesMax

// get gives a free buffer, or nil.
func (b buffers) get() []byte {
	select {
	case free := <-b:
		return free
	default:
		return nil
	}
}

// put frees a buffer. Nothing may refer to it any more.
func (b buffers) put(buffer []byte) {
	if cap(buffer) == 0 || cap(buffer) > bufferBytesMax {
		return
	}
	select {
	case b <- buffer:
	default:
	}
}

// read gives ranges in order, from l.from to l.until, until ctx ends. An error
// is the last that it gives.
func (l *leg) read(ctx context.Context, out chan<- span) {
	seat := seat{seats: l.f.seats}
	defer seat.leave()
	for pos := l.from; pos < l.until && ctx.Err() == nil; {
		bytesMax := readBytesShort
		if seat.take(pos < l.f.status.end()) {
			bytesMax = readBytesMax
		}
		s := l.readOne(ctx, pos, bytesMax)
		if s.err == nil && s.to == pos {
			continue // waited for nothing
		}
		if s.err == nil {
			l.f.status.read(s.first, s.to)
		}
		select {
		case out <- s:
		case <-ctx.Done():
			return
		}
		if s.err != nil {
			return
		}
		pos = s.to
	}
}

// seat is one leg's claim to long ranges.
type seat struct {
	seats chan struct{} // the node's, of seatsMax
	taken bool
}

// take tells whether a leg may read long ranges: while it is behind, and there
// is a seat.
func (s *seat) take(behind bool) bool {
	if !behind {
		s.leave()
		return false
	}
	if !s.taken {
		select {
		case s.seats <- struct{}{}:
			s.taken = true
		default:
		}
	}
	return s.taken
}

func (s *seat) leave() {
	if s.taken {
		<-s.seats
		s.taken = false
	}
}

// readOne waits for records at pos and gives the next range; an empty one when
// there were none in time.
func (l *leg) readOne(ctx context.Context, pos model.Offset, bytesMax int) span {
	answer := l.f.o.Reader.Fetch(ctx, fetch.Ask{
		Partitions: []fetch.PartitionAsk{{
			Partition: l.f.key.Parent, From: pos, BytesMax: bytesMax, CurrentEpoch: model.NoEpoch, Into: l.buffers.get(),
		}},
		BytesMin: 1, BytesMax: bytesMax, WaitMax: readWaitMax, Committed: true,
	})[0]
	switch {
	case ctx.Err() != nil:
		return span{from: pos, to: pos}
	case errors.Is(answer.Err, fetch.ErrOffsetOutOfRange):
		return l.trimmed(ctx, pos)
	case answer.Err != nil:
		return span{err: fmt.Errorf("read the parent from %d: %w", pos, answer.Err)}
	}
	l.f.status.sees(answer.LSO)
	s, err := cut(answer, pos, l.until)
	if err != nil {
		return span{err: fmt.Errorf("read the parent from %d: %w", pos, err)}
	}
	s.buffer = answer.Records
	return s
}

// trimmed tells of offsets that the parent no longer has.
func (l *leg) trimmed(ctx context.Context, pos model.Offset) span {
	start, err := l.f.o.Reader.ListOffset(ctx, fetch.ListAsk{
		Partition: l.f.key.Parent, Timestamp: fetch.TimestampEarliest, CurrentEpoch: model.NoEpoch,
	})
	if err != nil {
		return span{err: fmt.Errorf("find the parent's log start: %w", err)}
	}
	if start.Offset <= pos {
		return span{err: fmt.Errorf("read the parent from %d: %w; its log ends before", pos, fetch.ErrOffsetOutOfRange)}
	}
	to := min(start.Offset, l.until)
	return span{from: pos, to: to, first: -1, gap: int64(to - pos)}
}

// cut takes the committed data batches of an answer, as far as until.
func cut(a fetch.PartitionAnswer, from, until model.Offset) (span, error) {
	s := span{from: from, to: from, first: -1}
	aborted := abortedIn(a.Aborted)
	start, end, kept := 0, 0, []byte(nil) // [start, end) of a.Records is taken; kept holds what came before a left out batch
	for rest := a.Records; len(rest) > 0 && s.to < until; {
		b, after, err := record.Next(rest)
		if err != nil {
			return s, fmt.Errorf("batch after offset %d: %w", s.to, err)
		}
		size := len(rest) - len(after)
		rest = after
		switch {
		case b.LastOffset() < from:
			start, end = end+size, end+size
			continue
		case b.BaseOffset() >= until:
			rest = nil
			s.to = until
			continue
		case aborted.skips(b) || b.Control():
			kept = append(kept, a.Records[start:end]...)
			start, end = end+size, end+size
		default:
			end += size
			if s.first < 0 {
				s.first = b.BaseTimestamp()
			}
		}
		s.to = min(b.LastOffset()+1, until)
	}
	switch {
	case kept == nil && end > start:
		s.records = a.Records[start:end]
	case kept != nil:
		s.records = append(kept, a.Records[start:end]...)
	}
	return s, nil
}

// abortions knows which transactions of a stretch were aborted.
type abortions struct {
	pending []partition.AbortedTxn // by first offset
	open    map[model.ProducerID]bool
}

func abortedIn(txns []partition.AbortedTxn) *abortions {
	if len(txns) == 0 {
		return nil
	}
	sorted := slices.SortedFunc(slices.Values(txns), func(x, y partition.AbortedTxn) int { return cmp.Compare(x.First, y.First) })
	return &abortions{pending: sorted, open: map[model.ProducerID]bool{}}
}

// skips tells whether b belongs to an aborted transaction. It must be called
// for every batch, in order.
func (a *abortions) skips(b record.Batch) bool {
	if a == nil {
		return false
	}
	for len(a.pending) > 0 && a.pending[0].First <= b.LastOffset() {
		a.open[a.pending[0].Producer] = true
		a.pending = a.pending[1:]
	}
	id := b.ProducerID()
	if !b.Transactional() || !a.open[id] {
		return false
	}
	if b.Control() { // the marker ends it
		delete(a.open, id)
	}
	return true
}
