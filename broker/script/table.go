package script

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
	"github.com/millrace-io/millrace/sdk/manifest"
)

// SyncScript is a sync script bound to a topic. It never changes.
type SyncScript struct {
	Name   string
	Digest model.Digest
	Budget time.Duration // for one batch, waiting included
	Pass   bool          // a batch that it fails on is written as it came

	counts *syncCounts
}

// syncCounts are of one digest since this node's start.
type syncCounts struct {
	in, out, failed, cpu atomic.Int64
	last                 atomic.Pointer[api.ScriptError]
}

// bound is what runs in the path of one topic.
type bound struct {
	topic   string
	scripts []SyncScript // in order of name; paused ones are left out
	missing error        // why produce must be refused; nil: all run here
}

// bindings is a snapshot: what is in the path of the topics of one version of
// the metadata.
type bindings struct {
	version uint64
	topics  map[model.TopicID]*bound
}

// Table says which sync scripts run in the path of each topic. Readers take an
// immutable snapshot.
type Table struct {
	cluster  *cluster.Cluster
	sidecars *Supervisor
	log      *slog.Logger
	now      atomic.Pointer[bindings]

	mu     sync.Mutex // guards counts
	counts map[model.Digest]*syncCounts
}

func newTable(c *cluster.Cluster, v *Supervisor, l *slog.Logger) *Table {
	t := &Table{cluster: c, sidecars: v, log: l, counts: map[model.Digest]*syncCounts{}}
	t.now.Store(&bindings{})
	return t
}

// follow rebuilds the snapshot after each change, until ctx ends.
func (t *Table) follow(ctx context.Context) {
	topics, cancelTopics := t.cluster.Watch()
	defer cancelTopics()
	sidecar, cancelSidecar := t.sidecars.Watch()
	defer cancelSidecar()
	for {
		t.rebuild()
		select {
		case <-ctx.Done():
			return
		case <-topics:
		case <-sidecar:
		}
	}
}

// rebuild makes the snapshot anew.
func (t *Table) rebuild() {
	m := t.cluster.Metadata()
	next := bindings{version: m.Version, topics: map[model.TopicID]*bound{}}
	for _, topic := range m.Topics() {
		if b := t.bind(topic); b != nil {
			next.topics[topic.ID] = b
		}
	}
	t.now.Store(&next)
}

// bind gives what is in the path of topic; nil for nothing.
func (t *Table) bind(topic *cluster.Topic) *bound {
	b := &bound{topic: topic.Name}
	for _, s := range topic.SyncScripts {
		if s.Paused || s.Removing {
			continue
		}
		script, err := t.syncScript(s)
		if err == nil {
			if ok, why := t.sidecars.Running(s.Digest); !ok {
				err = fmt.Errorf("%w: %q: %s", ErrScriptUnavailable, s.Name, why)
			}
		}
		if err != nil && b.missing == nil {
			b.missing = err
		}
		b.scripts = append(b.scripts, script)
	}
	if len(b.scripts) == 0 {
		return nil
	}
	return b
}

func (t *Table) syncScript(s *controller.Script) (SyncScript, error) {
	out := SyncScript{Name: s.Name, Digest: s.Digest, counts: t.countsOf(s.Digest)}
	m, err := manifest.Decode(s.Manifest)
	if err != nil {
		return out, fmt.Errorf("%w: %q: %w", ErrScriptUnavailable, s.Name, err)
	}
	out.Budget, out.Pass = m.Sync.Budget, m.Sync.Policy == manifest.Pass
	return out, nil
}

func (t *Table) countsOf(d model.Digest) *syncCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.counts[d]
	if !ok {
		c = &syncCounts{}
		t.counts[d] = c
	}
	return c
}

// lookup finds what is in a topic's path. A leader has to know it before it
// serves: where the snapshot is not of the newest metadata, that counts.
func (t *Table) lookup(topic model.TopicID) *bound {
	now, m := t.now.Load(), t.cluster.Metadata()
	if now.version == m.Version {
		return now.topics[topic]
	}
	found, ok := m.TopicByID(topic)
	if !ok || len(found.SyncScripts) == 0 {
		return nil
	}
	return t.bind(found)
}

