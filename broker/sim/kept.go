package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/record"
)

// The topics that do not keep everything: aged loses what is old, sized what is too much,
// and both what clients ask to be deleted; keyed loses what later records supersede. Their
// segments are as small as may be.
const (
	agedTopic, sizedTopic, keyedTopic = "aged", "sized", "keyed"

	agedRetention   = 1500 * time.Millisecond
	sizedRetention  = 2000 // bytes
	deleteRetention = 100 * time.Millisecond
)

// longKey is what keys of these topics are made longer by, to fill their segments.
var longKey = strings.Repeat("k", 80)

// keptTopics asks for them.
func keptTopics() []cluster.CreateTopic {
	ask := func(name string, settings ...string) cluster.CreateTopic {
		settings = append(settings, "segment.bytes", "1024")
		configs := map[string]*string{}
		for i := 0; i < len(settings); i += 2 {
			configs[settings[i]] = &settings[i+1]
		}
		return cluster.CreateTopic{Name: name, Partitions: 1, Replication: nodesMax, Configs: configs}
	}
	return []cluster.CreateTopic{
		ask(agedTopic, "retention.ms", fmt.Sprint(agedRetention.Milliseconds())),
		ask(sizedTopic, "retention.ms", "-1", "retention.bytes", fmt.Sprint(sizedRetention)),
		ask(keyedTopic, "cleanup.policy", "compact", "delete.retention.ms", fmt.Sprint(deleteRetention.Milliseconds())),
	}
}

// kept is the load on these topics, and what is known of them. Owned by the driver, but
// for what loops propose.
type kept struct {
	writers []*producer
	readers []*reader
	starts  map[model.PartitionID]*starts
	passed  map[model.Offset]bool // what readers of keyed were not given
	rules   rules
	// What clients must not do, to see the judge fail: have records deleted without a word
	// of it; read what is there and take it for what is gone.
	secret, confused bool

	mu  sync.Mutex
	own []ownCommand
}

// rules are what the judge takes the topics' settings for.
type rules struct {
	age             time.Duration
	bytes           int64
	deleteRetention time.Duration
}

// ownCommand is what a loop has proposed by itself.
type ownCommand struct {
	shard model.ShardID
	partition.Command
}

func (k *kept) init() {
	k.starts, k.passed = map[model.PartitionID]*starts{}, map[model.Offset]bool{}
	k.rules = rules{agedRetention, sizedRetention, deleteRetention}
	for i, topic := range []string{agedTopic, sizedTopic, keyedTopic} {
		k.writers = append(k.writers,
			&producer{name: fmt.Sprint("numbered-", topic), id: model.ProducerID(1100 + i), epochs: epochs{}, topic: topic},
			&producer{name: fmt.Sprint("plain-", topic), id: -1, epochs: epochs{}, topic: topic})
	}
	for range 2 {
		k.readers = append(k.readers, &reader{
			epochs: epochs{}, at: map[model.PartitionID]model.Offset{}, told: map[model.PartitionID]model.Offset{}, lost: map[model.PartitionID]bool{},
		})
	}
}

func (k *kept) startsOf(id model.PartitionID) *starts {
	if k.starts[id] == nil {
		k.starts[id] = &starts{}
	}
	return k.starts[id]
}

