package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

// read is a record as a reader has it.
type read struct {
	offset model.Offset
	value  string
}

// decode gives the records of whole batches. A tombstone's value is its name.
func decode(records []byte) (all []read) {
	each(records, func(_ record.Batch, rec *record.Record) { all = append(all, read{rec.Offset, nameOfRecord(rec)}) })
	return all
}

// each calls f for the records of whole batches.
func each(records []byte, f func(b record.Batch, rec *record.Record)) {
	var r record.Reader
	for len(records) > 0 {
		b, rest, err := record.Next(records)
		if err == nil {
			err = b.Check()
		}
		if err == nil {
			err = r.Reset(b, 1<<20)
		}
		must(err == nil, "what was read is no batch: %v", err)
		var rec record.Record
		for r.Next(&rec) {
			f(b, &rec)
		}
		records = rest
	}
}

// truth is what clients know. Owned by the driver.
type truth struct {
	places map[model.PartitionID]*place
}

// place is a partition as its clients know it.
type place struct {
	sent  map[string]bool
	at    map[model.Offset]string // what was acknowledged or read there
	there map[string]bool         // acknowledged, without an offset
	end   model.Offset            // behind what was acknowledged
	start model.Offset            // where the log begins, if it may lose its beginning
}

func (t *truth) init() { t.places = map[model.PartitionID]*place{} }

func (t *truth) place(id model.PartitionID) *place {
	if t.places[id] == nil {
		t.places[id] = &place{sent: map[string]bool{}, at: map[model.Offset]string{}, there: map[string]bool{}}
	}
	return t.places[id]
}

func (t *truth) end(id model.PartitionID) model.Offset { return t.place(id).end }

func (t *truth) sent(id model.PartitionID, values []string) {
	for _, v := range values {
		t.place(id).sent[v] = true
	}
}

func (t *truth) there(id model.PartitionID, values []string) {
	for _, v := range values {
		t.place(id).there[v] = true
	}
}

func (t *truth) acked(w *World, id model.PartitionID, base model.Offset, values []string) {
	p := t.place(id)
	for i, v := range values {
		t.read(w, id, base+model.Offset(i), v)
	}
	p.end = max(p.end, base+model.Offset(len(values)))
}

// read holds a record against what was known of its offset.
func (t *truth) read(w *World, id model.PartitionID, at model.Offset, value string) {
	p := t.place(id)
	if was, known := p.at[at]; known && was != value {
		w.broken("offset %d of %s holds %q, and held %q", at, id, value, was)
	}
	p.at[at] = value
}

// numberOf takes a value apart: its producer's name, and its number.
func numberOf(value string) (name string, number int) {
	name, digits, _ := strings.Cut(value, ".")
	number, _ = strconv.Atoi(digits)
	return name, number
}

// wrong says what a log lacks, or has too much, of what clients know. Numbered producers
// write their values in order, none left out.
func (p *place) wrong(log []read) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	times, at := map[string]int{}, map[model.Offset]string{}
	first, next := map[string]int{}, map[string]int{}
	for i, r := range log {
		if r.offset != p.start+model.Offset(i) {
			fault("offset %d comes after %d others from %d on", r.offset, i, p.start)
		}
		at[r.offset] = r.value
		if times[r.value]++; times[r.value] == 2 {
			fault("%q is there twice", r.value)
		}
		if p.sent != nil && !p.sent[r.value] {
			fault("%q is there, and was not sent", r.value)
		}
		name, number := numberOf(r.value)
		if !strings.HasPrefix(name, "numbered") {
			continue
		}
		if _, met := first[name]; !met {
			first[name] = number
			if p.start > 0 {
				next[name] = number
			}
		}
		if number != next[name] {
			fault("%q is there where %s.%d should be", r.value, name, next[name])
		}
		next[name]++
	}
	for _, o := range slices.Sorted(maps.Keys(p.at)) {
		if o >= p.start && at[o] != p.at[o] {
			fault("%q was acknowledged or read at %d, which holds %q", p.at[o], o, at[o])
		}
	}
	for _, v := range slices.Sorted(maps.Keys(p.there)) {
		name, number := numberOf(v)
		if from, met := first[name]; p.start > 0 && (!met || number < from) {
			continue // it was before the log's start
		}
		if times[v] == 0 {
			fault("%q was acknowledged, and is not there", v)
		}
	}
	return faults
}

