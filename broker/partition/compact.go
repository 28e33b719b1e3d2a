package partition

import (
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/broker/segment"
)

const (
	// keyOverhead is what a key costs in the map of newest offsets besides its bytes.
	keyOverhead = 64
	// compactWriteBytes is how much a compaction collects before it writes.
	compactWriteBytes = 1 << 20
	// cleansMax bounds the compactions remembered for HorizonTarget; the oldest
	// merge into the next.
	cleansMax = 64
)

// clean says when compaction had passed an offset. Kept in memory only: a restart
// lets tombstones live longer, never shorter.
type clean struct {
	through model.Offset
	at      time.Time
}

// CompactJob rewrites sealed segments without superseded records. Run it on any
// goroutine, then give it back to CompactDone on the loop.
type CompactJob struct {
	place       segment.Place
	now         time.Time
	inputs      []pinned // ascending
	from        model.Offset
	horizon     model.Offset
	aborted     []AbortedTxn
	kept        map[model.Offset]struct{} // bases of batches that stay, if only empty
	bytesMax    int64
	keysMax     int64
	inflatedMax int

	through model.Offset // every key before it is in newest
	newest  map[string]model.Offset
	groups  []group
	reader  record.Reader
	builder record.Builder
	scratch []byte
}

// group is segments that become one, or none.
type group struct {
	inputs []pinned
	// output is nil when nothing was left; same tells that nothing was dropped and
	// the inputs stay.
	output *segment.Segment
	same   bool
}

// CompactStart captures what is worth compacting by now; nil when nothing is, or a
// compaction is under way. The last segment is never touched, so the log keeps its
// last record; nor is what the checkpoint does not cover yet, what is younger than
// CompactionLagMin, or what lies behind the last stable offset.
func (p *Partition) CompactStart(now time.Time) *CompactJob {
	if !p.config.Compact || p.compacting || p.failed != nil {
		return nil
	}
	inputs := p.compactable(now)
	if !p.worthCompacting(inputs, now) {
		return nil
	}
	j := &CompactJob{
		place: p.place, now: now, from: p.cleaned, horizon: p.horizon, aborted: slices.Clone(p.aborted),
		kept:     make(map[model.Offset]struct{}, len(p.producers.byID)),
		bytesMax: p.config.SegmentBytesMax, keysMax: p.config.CompactionKeysMax, inflatedMax: p.config.InflatedMax,
	}
	for _, pr := range p.producers.byID {
		if pr.count > 0 {
			j.kept[pr.batches[pr.count-1].base] = struct{}{}
		}
	}
	for _, s := range inputs {
		j.inputs = append(j.inputs, pinned{s: s, v: s.Pin()})
	}
	p.compacting = true
	return j
}

func (p *Partition) compactable(now time.Time) []*segment.Segment {
	stable := p.LSO()
	for i, s := range p.segments {
		m := s.Meta()
		young := p.config.CompactionLagMin > 0 && m.MaxTime > now.Add(-p.config.CompactionLagMin).UnixMilli()
		if i == len(p.segments)-1 || !s.Sealed() || s.Unsynced() > 0 || m.End > stable || young {
			return p.segments[:i]
		}
	}
	return nil
}

// worthCompacting tells whether enough of the segments was never compacted, or has
// waited for longer than CompactionLagMax.
func (p *Partition) worthCompacting(inputs []*segment.Segment, now time.Time) bool {
	var dirty, total int64
	overdue := false
	for _, s := range inputs {
		m := s.Meta()
		total += m.Length
		if m.End <= p.cleaned {
			continue
		}
		dirty += m.Length
		lag := p.config.CompactionLagMax
		overdue = overdue || lag > 0 && m.FirstTime != record.NoTimestamp && m.FirstTime < now.Add(-lag).UnixMilli()
	}
	return dirty > 0 && (overdue || float64(dirty) >= p.config.MinCleanableRatio*float64(total))
}

// Run finds the newest offset of every key, then writes each group of segments
// anew. It changes no file that the partition reads. After an error, a damaged
// segment say, everything stays as it is.
func (j *CompactJob) Run() error {
	if err := j.mapKeys(); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	j.plan()
	for i := range j.groups {
		if err := j.rewrite(&j.groups[i]); err != nil {
			return fmt.Errorf("compact: %w", err)
		}
	}
	return nil
}