// heard notes what a loop proposes, on any goroutine.
func (k *kept) heard(shard model.ShardID, cmd []byte) {
	c, err := partition.Decode(cmd)
	must(err == nil, "a loop proposes what is no command: %v", err)
	if c.Kind != partition.KindTrim && c.Kind != partition.KindHorizon {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.own = append(k.own, ownCommand{shard, c})
}

// proposed gives what loops have proposed since it was called last.
func (k *kept) proposed() []ownCommand {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := k.own
	k.own = nil
	return all
}

// reader reads these topics from their beginnings on, with one request at a time, and
// what is gone now and then.
type reader struct {
	epochs epochs
	busy   bool
	at     map[model.PartitionID]model.Offset
	told   map[model.PartitionID]model.Offset // where the log begins
	lost   map[model.PartitionID]bool         // what is at at is gone
}

// stepKept has a client of these topics do something.
func (w *World) stepKept() {
	if !w.load.made {
		return
	}
	k := &w.load.kept
	r := k.readers[w.dice.IntN(len(k.readers))]
	switch luck := w.dice.IntN(20); {
	case luck < 10 || w.load.ended:
		w.send(k.writers[w.dice.IntN(len(k.writers))])
	case r.busy:
	case luck < 18:
		w.readKept(r, []string{agedTopic, sizedTopic, keyedTopic}[w.dice.IntN(3)])
	default:
		w.deleteRecords(r, []string{agedTopic, agedTopic, sizedTopic}[w.dice.IntN(3)])
	}
}

// ask has a reader ask a node; heard runs on the driver.
func (w *World) ask(r *reader, n *node, ask func(ctx context.Context), heard func()) {
	r.busy = true
	o := w.async(n, func() {
		ctx, cancel := context.WithTimeout(n.ctx, patience)
		defer cancel()
		ask(ctx)
	})
	o.lost = func() { r.busy = false }
	o.done = func() {
		r.busy = false
		heard()
	}
}

// readKept fetches from where a reader stands, or from what it knows to be gone.
func (w *World) readKept(r *reader, topic string) {
	of, ok := w.whom(r.epochs, topic, 0)
	if !ok {
		return
	}
	q := question{from: r.at[of.id], told: r.told[of.id]}
	gone := q.told > 0 && w.dice.IntN(5) == 0
	if gone {
		q.from = model.Offset(w.dice.IntN(int(q.told)))
	} else if r.lost[of.id] {
		w.earliest(r, of)
		return
	}
	from := q.from
	if gone && w.load.kept.confused {
		from = q.told
	}
	var a fetch.PartitionAnswer
	w.ask(r, of.node, func(ctx context.Context) {
		a = of.node.fetch.Fetch(ctx, fetch.Ask{
			Partitions: []fetch.PartitionAsk{{Partition: of.id, From: from, BytesMax: 2 << 10, CurrentEpoch: of.epoch}}, BytesMax: 2 << 10,
		})[0]
	}, func() {
		records := since(decode(a.Records), q.from)
		w.log("%d a reader of %s at %d is given %d records, the log's start %d, %v", w.step, topic, q.from, len(records), a.LogStart, a.Err)
		q.start, q.refused = a.LogStart, errors.Is(a.Err, fetch.ErrOffsetOutOfRange)
		if !q.refused && w.unanswered(of.node, "a reader of "+topic, a.Err) {
			return
		}
		if why := w.load.kept.startsOf(of.id).wrong(q); why != "" {
			w.broken("a reader of %s at node %d: %s", topic, of.node.id, why)
		}
		switch {
		case q.refused && gone:
			w.saw("gone is out of range")
		case q.refused:
			r.lost[of.id] = true
			w.saw("out of range")
		case !gone:
			r.told[of.id] = a.LogStart
			w.given(r, of.id, topic, records, behind(a.Records))
		}
	})
}

// unanswered tells whether a client has to ask again.
func (w *World) unanswered(n *node, who string, err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, fetch.ErrNotLeader), errors.Is(err, fetch.ErrUnknownPartition), errors.Is(err, fetch.ErrFencedEpoch), errors.Is(err, fetch.ErrUnknownEpoch):
	case errors.Is(err, produce.ErrNotLeader), errors.Is(err, produce.ErrTimedOut), errors.Is(err, produce.ErrUnknownPartition):
	case n.dead(), n.fs.Stopped():
	default:
		w.broken("%s is told by node %d: %v", who, n.id, err)
	}
	return true
}