// whole reads a replica's log, all of it. The first batch may begin before the log does.
func (w *World) whole(n *node, id model.PartitionID) (log []byte) {
	h, ok := n.cores.Handle(id)
	if !ok {
		return nil
	}
	from := model.NoOffset
	for {
		var answer *partition.ReadAnswer
		var high model.Offset
		err := h.Query(context.Background(), func(p *partition.Partition) {
			high = p.HighWatermark()
			from = max(from, p.LogStart())
			answer, _ = p.Read(partition.ReadAsk{From: from, BytesMax: 1 << 20, MinOne: true})
		})
		if err != nil || answer == nil || from >= high {
			return log
		}
		b, err := answer.Load(nil)
		if err != nil || len(b) == 0 {
			w.broken("node %d does not read %s at %d of %d: %v", n.id, id, from, high, err)
			return log
		}
		for rest := b; len(rest) > 0; {
			batch, after, err := record.Next(rest)
			must(err == nil, "what was read is no batch: %v", err)
			if batch.NextOffset() > from {
				log = append(log, batch...)
			}
			from, rest = max(from, batch.NextOffset()), after
		}
	}
}

// partitions calls f for every partition that node 0 knows.
func (w *World) partitions(f func(t *cluster.Topic, id model.PartitionID)) {
	for _, t := range w.nodes[0].cluster.Metadata().Topics() {
		for _, p := range t.Partitions {
			f(t, t.PartitionID(p.Index))
		}
	}
}

func (w *World) settled() bool { return len(w.unsettled()) == 0 }

// unsettled says what is still to come.
func (w *World) unsettled() (why []error) {
	if left := w.net.Unrest(); left != "" || !w.calls.empty() || len(w.load.ops) > 0 {
		return []error{fmt.Errorf("calls are on their way, or Raft has work (%q), or %d clients wait", left, len(w.load.ops))}
	}
	if !w.entered() {
		return []error{errors.New("a node has not entered")}
	}
	for _, p := range w.load.writers() {
		if len(p.queue) > 0 && p.topic != passingTopic {
			why = append(why, fmt.Errorf("%s has %v to send", p.name, p.queue[0].values))
		}
	}
	for _, n := range w.nodes {
		why = append(why, w.moving(n)...)
	}
	if left := w.load.members.unsettled(); left != "" {
		why = append(why, errors.New(left))
	}
	if w.load.script.down.Load() {
		w.load.script.down.Store(false)
	}
	return append(why, w.scriptUnsettled()...)
}

// judge holds what the nodes have against what clients know.
func (w *World) judge() {
	var states [nodesMax][]byte
	for id, n := range w.nodes {
		states[id], _ = n.cluster.StateMachine().Snapshot()
		if !bytes.Equal(states[id], states[0]) {
			w.broken("node %d has other metadata than node 0: %s, %s", id, states[id], states[0])
		}
	}
	logs := map[string]map[int32][]read{}
	w.partitions(func(t *cluster.Topic, id model.PartitionID) {
		if t.Config.Compact {
			w.judgeCleaned(t, id)
			return
		}
		first, _ := w.holder(id)
		log := w.whole(first, id)
		for _, n := range w.nodes {
			if _, holds := n.cores.Handle(id); !holds {
				continue
			}
			if other := w.whole(n, id); !bytes.Equal(log, other) {
				w.broken("node %d has %d bytes of %s-%d, and not those that node %d has, %d", n.id, len(other), t.Name, id.Index, first.id, len(log))
			}
		}
		if t.Internal {
			return
		}
		if logs[t.Name] == nil {
			logs[t.Name] = map[int32][]read{}
		}
		known := *w.truth.place(id)
		known.start = w.judgeStarts(t, id)
		records := since(decode(log), known.start)
		logs[t.Name][id.Index] = records
		if t.Name == childrenTopic {
			known.sent = nil // judged below
		}
		for _, f := range known.wrong(records) {
			w.broken("%s-%d: %s", t.Name, id.Index, f)
		}
		w.log("%s-%d has %d records, %x", t.Name, id.Index, len(records), sha256.Sum256(log))
	})
	for index, parent := range logs[parentsTopic] {
		for _, f := range wrongChildren(parent, logs[childrenTopic][index], w.load.script.plans.all(index)) {
			w.broken("%s-%d: %s", childrenTopic, index, f)
		}
	}
}