// mapKeys fills newest from the segments that were not compacted yet, until the
// memory for it is used up.
func (j *CompactJob) mapKeys() error {
	j.newest = map[string]model.Offset{}
	var bytes int64
	j.through = j.from
	for _, in := range j.inputs {
		if in.v.Meta.End <= j.from {
			continue
		}
		full, err := j.mapSegment(in.v, &bytes)
		if err != nil || full {
			return err
		}
	}
	return nil
}

// mapSegment maps a segment's batches and counts their bytes; full tells that the
// memory for it is used up.
func (j *CompactJob) mapSegment(v *segment.View, bytes *int64) (full bool, err error) {
	w := v.Walk(max(j.from, v.Meta.Base))
	defer w.Close()
	for {
		b, err := w.Next()
		if err != nil {
			return false, err
		}
		if b == nil {
			j.through = v.Meta.End
			return false, nil
		}
		if *bytes > j.keysMax {
			j.through = b.BaseOffset()
			return true, nil
		}
		n, err := j.mapBatch(b)
		if err != nil {
			return false, err
		}
		*bytes += n
	}
}

func (j *CompactJob) mapBatch(b record.Batch) (bytes int64, err error) {
	if b.Control() || j.isAborted(b) {
		return 0, nil
	}
	if err := j.reader.Reset(b, j.inflatedMax); err != nil {
		return 0, err
	}
	var rec record.Record
	for j.reader.Next(&rec) {
		if rec.Key == nil {
			continue
		}
		if _, known := j.newest[string(rec.Key)]; !known {
			bytes += int64(len(rec.Key) + keyOverhead)
		}
		j.newest[string(rec.Key)] = rec.Offset
	}
	return bytes, j.reader.Err()
}

func (j *CompactJob) isAborted(b record.Batch) bool {
	if !b.Transactional() {
		return false
	}
	return slices.ContainsFunc(j.aborted, func(t AbortedTxn) bool {
		return t.Producer == b.ProducerID() && t.First <= b.BaseOffset() && b.BaseOffset() < t.Last
	})
}

// plan joins neighbours as long as they make a segment of at most bytesMax.
func (j *CompactJob) plan() {
	var size int64
	for _, in := range j.inputs {
		if in.v.Meta.Base >= j.through {
			return
		}
		n := len(j.groups)
		if n == 0 || size+in.v.Meta.Length > j.bytesMax {
			j.groups = append(j.groups, group{})
			size, n = 0, n+1
		}
		g := &j.groups[n-1]
		g.inputs = append(g.inputs, in)
		size += in.v.Meta.Length
	}
}

// rewrite makes a group's output and syncs it. Its name is synced by the flush
// whose checkpoint lists it.
func (j *CompactJob) rewrite(g *group) error {
	var generation uint32
	for _, in := range g.inputs {
		generation = max(generation, in.v.Meta.Generation)
	}
	g.output = segment.New(j.place, g.inputs[0].v.Meta.Base, generation+1)
	dropped := false
	for _, in := range g.inputs {
		fewer, err := j.copySegment(g.output, in.v)
		if err != nil {
			return err
		}
		dropped = dropped || fewer
	}
	return j.finish(g, dropped)
}

// copySegment copies what stays of a segment; fewer tells that something did not.
func (j *CompactJob) copySegment(out *segment.Segment, v *segment.View) (fewer bool, err error) {
	w := v.Walk(v.Meta.Base)
	defer w.Close()
	for {
		b, err := w.Next()
		if err != nil || b == nil {
			return fewer, err
		}
		left, err := j.filter(b)
		if err != nil {
			return false, err
		}
		fewer = fewer || left == nil || &left[0] != &b[0]
		if err := put(out, left); err != nil {
			return false, err
		}
	}
}

func put(out *segment.Segment, b record.Batch) error {
	if b == nil {
		return nil
	}
	h := record.Header(b[:record.HeaderSize])
	out.Append(&h, b[record.HeaderSize:])
	if out.Unwritten() < compactWriteBytes {
		return nil
	}
	return out.Spill()
}

func (j *CompactJob) finish(g *group, dropped bool) error {
	out := g.output
	out.Seal()
	m := out.Meta()
	if g.same = len(g.inputs) == 1 && !dropped; g.same || m.Empty() {
		g.output = nil
		out.Free()
		return out.Doom()
	}
	v := out.Pin()
	defer v.Release()
	if err := v.Flush(); err != nil {
		return err
	}
	_ = out.Flushed(v) // a file that is synced loses nothing when it is closed
	out.Shrink(0)
	return v.SaveIndex()
}

