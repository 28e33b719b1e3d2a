package pacemaker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/script"
)

// JournalTopic is the compacted topic that shows how fibers stand. It is for
// people and tools: the children hold the truth.
const JournalTopic = "__pacemaker"

// journalEvery is how often changed entries are written.
const journalEvery = time.Second

// Entry is the value of a record of __pacemaker, as JSON. See docs/FORMATS.
type Entry struct {
	Version    int              `json:"v"`
	Script     string           `json:"script"`
	Activation model.Activation `json:"activation"`
	Digest     model.Digest     `json:"digest"`
	Node       model.NodeID     `json:"node"`
	Topic      string           `json:"topic"`
	Partition  int32            `json:"partition"`
	Offset     model.Offset     `json:"offset"`
	End        model.Offset     `json:"end"`
	Lag        int64            `json:"lag"`
	State      string           `json:"state"`
	Reason     string           `json:"reason,omitempty"`
	Error      string           `json:"error,omitempty"`
	ErrorAt    *model.Offset    `json:"error_offset,omitempty"`
	Updated    time.Time        `json:"updated"`
}

// JournalKey is the key of a fiber's record: script name, parent topic and
// partition, separated by '/', which no name contains.
func JournalKey(script, topic string, partition int32) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", script, topic, partition)
}

func (p *Pacemaker) entry(s Status) Entry {
	e := Entry{
		Version: 1, Script: s.Name, Activation: s.Activation, Digest: s.Digest, Node: p.o.Node, Topic: s.Topic,
		Partition: s.Parent.Index, Offset: s.Offset, End: s.End, Lag: s.LagRecords, State: s.State, Reason: s.Reason,
		Updated: s.Updated.UTC(),
	}
	if s.LastError != nil {
		e.Error, e.ErrorAt = s.LastError.Text, &s.LastError.Offset
	}
	return e
}

// keepJournal writes what changed, once a journalEvery, until ctx ends.
func (p *Pacemaker) keepJournal(ctx context.Context) {
	written := map[string]time.Time{} // by key: the Updated that was written
	ticker := time.NewTicker(journalEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p.refreshIdle(ctx)
		p.writeJournal(ctx, written)
	}
}

func (p *Pacemaker) writeJournal(ctx context.Context, written map[string]time.Time) {
	var records []script.KV
	stamps, there := map[string]time.Time{}, map[string]bool{}
	for _, s := range p.Status() {
		key := string(JournalKey(s.Name, s.Topic, s.Parent.Index))
		there[key] = true
		if written[key].Equal(s.Updated) {
			continue
		}
		value, err := json.Marshal(p.entry(s))
		if err != nil {
			p.o.Log.Error("journal entry not written", "key", key, "err", err)
			continue
		}
		records = append(records, script.KV{Key: []byte(key), Value: value})
		stamps[key] = s.Updated
	}
	deployed := map[string]bool{}
	for _, s := range p.o.View.Specs() {
		deployed[s.Name] = true
	}
	for key := range written {
		if there[key] {
			continue
		}
		if name, _, _ := strings.Cut(key, "/"); deployed[name] {
			delete(written, key) // whoever runs it now writes it
		} else {
			records = append(records, script.KV{Key: []byte(key)})
		}
	}
	if len(records) == 0 {
		return
	}
	if _, err := p.o.Journal.Put(ctx, records); err != nil {
		if ctx.Err() == nil {
			p.o.Log.Warn("journal not written", "topic", JournalTopic, "err", err)
		}
		return
	}
	for key := range written {
		if !there[key] {
			delete(written, key) // its tombstone is written
		}
	}
	for key, at := range stamps {
		written[key] = at
	}
}

// refreshIdle asks for the parent's end where a fiber rests: it does not read,
// so that it does not see how far it falls behind.
func (p *Pacemaker) refreshIdle(ctx context.Context) {
	p.mu.Lock()
	var idle []*fiber
	for _, f := range p.fibers {
		if s := f.status.get(); s.State != stateRunning {
			idle = append(idle, f)
		}
	}
	p.mu.Unlock()
	for _, f := range idle {
		f.refresh(ctx)
	}
}

// refresh looks how far behind a fiber is that does not read.
func (f *fiber) refresh(ctx context.Context) {
	a, err := f.o.Reader.ListOffset(ctx, fetch.ListAsk{
		Partition: f.key.Parent, Timestamp: fetch.TimestampLatest, Committed: true, CurrentEpoch: model.NoEpoch,
	})
	if err != nil {
		return // the next look may do
	}
	at, ask := f.status.idleAt(a.Offset)
	if !ask {
		return
	}
	got := f.o.Reader.Fetch(ctx, fetch.Ask{
		Partitions: []fetch.PartitionAsk{{Partition: f.key.Parent, From: at, BytesMax: 1, CurrentEpoch: model.NoEpoch}},
		BytesMax:   1, Committed: true,
	})[0]
	if s, err := cut(got, at, model.OffsetMax); got.Err == nil && err == nil && s.first >= 0 {
		f.status.idleFirst(s.first, s.to)
	}
}
