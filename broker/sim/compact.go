package sim

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// keysMax is how many keys the records of keyed have.
const keysMax = 12

// keyOf is the key of a value of keyed, which may be a tombstone instead.
func keyOf(name string) (key string, tombstone bool) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	sum := h.Sum32()
	return fmt.Sprint("key-", sum%keysMax, longKey), sum/keysMax%4 == 0
}

// nameHeader holds the name of a tombstone, which has no value.
const nameHeader = "name"

// keyed is a record of keyed: a value under its key, or a tombstone.
func keyed(name string) (key, value []byte, headers []record.HeaderField) {
	k, tombstone := keyOf(name)
	if tombstone {
		return []byte(k), nil, []record.HeaderField{{Key: nameHeader, Value: []byte(name)}}
	}
	return []byte(k), []byte(name), nil
}

// nameOfRecord is a record's value, or a tombstone's name.
func nameOfRecord(rec *record.Record) string {
	if rec.Value == nil {
		for h := range rec.Headers() {
			if h.Key == nameHeader {
				return string(h.Value)
			}
		}
	}
	return string(rec.Value)
}

// newest finds where the last record of every key is.
func newest(of map[string]full, records []full) {
	for _, r := range records {
		if last, known := of[r.key]; !known || last.offset < r.offset {
			of[r.key] = r
		}
	}
}

// has tells whether there is a record of a key: what a tombstone has superseded must not
// outlive it.
func has(l look, key string) bool {
	return slices.ContainsFunc(l.records, func(r full) bool { return r.key == key })
}

// wrongClean says what a replica's log has lost, or got, by one look of its housekeeping.
func wrongClean(before, after look) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	last := map[string]full{}
	newest(last, before.records)
	left := after.records
	for _, r := range before.records {
		switch {
		case len(left) > 0 && left[0] == r:
			left = left[1:]
		case last[r.key].offset > r.offset:
		case r.tombstone && r.offset < before.horizon && !has(after, r.key):
		default:
			fault("%q at %d, the last of %q, is gone", r.name, r.offset, r.key)
		}
	}
	for _, r := range left {
		fault("%q is there at %d, and was not", r.name, r.offset)
	}
	for base, end := range after.ends {
		if before.ends[base] != end {
			fault("the batch at %d ends at %d, and ended at %d", base, end, before.ends[base])
		}
	}
	if before.start != after.start || before.high != after.high {
		fault("a log from %d to %d is one from %d to %d", before.start, before.high, after.start, after.high)
	}
	return faults
}

// sawCleaned counts what compaction has removed.
func (w *World) sawCleaned(topic string, before, after look) {
	if len(after.records) == len(before.records) {
		return
	}
	if topic == cluster.TopicOffsets {
		w.saw("offsets cleaned")
		return
	}
	w.saw("cleaned")
	last := map[string]full{}
	newest(last, before.records)
	for _, key := range slices.Sorted(maps.Keys(last)) {
		if r := last[key]; r.tombstone && !slices.Contains(after.records, r) {
			w.saw("tombstone gone")
		}
	}
}

// wrongHorizon says why tombstones before an offset must not go yet.
func (r *rules) wrongHorizon(l look, to model.Offset, now time.Time) string {
	for _, rec := range l.records {
		if age := now.Sub(time.UnixMilli(rec.time)); rec.tombstone && rec.offset < to && age < r.deleteRetention {
			return fmt.Sprintf("tombstones before %d may go, and %q at %d is %v old", to, rec.name, rec.offset, age)
		}
	}
	if to > l.high {
		return fmt.Sprintf("to %d of a log to %d", to, l.high)
	}
	return ""
}

// wrongReplicas says what replicas of a compacted log lack of each other and of what else
// is known: the last record of each key must be everywhere, unless it is a tombstone
// that may go.
func wrongReplicas(replicas []look, known []full) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	last, at := map[string]full{}, map[model.Offset]full{}
	newest(last, known)
	for _, l := range replicas {
		newest(last, l.records)
		before := model.NoOffset
		for _, r := range l.records {
			if r.offset <= before || r.offset >= l.high {
				fault("node %d has %q at %d, after %d, of a log to %d", l.node, r.name, r.offset, before, l.high)
			}
			before = r.offset
			if other, is := at[r.offset]; is && other != r {
				fault("node %d has %q at %d, another one %q", l.node, r.name, r.offset, other.name)
			}
			at[r.offset] = r
		}
		if l.high != replicas[0].high || l.horizon != replicas[0].horizon {
			fault("node %d has a log to %d, with tombstones from %d on; node %d to %d, from %d on", l.node, l.high, l.horizon, replicas[0].node, replicas[0].high, replicas[0].horizon)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(last)) {
		r := last[key]
		for _, l := range replicas {
			is := slices.ContainsFunc(l.records, func(x full) bool { return x.offset == r.offset })
			if !is && !(r.tombstone && r.offset < l.horizon && !has(l, key)) {
				fault("node %d lacks %q at %d, the last of %q", l.node, r.name, r.offset, key)
			}
		}
	}
	return faults
}

