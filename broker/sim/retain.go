package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/broker/segment"
)

// starts is what is known of where a log begins. Owned by the driver.
type starts struct {
	asked model.Offset // the furthest that clients asked records to be deleted up to
	due   model.Offset // the furthest that a leader found to be due by the topic's rule
	told  model.Offset // the furthest that a client was told of
}

// most is the furthest that a log may begin.
func (s *starts) most() model.Offset { return max(s.asked, s.due) }

// question is a read, and what came back.
type question struct {
	from    model.Offset
	told    model.Offset // the log's start, as the asker was told before
	start   model.Offset // as it is told now; of no meaning if it is refused
	refused bool         // the offset is out of range
}

// wrong says what is wrong with an answer.
func (s *starts) wrong(q question) string {
	if q.refused {
		if q.from >= s.most() {
			return fmt.Sprintf("%d is out of range, and nothing was to go but what is before %d", q.from, s.most())
		}
		return ""
	}
	if q.from < q.start || q.from < q.told {
		return fmt.Sprintf("it may read at %d, before the log's start, which is %d and was %d", q.from, q.start, q.told)
	}
	return s.moved(q.told, q.start)
}

// moved notes where a log begins, and says what is wrong with it beside what the asker was
// told before.
func (s *starts) moved(told, start model.Offset) string {
	s.told = max(s.told, start)
	switch {
	case start < told:
		return fmt.Sprintf("the log's start goes back from %d to %d", told, start)
	case start > s.most():
		return fmt.Sprintf("the log begins at %d, and nothing was to go but what is before %d", start, s.most())
	}
	return ""
}

// deleted notes that a client's wish is fulfilled.
func (s *starts) deleted(told, to, start model.Offset) string {
	if start < to {
		return fmt.Sprintf("the log begins at %d, and what is before %d is said to be deleted", start, to)
	}
	return s.moved(told, start)
}

// end holds where the replicas' logs begin against what is known.
func (s *starts) end(replicas []model.Offset) (faults []string) {
	for id, start := range replicas {
		if start != replicas[0] {
			faults = append(faults, fmt.Sprintf("replica %d has the log from %d on, the first from %d", id, start, replicas[0]))
		}
		if why := s.moved(s.told, start); why != "" {
			faults = append(faults, fmt.Sprintf("replica %d: %s", id, why))
		}
	}
	return faults
}

// look is what a replica holds.
type look struct {
	node                 model.NodeID
	start, high, horizon model.Offset
	bytes                int64 // of all its segments
	segments             int
	log                  []byte
	records              []full
	ends                 map[model.Offset]model.Offset // of batches, by where they begin
}

// full is a record with all that retention and compaction go by.
type full struct {
	offset    model.Offset
	key, name string
	tombstone bool
	time      int64
}

// look reads a replica; not ok if it has none to give just now.
func (w *World) look(n *node, id model.PartitionID) (l look, ok bool) {
	h, ok := n.cores.Handle(id)
	if !ok {
		return l, false
	}
	err := h.Query(context.Background(), func(p *partition.Partition) {
		l.start, l.high, l.horizon, l.bytes, l.segments = p.LogStart(), p.HighWatermark(), p.Horizon(), p.Bytes(), p.SegmentCount()
	})
	if err != nil {
		return l, false
	}
	l.node = n.id
	l.log, l.ends = w.whole(n, id), map[model.Offset]model.Offset{}
	for rest := l.log; len(rest) > 0; {
		b, after, err := record.Next(rest)
		must(err == nil, "what was read is no batch: %v", err)
		l.ends[b.BaseOffset()], rest = b.NextOffset(), after
	}
	each(l.log, func(_ record.Batch, rec *record.Record) {
		if rec.Offset >= l.start {
			l.records = append(l.records, full{rec.Offset, string(rec.Key), nameOfRecord(rec), rec.Value == nil, rec.Timestamp})
		}
	})
	return l, true
}