// Bound tells whether a topic has sync scripts.
func (t *Table) Bound(topic model.TopicID) bool { return t.lookup(topic) != nil }

// For gives a topic's sync scripts in the order that they run; ready: all of
// them run here.
func (t *Table) For(topic model.TopicID) (scripts []SyncScript, ready bool) {
	b := t.lookup(topic)
	if b == nil {
		return nil, true
	}
	return b.scripts, b.missing == nil
}

// Transform gives the batch that is to be written instead of batch, which it
// only reads. An error wraps ErrScriptUnavailable (try again) or
// ErrScriptFailed.
func (t *Table) Transform(ctx context.Context, topic model.TopicID, partition int32, batch []byte) ([]byte, error) {
	b := t.lookup(topic)
	if b == nil {
		return batch, nil
	}
	if b.missing != nil {
		return nil, b.missing
	}
	l, err := t.sidecars.current()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrScriptUnavailable, err)
	}
	for i := range b.scripts {
		s := &b.scripts[i]
		ask := plugsync.Batch{Digest: s.Digest, Topic: b.topic, TopicID: topic, Partition: partition, Records: batch}
		if batch, err = s.run(ctx, l.Sync, ask); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// run gives what one script makes of a batch.
func (s *SyncScript) run(ctx context.Context, side plugsync.Transformer, ask plugsync.Batch) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, s.Budget)
	defer cancel()
	r, err := side.Transform(limited, ask)
	s.counts.cpu.Add(int64(r.CPU))
	failure := r.Failure
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		failure = &plugsync.Failure{Source: -1, Kind: control.FailureDeadline, Text: fmt.Sprintf("no answer within its budget of %s", s.Budget)}
	case err != nil:
		return nil, fmt.Errorf("%w: %q: %w", ErrScriptUnavailable, s.Name, err)
	case failure == nil && !r.Unchanged:
		failure = checkAnswer(ask.Records, r.Records)
	}
	if failure != nil {
		return s.fail(ask, failure)
	}
	s.counts.in.Add(int64(r.RecordsIn))
	s.counts.out.Add(int64(r.RecordsOut))
	if r.Unchanged {
		return ask.Records, nil
	}
	return r.Records, nil
}

// fail does as the policy says. A changed key refuses the batch under any: the
// script does what no sync script may.
func (s *SyncScript) fail(ask plugsync.Batch, f *plugsync.Failure) ([]byte, error) {
	s.counts.failed.Add(1)
	text := fmt.Sprintf("a batch for %s-%d: %s", ask.Topic, ask.Partition, f.Error())
	s.counts.last.Store(&api.ScriptError{Text: text, Offset: model.NoOffset, Time: time.Now().UTC()})
	if s.Pass && f.Kind != control.FailureKey {
		return ask.Records, nil
	}
	return nil, fmt.Errorf("%w: %q: %w", ErrScriptFailed, s.Name, f)
}

// checkAnswer judges a batch that the sidecar made of was: it must be sound and
// keep what offsets, sequences and transactions depend on.
func checkAnswer(was, is []byte) *plugsync.Failure {
	old, next := record.Batch(was), record.Batch(is)
	err := next.Check()
	if err == nil && (old.LastOffsetDelta() != next.LastOffsetDelta() || old.ProducerID() != next.ProducerID() ||
		old.ProducerEpoch() != next.ProducerEpoch() || old.BaseSequence() != next.BaseSequence() ||
		old.Transactional() != next.Transactional() || old.Control() != next.Control() || next.Count() > old.Count()) {
		err = errors.New("the batch is for other offsets or of another producer")
	}
	if err == nil {
		return nil
	}
	return &plugsync.Failure{Source: -1, Kind: control.FailureGarbage, Text: "the sidecar's answer: " + err.Error()}
}