// given moves a reader over what it was given, up to end. Of a compacted topic that may
// have holes.
func (w *World) given(r *reader, id model.PartitionID, topic string, records []read, end model.Offset) {
	at := r.at[id]
	for _, x := range records {
		if x.offset < at || x.offset > at && topic != keyedTopic {
			w.broken("a reader of %s is given %d after %d", topic, x.offset, at-1)
		}
		w.pass(topic, at, x.offset)
		w.truth.read(w, id, x.offset, x.value)
		at = x.offset + 1
	}
	w.pass(topic, at, end)
	r.at[id] = max(at, end)
	w.saw("kept read")
}

// pass notes what a reader of keyed was not given.
func (w *World) pass(topic string, from, to model.Offset) {
	for ; topic == keyedTopic && from < to; from++ {
		w.load.kept.passed[from] = true
	}
}

// behind is the offset behind whole batches, 0 of none.
func behind(records []byte) (end model.Offset) {
	for len(records) > 0 {
		b, rest, err := record.Next(records)
		must(err == nil, "what was read is no batch: %v", err)
		end, records = b.NextOffset(), rest
	}
	return end
}

// since leaves out what lies before an offset.
func since(log []read, from model.Offset) []read {
	for len(log) > 0 && log[0].offset < from {
		log = log[1:]
	}
	return log
}

// earliest has a reader find the log's start, as one that was told that its offset is out
// of range does.
func (w *World) earliest(r *reader, of served) {
	q := question{from: r.at[of.id], told: r.told[of.id]}
	var a fetch.ListAnswer
	var err error
	w.ask(r, of.node, func(ctx context.Context) {
		a, err = of.node.fetch.ListOffset(ctx, fetch.ListAsk{Partition: of.id, Timestamp: fetch.TimestampEarliest, CurrentEpoch: of.epoch})
	}, func() {
		w.log("%d a reader that was at %d finds the log's start: %d, %v", w.step, q.from, a.Offset, err)
		if w.unanswered(of.node, "a reader that looks for the log's start", err) {
			return
		}
		if a.Offset <= q.from {
			w.broken("node %d says that a log begins at %d, where %d was out of range", of.node.id, a.Offset, q.from)
		}
		q.from, q.start = a.Offset, a.Offset
		if why := w.load.kept.startsOf(of.id).wrong(q); why != "" {
			w.broken("a reader that looks for the log's start at node %d: %s", of.node.id, why)
		}
		r.at[of.id], r.told[of.id], r.lost[of.id] = a.Offset, a.Offset, false
		w.saw("log start found")
	})
}

// nowhere is behind all logs.
const nowhere model.Offset = 1 << 40

// deleteRecords asks that what a reader has read be deleted, up to somewhere; now and
// then what is not there.
func (w *World) deleteRecords(r *reader, topic string) {
	of, ok := w.whom(r.epochs, topic, 0)
	if !ok || r.at[of.id] == 0 {
		return
	}
	known := w.load.kept.startsOf(of.id)
	to := 1 + model.Offset(w.dice.IntN(int(r.at[of.id])))
	if w.dice.IntN(8) == 0 {
		to = nowhere
	} else if !w.load.kept.secret {
		known.asked = max(known.asked, to)
	}
	var start model.Offset
	var err error
	w.ask(r, of.node, func(ctx context.Context) { start, err = of.node.produce.Trim(ctx, of.id, to) }, func() {
		w.log("%d records of %s before %d are deleted: the log's start is %d, %v", w.step, topic, to, start, err)
		switch {
		case to == nowhere && (err == nil || errors.Is(err, partition.ErrOffsetOutOfRange)):
			if err == nil {
				w.broken("node %d has deleted records of %s before %d", of.node.id, topic, to)
			}
			w.saw("delete refused")
		case w.unanswered(of.node, "who deletes records of "+topic, err):
		default:
			if why := known.deleted(r.told[of.id], to, start); why != "" {
				w.broken("who deletes records of %s at node %d: %s", topic, of.node.id, why)
			}
			r.told[of.id] = start
			w.saw("deleted")
		}
	})
}
