package pacemaker

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/broker/script"
)

// memLog is partitions in memory, as the verbs produce and fetch show them. It
// outlives the pacemakers that are killed over it.
type memLog struct {
	mu    sync.Mutex
	parts map[model.PartitionID]*memPart
	// failBefore and failAfter are the chances that a write fails without being
	// applied, and that its answer is lost.
	failBefore, failAfter float64
	travelMax             time.Duration // bounds travel
	rand                  *rand.Rand
	// matches is the compare of the compare-and-set; a test breaks it.
	matches func(s partition.SourceState, ask partition.Source) bool
	moved   func(model.SourceKey, move)           // tells that a child took an activation
	gone    map[model.SourceKey][][2]model.Offset // ranges that children were told are gone
}

type memPart struct {
	start, end model.Offset
	batches    []record.Batch
	sources    map[model.SourceKey]partition.SourceState
	aborted    []partition.AbortedTxn
	grown      chan struct{}
}

func newMemLog(seed uint64) *memLog {
	return &memLog{
		parts: map[model.PartitionID]*memPart{}, rand: rand.New(rand.NewPCG(seed, 1)),
		matches: func(s partition.SourceState, ask partition.Source) bool {
			return s.Known && s.Activation == ask.Activation && s.Offset == ask.From && s.Announced <= ask.Seen
		},
		moved: func(model.SourceKey, move) {},
		gone:  map[model.SourceKey][][2]model.Offset{},
	}
}

func (m *memLog) create(id model.PartitionID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parts[id] == nil {
		m.parts[id] = &memPart{sources: map[model.SourceKey]partition.SourceState{}, grown: make(chan struct{})}
	}
}

// write appends a batch and gives its base.
func (m *memLog) write(id model.PartitionID, batch []byte) model.Offset {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parts[id].append(batch)
}

func (p *memPart) append(batch []byte) model.Offset {
	b := record.Batch(slices.Clone(batch))
	base := p.end
	b.SetBaseOffset(base)
	p.batches = append(p.batches, b)
	p.end = b.NextOffset()
	close(p.grown)
	p.grown = make(chan struct{})
	return base
}

func (m *memLog) chance(p float64) bool { return m.rand.Float64() < p }

// travel is the way of a request or an answer: what is under way together
// arrives in any order.
func (m *memLog) travel() {
	m.mu.Lock()
	d := time.Duration(0)
	if m.travelMax > 0 {
		d = time.Duration(m.rand.Int64N(int64(m.travelMax)))
	}
	m.mu.Unlock()
	if d > 0 {
		pass(d)
	}
}

func (m *memLog) AppendSource(ctx context.Context, id model.PartitionID, src partition.Source, batches [][]byte) (partition.SourceState, error) {
	m.travel()
	defer m.travel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return partition.SourceState{}, ctx.Err()
	}
	p := m.parts[id]
	if p == nil {
		return partition.SourceState{}, produce.ErrUnknownPartition
	}
	if m.chance(m.failBefore) {
		return partition.SourceState{}, produce.ErrNotLeader
	}
	s := p.sources[src.Key]
	if !m.matches(s, src) {
		return s, partition.ErrSourceConflict
	}
	for _, b := range batches {
		if err := record.Batch(b).Check(); err != nil {
			return s, err
		}
		p.append(b)
	}
	s.Offset, s.Gap = src.To, s.Gap+src.Gap
	s.Verdicts = slices.Concat(s.Verdicts, src.Verdicts)
	if n := len(s.Verdicts); n > 1<<12 {
		s.Verdicts = s.Verdicts[n-1<<12:]
	}
	p.sources[src.Key] = s
	if src.Gap > 0 {
		m.gone[src.Key] = append(m.gone[src.Key], [2]model.Offset{src.To - model.Offset(src.Gap), src.To})
	}
	if m.chance(m.failAfter) {
		return partition.SourceState{}, produce.ErrTimedOut
	}
	return s, nil
}

func (m *memLog) Activate(ctx context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error) {
	m.travel()
	defer m.travel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return partition.SourceState{}, ctx.Err()
	}
	p := m.parts[id]
	if p == nil {
		return partition.SourceState{}, produce.ErrUnknownPartition
	}
	if m.chance(m.failBefore) {
		return partition.SourceState{}, produce.ErrNotLeader
	}
	s := p.sources[a.Key]
	switch {
	case a.Activation <= s.Activation || a.Activation < s.Announced:
	case a.Announce:
		s.Announced = a.Activation
		p.sources[a.Key] = s
	default:
		next := partition.SourceState{Activation: a.Activation, Announced: a.Activation, Offset: a.Offset, Known: !a.Remove}
		if a.Keep && s.Known {
			next.Offset, next.Gap, next.Verdicts = s.Offset, s.Gap, s.Verdicts
		}
		m.moved(a.Key, move{before: s.Activation, activation: a.Activation, left: s.Offset, began: next.Offset})
		p.sources[a.Key], s = next, next
	}
	if m.chance(m.failAfter) {
		return partition.SourceState{}, produce.ErrTimedOut
	}
	return s, nil
}

func (m *memLog) Source(ctx context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error) {
	m.travel()
	defer m.travel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return partition.SourceState{}, ctx.Err()
	}
	p := m.parts[id]
	if p == nil {
		return partition.SourceState{}, produce.ErrUnknownPartition
	}
	if m.chance(m.failBefore) {
		return partition.SourceState{}, produce.ErrNotLeader
	}
	return p.sources[key], nil
}