// records are what is known of keyed, as they must be there.
func (p *place) records() (all []full) {
	for o, name := range p.at {
		key, tombstone := keyOf(name)
		all = append(all, full{offset: o, key: key, name: name, tombstone: tombstone})
	}
	slices.SortFunc(all, func(a, b full) int { return cmp.Compare(a.offset, b.offset) })
	return all
}

// wrongKeyed says what a replica of keyed has too much, or lacks, of what clients know:
// what was acknowledged or read at an offset is there or superseded, what is there is
// as it was written, each producer's in order.
func (p *place) wrongKeyed(l look, last map[string]full) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	there, next := map[string]bool{}, map[string]int{}
	for _, r := range l.records {
		if !p.sent[r.name] {
			fault("%q is there, and was not sent", r.name)
		}
		if key, tombstone := keyOf(r.name); key != r.key || tombstone != r.tombstone {
			fault("%q is there under %q, a tombstone %v", r.name, r.key, r.tombstone)
		}
		if was, known := p.at[r.offset]; known && was != r.name {
			fault("%q was acknowledged or read at %d, which holds %q", was, r.offset, r.name)
		}
		name, number := numberOf(r.name)
		if number < next[name] {
			fault("%q is there after %s.%d", r.name, name, next[name]-1)
		}
		there[r.name], next[name] = true, number+1
	}
	for _, name := range slices.Sorted(maps.Keys(p.there)) {
		key, tombstone := keyOf(name)
		if after := p.before(name); !there[name] && last[key].offset <= after && !(tombstone && after < l.horizon) {
			fault("%q was acknowledged, behind %d; it is not there, and the last of %q is at %d", name, after, key, last[key].offset)
		}
	}
	return faults
}

// before is the furthest offset that a value must lie behind: its producer has written in
// order.
func (p *place) before(value string) model.Offset {
	name, number := numberOf(value)
	furthest := model.NoOffset
	for o, v := range p.at {
		if n, i := numberOf(v); n == name && i < number {
			furthest = max(furthest, o)
		}
	}
	return furthest
}

// wrongPassed says what readers of keyed were not given and had to be: the last of a key.
func wrongPassed(passed map[model.Offset]bool, last map[string]full, horizon model.Offset) (faults []string) {
	for _, key := range slices.Sorted(maps.Keys(last)) {
		if r := last[key]; passed[r.offset] && !(r.tombstone && r.offset < horizon) {
			faults = append(faults, fmt.Sprintf("a reader was not given %q at %d, the last of %q", r.name, r.offset, key))
		}
	}
	return faults
}

// judgeCleaned holds the replicas of a compacted partition against each other, and what
// clients know of keyed.
func (w *World) judgeCleaned(t *cluster.Topic, id model.PartitionID) {
	replicas := w.replicas(id)
	if len(replicas) == 0 {
		w.broken("nobody has %s-%d", t.Name, id.Index)
		return
	}
	for _, l := range replicas {
		w.log("%s-%d has %d records at node %d, to %d", t.Name, id.Index, len(l.records), l.node, l.high)
	}
	var known []full
	if t.Name == keyedTopic {
		known = w.truth.place(id).records()
	}
	faults := wrongReplicas(replicas, known)
	if t.Name == keyedTopic {
		last := map[string]full{}
		newest(last, known)
		for _, l := range replicas {
			newest(last, l.records)
		}
		for _, l := range replicas {
			faults = append(faults, w.truth.place(id).wrongKeyed(l, last)...)
		}
		faults = append(faults, wrongPassed(w.load.kept.passed, last, replicas[0].horizon)...)
	}
	for _, f := range faults {
		w.broken("%s-%d: %s", t.Name, id.Index, f)
	}
}
