package group

import (
	"maps"
	"slices"
	"time"
)

func (g *Group) commit(e Commit, now time.Time) {
	if err := g.checkCommit(e, now); err != nil {
		g.reply(e.To, OffsetsAnswer{Err: err})
		return
	}
	w := &offsetsWrite{to: e.To, answer: OffsetsAnswer{Partitions: make([]error, len(e.Offsets))}}
	for i, o := range e.Offsets {
		if len(o.Offset.Metadata) > g.o.MetadataBytesMax {
			w.answer.Partitions[i] = ErrMetadataTooLarge
			continue
		}
		w.asked = append(w.asked, i)
		w.records = append(w.records, o)
	}
	g.writeOffsets(w)
}

func (g *Group) checkCommit(e Commit, now time.Time) error {
	if g.deleting || g.state == Dead {
		return ErrGone
	}
	if e.Generation < 0 && e.Member == (Member{}) {
		if g.state != Empty {
			return ErrUnknownMember // only members commit while there are any
		}
		return nil
	}
	if e.Generation < 0 && g.state == Empty {
		return nil
	}
	if g.Blank() {
		return ErrIllegalGeneration
	}
	m, err := g.find(e.Member)
	switch {
	case err != nil:
		return err
	case e.Generation != g.generation:
		return ErrIllegalGeneration
	}
	g.touch(m, now)
	if g.state == CompletingRebalance {
		return ErrRebalanceInProgress
	}
	return nil
}

// offsetsWrite stores or drops offsets.
type offsetsWrite struct {
	to      Token
	answer  OffsetsAnswer
	asked   []int // place in answer.Partitions of each record
	records []Record
}

func (g *Group) writeOffsets(w *offsetsWrite) {
	if len(w.records) == 0 {
		g.reply(w.to, w.answer)
		return
	}
	g.write(w, w.records...)
}

func (w *offsetsWrite) done(g *Group, err error, _ time.Time) {
	for i, r := range w.records {
		if err != nil {
			if i < len(w.asked) {
				w.answer.Partitions[w.asked[i]] = err
			}
			continue
		}
		g.apply(r)
	}
	g.reply(w.to, w.answer)
}

// Fetch gives a committed offset. Every offset it knows is stable: until there
// are transactions, none waits for the end of one.
func (g *Group) Fetch(p TopicPartition) (Offset, bool) {
	o, ok := g.offsets[p]
	return o, ok
}

// Offsets gives all committed offsets, by topic and partition.
func (g *Group) Offsets() []OffsetSet {
	all := make([]OffsetSet, 0, len(g.offsets))
	for p, o := range g.offsets {
		all = append(all, OffsetSet{p, o})
	}
	slices.SortFunc(all, func(a, b OffsetSet) int { return a.Compare(b.TopicPartition) })
	return all
}

func (g *Group) deleteOffsets(e DeleteOffsets) {
	if g.deleting || g.state == Dead || g.Blank() {
		g.reply(e.To, OffsetsAnswer{Err: ErrNotFound})
		return
	}
	if g.state != Empty && g.protocolType != ConsumerProtocol {
		g.reply(e.To, OffsetsAnswer{Err: ErrNotEmpty})
		return
	}
	w := &offsetsWrite{to: e.To, answer: OffsetsAnswer{Partitions: make([]error, len(e.Partitions))}}
	for i, p := range e.Partitions {
		switch {
		case g.subscribed(p.Topic):
			w.answer.Partitions[i] = ErrSubscribed
		case g.mayHold(p):
			w.asked = append(w.asked, i)
			w.records = append(w.records, OffsetDrop{p})
		}
	}
	g.writeOffsets(w)
}

// ConsumerProtocol is the protocol type of consumers, as opposed to Connect's
// workers and others that borrow the group protocol.
const ConsumerProtocol = "consumer"

// subscribed says that a member reads topic, or may, as far as is known.
func (g *Group) subscribed(topic string) bool {
	for _, m := range g.members {
		for _, p := range m.protocols {
			if p.Topics == nil || slices.Contains(p.Topics, topic) {
				return true
			}
		}
	}
	return false
}

// mayHold says that p has an offset, or a write under way gives it one.
func (g *Group) mayHold(p TopicPartition) bool {
	_, ok := g.offsets[p]
	return ok || g.setting(p)
}