// filter gives what stays of a batch: itself, a batch with fewer records at the
// same offsets, an empty one if its producer's last, or nil.
func (j *CompactJob) filter(b record.Batch) (record.Batch, error) {
	if b.Control() || b.BaseOffset() >= j.through {
		return b, nil
	}
	if err := j.reader.Reset(b, j.inflatedMax); err != nil {
		return nil, err
	}
	j.builder.Reset(record.SpecOf(b))
	aborted := j.isAborted(b)
	var rec record.Record
	for j.reader.Next(&rec) {
		if aborted || !j.stays(&rec) {
			continue
		}
		if err := j.builder.AddTail(rec.OffsetDelta, rec.Timestamp, rec.Tail); err != nil {
			return nil, err
		}
	}
	if err := j.reader.Err(); err != nil {
		return nil, err
	}
	_, last := j.kept[b.BaseOffset()]
	switch {
	case j.builder.Count() == int(b.Count()) && (b.Count() > 0 || last):
		return b, nil
	case j.builder.Count() == 0 && !last:
		return nil, nil
	}
	j.builder.SetLastOffsetDelta(b.LastOffsetDelta())
	var left record.Batch
	var err error
	j.scratch, left, err = j.builder.Build(j.scratch[:0])
	return left, err
}

// stays tells whether a record is the newest of its key. Records without a key
// have no place in a compacted topic. A tombstone goes once it lies before the
// horizon: everything that it superseded goes with it or is gone.
func (j *CompactJob) stays(rec *record.Record) bool {
	if rec.Key == nil {
		return false
	}
	if newest, ok := j.newest[string(rec.Key)]; ok && newest > rec.Offset {
		return false
	}
	return rec.Value != nil || rec.Offset >= j.horizon || rec.Offset >= j.through
}

// CompactDone takes a job back and, unless it failed, puts the outputs in place of
// their inputs. It becomes durable with the next checkpoint; the old files stay
// until then.
func (p *Partition) CompactDone(j *CompactJob, err error) {
	p.compacting = false
	ok := err == nil && p.failed == nil
	for _, g := range j.groups {
		// A group that cannot be replaced stops those behind it: a tombstone must not
		// go while something that it superseded stays.
		ok = ok && p.replace(g)
		if !ok && g.output != nil {
			g.output.Seal()
			g.output.Free()
			if err := g.output.Doom(); err != nil {
				p.log.Warn("compaction output not removed", "partition", p.o.ID.String(), "err", err)
			}
		}
	}
	for _, in := range j.inputs {
		_ = in.v.Release() // it was only read
	}
	if !ok {
		return
	}
	p.changed = true
	p.cleaned = max(p.cleaned, j.through)
	p.cache.trim(p.cleaned) // it holds what was superseded
	if len(p.cleans) == cleansMax {
		p.cleans = slices.Delete(p.cleans, 0, 1)
	}
	p.cleans = append(p.cleans, clean{j.through, j.now})
}

// replace swaps a group's inputs for its output, if all of them are still there.
func (p *Partition) replace(g group) bool {
	i := slices.Index(p.segments, g.inputs[0].s)
	if i < 0 {
		return false
	}
	for k, in := range g.inputs {
		if i+k >= len(p.segments) || p.segments[i+k] != in.s {
			return false
		}
	}
	if g.same {
		return true
	}
	for _, s := range p.segments[:i+len(g.inputs)] {
		s.Shrink(0) // what is in memory is the end of the log, without a gap
	}
	p.doomed = append(p.doomed, p.segments[i:i+len(g.inputs)]...)
	var outputs []*segment.Segment
	if g.output != nil {
		m := g.output.Meta()
		g.output.IndexSaved(m.Length)
		g.output.ForgetIndex()
		outputs = append(outputs, g.output)
		p.namesChanged = true
	}
	p.segments = slices.Replace(p.segments, i, i+len(g.inputs), outputs...)
	return true
}

// HorizonTarget tells up to where tombstones have been behind a compaction for
// DeleteRetention by now, for the leader to propose as KindHorizon.
func (p *Partition) HorizonTarget(now time.Time) (model.Offset, bool) {
	to := p.horizon
	p.cleans = slices.DeleteFunc(p.cleans, func(c clean) bool {
		due := !c.at.After(now.Add(-p.config.DeleteRetention))
		if due {
			to = max(to, c.through)
		}
		return due
	})
	return to, to > p.horizon
}