func (m *memLog) Fetch(ctx context.Context, ask fetch.Ask) []fetch.PartitionAnswer {
	deadline := time.Now().Add(ask.WaitMax)
	for {
		a, grown := m.read(ask.Partitions[0])
		if a.Err != nil || len(a.Records) > 0 || grown == nil || !time.Now().Before(deadline) || ctx.Err() != nil {
			return []fetch.PartitionAnswer{a}
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-grown:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (m *memLog) read(ask fetch.PartitionAsk) (fetch.PartitionAnswer, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[ask.Partition]
	if p == nil {
		return fetch.PartitionAnswer{Err: fetch.ErrUnknownPartition}, nil
	}
	clear(ask.Into[:cap(ask.Into)]) // who still reads what lay there shall fail
	a := fetch.PartitionAnswer{HighWatermark: p.end, LSO: p.end, LogStart: p.start, Aborted: p.aborted, Records: ask.Into[:0]}
	if ask.From < p.start || ask.From > p.end {
		a.Err = fetch.ErrOffsetOutOfRange
		return a, nil
	}
	for _, b := range p.batches {
		if b.LastOffset() < ask.From {
			continue
		}
		if len(a.Records) > 0 && len(a.Records)+len(b) > ask.BytesMax {
			break
		}
		a.Records = append(a.Records, b...)
	}
	return a, p.grown
}

func (m *memLog) ListOffset(ctx context.Context, ask fetch.ListAsk) (fetch.ListAnswer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[ask.Partition]
	switch {
	case p == nil:
		return fetch.ListAnswer{}, fetch.ErrUnknownPartition
	case ask.Timestamp == fetch.TimestampEarliest:
		return fetch.ListAnswer{Offset: p.start}, nil
	}
	return fetch.ListAnswer{Offset: p.end}, nil
}

// Read and Offset are the children's.
func (m *memLog) Read(_ context.Context, id model.PartitionID, from model.Offset, bytesMax int, _ time.Duration) (script.ReadAnswer, error) {
	a, _ := m.read(fetch.PartitionAsk{Partition: id, From: from, BytesMax: bytesMax})
	return script.ReadAnswer{LogStart: a.LogStart, HighWatermark: a.HighWatermark, Records: a.Records}, a.Err
}

func (m *memLog) Offset(ctx context.Context, id model.PartitionID, timestamp int64) (model.Offset, error) {
	a, err := m.ListOffset(ctx, fetch.ListAsk{Partition: id, Timestamp: timestamp})
	return a.Offset, err
}

// trim drops what lies before to.
func (m *memLog) trim(id model.PartitionID, to model.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[id]
	p.start = max(p.start, min(to, p.end))
	p.batches = slices.DeleteFunc(p.batches, func(b record.Batch) bool { return b.LastOffset() < p.start })
}

// compact keeps the last record of each key, but in the last batch; batches
// that are left empty go.
func (m *memLog) compact(id model.PartitionID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[id]
	if len(p.batches) < 2 {
		return
	}
	last := map[string]model.Offset{}
	for _, b := range p.batches {
		for _, r := range recordsOf(b) {
			last[string(r.Key)] = r.Offset
		}
	}
	kept := p.batches[:0:0]
	for i, b := range p.batches {
		if i == len(p.batches)-1 || b.Control() {
			kept = append(kept, b)
			continue
		}
		var builder record.Builder
		builder.Reset(record.SpecOf(b))
		for _, r := range recordsOf(b) {
			if last[string(r.Key)] == r.Offset {
				if err := builder.AddTail(r.OffsetDelta, r.Timestamp, r.Tail); err != nil {
					panic(err)
				}
			}
		}
		if builder.Count() == 0 {
			continue
		}
		builder.SetLastOffsetDelta(b.LastOffsetDelta())
		_, rebuilt, err := builder.Build(nil)
		if err != nil {
			panic(err)
		}
		kept = append(kept, rebuilt)
	}
	p.batches = kept
}

// recordsOf gives copies of a batch's records.
func recordsOf(b record.Batch) []record.Record {
	var r record.Reader
	var rec record.Record
	if err := r.Reset(b, 1<<30); err != nil {
		panic(err)
	}
	var all []record.Record
	for r.Next(&rec) {
		c := rec
		tail := slices.Clone(rec.Tail)
		if err := record.ParseRecordTail(tail, &c); err != nil {
			panic(err)
		}
		all = append(all, c)
	}
	if r.Err() != nil {
		panic(r.Err())
	}
	return all
}

// all gives every data record of a partition, aborted ones left out.
func (m *memLog) all(id model.PartitionID) []record.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[id]
	var out []record.Record
	for _, b := range p.batches {
		aborted := slices.ContainsFunc(p.aborted, func(t partition.AbortedTxn) bool {
			return b.Transactional() && t.Producer == b.ProducerID() && b.BaseOffset() >= t.First && b.LastOffset() <= t.Last
		})
		if !b.Control() && !aborted {
			out = append(out, recordsOf(b)...)
		}
	}
	slices.SortFunc(out, func(x, y record.Record) int { return cmp.Compare(x.Offset, y.Offset) })
	return out
}

func (m *memLog) endOf(id model.PartitionID) model.Offset {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parts[id].end
}

func (m *memLog) sourceOf(id model.PartitionID, key model.SourceKey) partition.SourceState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parts[id].sources[key]
}

// calm ends all faults.
func (m *memLog) calm() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failBefore, m.failAfter = 0, 0
}