// setting says that a write under way gives p an offset.
func (g *Group) setting(p TopicPartition) bool {
	return slices.ContainsFunc(g.inflight, func(w write) bool {
		o, ok := w.(*offsetsWrite)
		return ok && o.sets(p)
	})
}

func (w *offsetsWrite) sets(p TopicPartition) bool {
	return slices.ContainsFunc(w.records, func(r Record) bool {
		s, ok := r.(OffsetSet)
		return ok && s.TopicPartition == p
	})
}

func (g *Group) forgetTopics(e ForgetTopics) {
	if g.deleting || g.state == Dead {
		return
	}
	w := &offsetsWrite{}
	for _, o := range g.allOffsets() {
		if _, gone := e.Names[o.Topic]; gone {
			w.records = append(w.records, OffsetDrop{o})
		}
	}
	g.writeOffsets(w)
}

// allOffsets gives the partitions that have an offset, or are about to get one,
// in order.
func (g *Group) allOffsets() []TopicPartition {
	all := make(map[TopicPartition]struct{}, len(g.offsets))
	for p := range g.offsets {
		all[p] = struct{}{}
	}
	for _, w := range g.inflight {
		if o, ok := w.(*offsetsWrite); ok {
			for _, r := range o.records {
				if s, ok := r.(OffsetSet); ok {
					all[s.TopicPartition] = struct{}{}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), TopicPartition.Compare)
}

func (g *Group) deleteGroup(e DeleteGroup) {
	switch {
	case g.deleting || g.state == Dead || g.Blank():
		g.reply(e.To, Status{Err: ErrNotFound})
		return
	case g.state != Empty || len(g.pending) > 0:
		g.reply(e.To, Status{Err: ErrNotEmpty})
		return
	}
	g.end(e.To, g.allOffsets())
}

// end drops the group and the offsets named, which are all it has. Nothing is
// accepted until the log has answered.
func (g *Group) end(to Token, offsets []TopicPartition) {
	records := make([]Record, 0, len(offsets)+1)
	for _, p := range offsets {
		records = append(records, OffsetDrop{p})
	}
	// The tombstone is written even if no MetadataSet is known: one may be in flight.
	records = append(records, MetadataDrop{})
	g.deleting = true
	g.write(&endWrite{to: to, records: records}, records...)
}

type endWrite struct {
	to      Token
	records []Record
}

func (w *endWrite) done(g *Group, err error, now time.Time) {
	g.deleting = false
	if err == nil {
		for _, r := range w.records {
			g.apply(r)
		}
		g.become(Dead, now)
	}
	g.reply(w.to, Status{Err: err})
}

// expire follows Kafka's offsets.retention.minutes: in a group that has had
// members the clock starts when the last has left, for a consumer outside the
// group protocol when it committed, and while a consumer group is stable, for
// topics that nobody reads any more. The later of that and the commit counts.
func (g *Group) expire(now time.Time) {
	if g.deleting || g.state == Dead {
		return
	}
	w := &offsetsWrite{}
	for p, o := range g.offsets {
		if g.expired(p, o, now.UnixMilli()) {
			w.records = append(w.records, OffsetDrop{p})
		}
	}
	slices.SortFunc(w.records, func(a, b Record) int {
		return a.(OffsetDrop).Compare(b.(OffsetDrop).TopicPartition)
	})
	if len(w.records) < len(g.offsets) || g.state != Empty || len(g.inflight) > 0 || len(g.pending) > 0 {
		if len(w.records) > 0 {
			g.writeOffsets(w)
		}
		return
	}
	if g.stored || len(w.records) > 0 {
		drops := make([]TopicPartition, 0, len(w.records))
		for _, r := range w.records {
			drops = append(drops, r.(OffsetDrop).TopicPartition)
		}
		g.end(0, drops)
	}
}

func (g *Group) expired(p TopicPartition, o Offset, now int64) bool {
	from := o.Committed
	switch {
	case g.setting(p):
		return false
	case g.state == Empty:
		if g.protocolType != "" {
			from = max(from, g.since)
		}
	case g.state != Stable || g.protocolType != ConsumerProtocol || g.subscribed(p.Topic):
		return false
	}
	if o.Expires != 0 {
		return now >= o.Expires
	}
	return now-from >= g.o.Retention.Milliseconds()
}
