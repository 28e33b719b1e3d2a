package partition

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/segment"
)

const (
	// slicesMax is how many segments one read reaches into; the next one goes on.
	slicesMax = 8
	// heldMax is how many old segments keep their index in memory.
	heldMax = 4
)

// ReadAsk says what to read.
type ReadAsk struct {
	From     model.Offset
	BytesMax int
	// MinOne gives one batch, however large.
	MinOne bool
	// Committed reads below the last stable offset only.
	Committed bool
}

// ReadAnswer is what a read found: batches in memory, or pinned pieces of segments.
// Load or Release it, once, on any goroutine.
type ReadAnswer struct {
	HighWatermark, LSO, LogStart model.Offset
	// Aborted are the aborted transactions in what was read, ascending by First. It
	// is exact after Load. Set for a Committed ask only.
	Aborted []AbortedTxn
	// Bytes is what Load will give: exact from memory, else an estimate.
	Bytes int

	ask    ReadAsk
	limit  model.Offset
	cached []cached
	views  []*segment.View
}

// Read answers from the loop without touching the disk. From may be the high
// watermark; beyond it, or before the log start, it is ErrOffsetOutOfRange.
func (p *Partition) Read(ask ReadAsk) (*ReadAnswer, error) {
	if ask.From < p.logStart || ask.From > p.logEnd {
		return nil, fmt.Errorf("%w: read from %d, the log has %d to %d", ErrOffsetOutOfRange, ask.From, p.logStart, p.logEnd)
	}
	if errors.Is(p.failed, ErrClosed) {
		return nil, p.failed
	}
	a := &ReadAnswer{HighWatermark: p.logEnd, LSO: p.LSO(), LogStart: p.logStart, ask: ask, limit: p.logEnd}
	if ask.Committed {
		a.limit = a.LSO
		a.Aborted = p.abortedBetween(ask.From, a.limit)
	}
	if ask.From >= a.limit || ask.BytesMax <= 0 && !ask.MinOne {
		return a, nil
	}
	if i, ok := p.cache.find(ask.From); ok {
		p.readCache(a, i)
	} else {
		p.readSegments(a)
	}
	return a, nil
}

func (p *Partition) readCache(a *ReadAnswer, i int) {
	for ; i < p.cache.n; i++ {
		c := p.cache.at(i)
		size := len(c.header) + len(c.rest)
		if c.header.Batch().BaseOffset() >= a.limit {
			return
		}
		if a.Bytes+size > a.ask.BytesMax && !(a.Bytes == 0 && a.ask.MinOne) {
			return
		}
		a.cached = append(a.cached, *c)
		a.Bytes += size
	}
}

// readSegments pins the segment that holds From and those behind it.
func (p *Partition) readSegments(a *ReadAnswer) {
	i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].Meta().End > a.ask.From })
	for ; i < len(p.segments) && len(a.views) < slicesMax; i++ {
		s := p.segments[i]
		m := s.Meta()
		if m.Base >= a.limit || len(a.views) > 1 && a.Bytes >= a.ask.BytesMax {
			break
		}
		a.views = append(a.views, s.PinFrom(a.ask.From))
		a.Bytes += estimate(m, a.ask.From, a.limit)
		p.hold(s)
	}
	a.Bytes = min(a.Bytes, max(a.ask.BytesMax, 1))
}

// estimate is the part of a segment's bytes that offsets from and limit cut out,
// were its bytes spread evenly.
func estimate(m segment.Meta, from, limit model.Offset) int {
	from, limit = max(from, m.Base), min(limit, m.End)
	span := float64(m.End - m.Base)
	return max(1, int(float64(m.Length-segment.HeaderSize)*float64(limit-from)/span))
}

// hold keeps the index of a sealed segment that is being read, and lets go of the
// one read longest ago.
func (p *Partition) hold(s *segment.Segment) {
	if !s.Sealed() {
		return
	}
	if i := slices.Index(p.held, s); i >= 0 {
		p.held = slices.Delete(p.held, i, i+1)
	}
	p.held = append(p.held, s)
	if len(p.held) > heldMax {
		p.held[0].ForgetIndex()
		p.held = slices.Delete(p.held, 0, 1)
	}
}

// abortedBetween lists aborted transactions that reach into [from, to).
func (p *Partition) abortedBetween(from, to model.Offset) []AbortedTxn {
	var found []AbortedTxn
	i := sort.Search(len(p.aborted), func(i int) bool { return p.aborted[i].Last >= from })
	for _, t := range p.aborted[i:] {
		if t.First < to {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b AbortedTxn) int { return cmp.Compare(a.First, b.First) })
	return found
}

// Load appends the batches to dst, whole, and releases the answer. The first may
// begin before From. What comes from disk was checked: a damaged batch is
// ErrCorrupt, unless sound ones before it are given.
func (a *ReadAnswer) Load(dst []byte) ([]byte, error) {
	defer a.Release()
	start, next := len(dst), a.ask.From
	if cap(dst) == 0 && a.Bytes > 0 {
		dst = block.Borrow(a.Bytes)
	}
	if len(a.cached) > 0 {
		dst = slices.Grow(dst, a.Bytes)
	}
	for i := range a.cached {
		c := &a.cached[i]
		dst = append(append(dst, c.header[:]...), c.rest...)
		next = c.header.Batch().NextOffset()
	}
	for _, v := range a.views {
		ask := segment.Ask{
			From: next, Limit: a.limit, BytesMax: a.ask.BytesMax - (len(dst) - start),
			MinOne: a.ask.MinOne && len(dst) == start,
		}
		var full bool
		var err error
		dst, next, full, err = v.Read(dst, ask)
		if err != nil && (len(dst) == start || !errors.Is(err, ErrCorrupt)) {
			return dst[:start], err
		}
		if full || err != nil {
			break
		}
	}
	a.Aborted = slices.DeleteFunc(a.Aborted, func(t AbortedTxn) bool { return t.First >= next })
	return dst, nil
}

// Release lets go of what the answer holds. A second call does nothing.
func (a *ReadAnswer) Release() {
	for _, v := range a.views {
		// Closing a file that was only read loses nothing, and one that cannot be
		// removed is removed by the next Open.
		_ = v.Release()
	}
	a.views, a.cached = nil, nil
}