// keepHouse has a replica of a topic that does not keep everything look for what is due,
// flushed or not.
func (w *World) keepHouse() {
	n := w.pick()
	if n == nil || !w.load.made {
		return
	}
	var all []*core.Handle
	n.cores.Handles(func(h *core.Handle) bool {
		switch h.Topic {
		case agedTopic, sizedTopic, keyedTopic, cluster.TopicOffsets:
			all = append(all, h)
		}
		return true
	})
	if len(all) == 0 {
		return
	}
	sortHandles(all)
	h := all[w.dice.IntN(len(all))]
	if w.dice.IntN(2) == 0 {
		n.cores.Release(h.Shard)
		w.o.Still()
	}
	before, ok := w.look(n, h.ID)
	w.load.kept.proposed()
	n.cores.Housekeep(h.Shard)
	w.o.Still()
	if !ok {
		return
	}
	for _, c := range w.load.kept.proposed() { // also if the node dies of this: Raft may have it
		w.due(n, h, before, c)
	}
	after, ok := w.look(n, h.ID)
	if !ok || n.dead() || n.fs.Stopped() {
		return
	}
	w.log("%d node %d keeps %s: it has %d records from %d on, and had %d", w.step, n.id, h.Topic, len(after.records), after.start, len(before.records))
	for _, f := range wrongClean(before, after) {
		w.broken("node %d cleans %s: %s", n.id, h.Topic, f)
	}
	w.sawCleaned(h.Topic, before, after)
}

// due holds what a leader proposes for a partition of its own accord against the rules.
func (w *World) due(n *node, h *core.Handle, l look, c ownCommand) {
	rules, why := w.load.kept.rules, ""
	switch {
	case c.shard != h.Shard:
		why = "it was not asked for"
	case c.Kind == partition.KindHorizon:
		why = rules.wrongHorizon(l, c.Horizon, time.Now())
		w.saw("horizon due")
	case h.Topic == agedTopic:
		why = rules.wrongAge(l, c.LogStart, time.Now())
		w.saw("old records due")
	case h.Topic == sizedTopic:
		why = rules.wrongSize(l, c.LogStart)
		w.saw("many records due")
	default:
		why = "it keeps all of its log"
	}
	w.log("%d node %d finds it due: %s of %s, to %d or %d", w.step, n.id, c.Kind, h.Topic, c.LogStart, c.Horizon)
	if why != "" {
		w.broken("node %d proposes a %s of %s: %s", n.id, c.Kind, h.Topic, why)
	}
	if c.Kind == partition.KindTrim {
		known := w.load.kept.startsOf(h.ID)
		known.due = max(known.due, c.LogStart)
	}
}

// wrongAge says why the log must not begin at to because of retention.ms.
func (r *rules) wrongAge(l look, to model.Offset, now time.Time) string {
	for _, rec := range l.records {
		if age := now.Sub(time.UnixMilli(rec.time)); rec.offset < to && age <= r.age {
			return fmt.Sprintf("up to %d, and %q at %d is %v old", to, rec.name, rec.offset, age)
		}
	}
	return l.within(to)
}

// wrongSize says why it must not because of retention.bytes, which counts what segments
// have of their own too: as if all of them stayed.
func (r *rules) wrongSize(l look, to model.Offset) string {
	left := int64(l.segments * segment.HeaderSize)
	for rest := l.log; len(rest) > 0; {
		b, after, err := record.Next(rest)
		must(err == nil, "what was read is no batch: %v", err)
		if b.NextOffset() > to {
			left += int64(segment.FrameOverhead + len(b))
		}
		rest = after
	}
	if left < r.bytes {
		return fmt.Sprintf("up to %d, which leaves %d bytes", to, left)
	}
	return l.within(to)
}

// within says if an offset is not one that the log can begin at.
func (l *look) within(to model.Offset) string {
	if to <= l.start || to > l.high {
		return fmt.Sprintf("up to %d of a log from %d to %d", to, l.start, l.high)
	}
	return ""
}

// judgeStarts holds where the replicas of a partition begin against what is known, and
// gives that of one of them.
func (w *World) judgeStarts(t *cluster.Topic, id model.PartitionID) model.Offset {
	var begin []model.Offset
	for _, l := range w.replicas(id) {
		begin = append(begin, l.start)
	}
	if len(begin) == 0 {
		w.broken("nobody has %s-%d", t.Name, id.Index)
		return 0
	}
	for _, f := range w.load.kept.startsOf(id).end(begin) {
		w.broken("%s-%d: %s", t.Name, id.Index, f)
	}
	return begin[0]
}

// replicas reads all replicas of a partition.
func (w *World) replicas(id model.PartitionID) (all []look) {
	for _, n := range w.nodes {
		if l, ok := w.look(n, id); ok {
			all = append(all, l)
		}
	}
	return all
}
