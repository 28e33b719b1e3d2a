package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

const (
	// tailBytesMax is how much of __scripts one read takes.
	tailBytesMax = 1 << 20
	// tailWait is how long a read of __scripts waits for more.
	tailWait = 30 * time.Second
	// tailPauseMin and tailPauseMax bound the pause after a read that failed: an
	// election takes about as long as the longest.
	tailPauseMin = 5 * time.Millisecond
	tailPauseMax = time.Second
	// inflatedMax bounds a batch of __scripts once inflated.
	inflatedMax = 64 << 20
)

// Store is what __scripts holds: which modules and plans there are, and where.
// Modules stay in the topic: they are read, and verified, when they are loaded.
type Store struct {
	topic *Topic
	log   *slog.Logger

	remembering sync.Mutex // one plan at a time: a script's fibers all bring the same

	mu      sync.Mutex // guards all below
	source  model.PartitionID
	next    model.Offset
	names   map[string]deployed
	modules map[moduleID]*stored
	plans   map[planID]*Spec
	grown   chan struct{} // closed and replaced after records were read
	atEnd   chan struct{} // closed when the end of the start was reached
	ended   bool
}

type moduleID struct {
	name   string
	digest model.Digest
}

type planID struct {
	name       string
	activation model.Activation
}

// stored is a module in the topic. A chunk that was not met has NoOffset.
type stored struct {
	deployed *deployed // nil before its record was met
	chunks   []model.Offset
	read     time.Time // when the newest of its records was read here
	// ran: it was loaded here, as what is deployed, since then.
	ran bool
}

func newStore(log Log, c *cluster.Cluster, l *slog.Logger) *Store {
	s := &Store{
		topic: &Topic{Name: cluster.TopicScripts, Log: log, Cluster: c}, log: l,
		grown: make(chan struct{}), atEnd: make(chan struct{}),
	}
	s.clear()
	return s
}

func (s *Store) clear() {
	s.names, s.modules, s.plans = map[string]deployed{}, map[moduleID]*stored{}, map[planID]*Spec{}
	s.next = 0
}

// AtEnd is closed once all was read that was there at the start.
func (s *Store) AtEnd() <-chan struct{} { return s.atEnd }

// watch gives a channel that is closed when more was read.
func (s *Store) watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grown
}

// tail follows the topic until ctx ends.
func (s *Store) tail(ctx context.Context) {
	changed, cancel := s.topic.Cluster.Watch()
	defer cancel()
	pause, told := tailPauseMin, false
	for ctx.Err() == nil {
		id, ok := s.topic.id()
		if !ok {
			if s.topic.Cluster.Metadata().Version > 0 {
				s.reached() // there is nothing to read
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if err := s.readMore(ctx, id); err != nil {
			if wait(ctx, pause) == nil && pause >= tailPauseMax && !told {
				told = true
				s.log.Warn("scripts not read", "topic", s.topic.Name, "err", err)
			}
			pause = min(2*pause, tailPauseMax)
			continue
		}
		if told {
			s.log.Info("scripts read again", "topic", s.topic.Name)
		}
		pause, told = tailPauseMin, false
	}
}

// readMore takes the next batches, waiting for them at the end.
func (s *Store) readMore(ctx context.Context, id model.PartitionID) error {
	s.mu.Lock()
	if s.source != id { // made, or made anew
		s.clear()
		s.source = id
	}
	next := s.next
	s.mu.Unlock()
	patience := tailWait
	if !s.isReached() {
		patience = 0
	}
	a, err := s.topic.Log.Read(ctx, id, next, tailBytesMax, patience)
	if err != nil {
		return err
	}
	if err := s.take(a.Records); err != nil {
		return err
	}
	s.mu.Lock()
	at := s.next
	s.mu.Unlock()
	if at >= a.HighWatermark {
		s.reached()
	}
	return nil
}

func (s *Store) isReached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *Store) reached() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		close(s.atEnd)
	}
}

// take notes the records of whole batches.
func (s *Store) take(records []byte) error {
	var reader record.Reader
	var rec record.Record
	s.mu.Lock()
	defer s.mu.Unlock()
	took := false
	for rest := records; len(rest) > 0; {
		b, after, err := record.Next(rest)
		if err != nil {
			return err
		}
		rest = after
		if b.LastOffset() < s.next {
			continue
		}
		if err := reader.Reset(b, inflatedMax); err != nil {
			return err
		}
		for reader.Next(&rec) {
			if rec.Offset >= s.next {
				s.note(&rec)
			}
		}
		if err := reader.Err(); err != nil {
			return err
		}
		s.next, took = b.NextOffset(), true
	}
	if took {
		close(s.grown)
		s.grown = make(chan struct{})
	}
	return nil
}

// note takes one record. What cannot be read is passed over: a newer version
// wrote it, or a stranger with the right to.
func (s *Store) note(rec *record.Record) {
	k := parseKey(rec.Key)
	var err error
	switch k.kind {
	case keyName:
		delete(s.names, k.name)
		if rec.Value != nil {
			var d deployed
			if d, err = parseDeployed(rec.Value); err == nil {
				s.names[k.name] = d
			}
		}
	case keyModule:
		err = s.noteModule(moduleID{k.name, k.digest}, rec.Value)
	case keyChunk:
		m := s.module(moduleID{k.name, k.digest})
		m.read, m.ran = time.Now(), false
		for len(m.chunks) <= k.chunk {
			m.chunks = append(m.chunks, model.NoOffset)
		}
		m.chunks[k.chunk] = rec.Offset
		if rec.Value == nil {
			m.chunks[k.chunk] = model.NoOffset
		}
	case keyPlan:
		delete(s.plans, planID{k.name, k.activation})
		if rec.Value != nil {
			var p *Spec
			if p, err = parsePlan(rec.Value); err == nil {
				s.plans[planID{k.name, k.activation}] = p
			}
		}
	}
	if err != nil {
		s.log.Warn("record passed over", "topic", s.topic.Name, "offset", rec.Offset, "err", err)
	}
}

func (s *Store) module(id moduleID) *stored {
	m, ok := s.modules[id]
	if !ok {
		m = &stored{}
		s.modules[id] = m
	}
	return m
}

func (s *Store) noteModule(id moduleID, value []byte) error {
	if value == nil {
		delete(s.modules, id)
		return nil
	}
	d, err := parseDeployed(value)
	if err != nil {
		return err
	}
	if d.Name != id.name || d.Digest != id.digest {
		return fmt.Errorf("%w: key of %q, value of %q", ErrDamaged, id.name, d.Name)
	}
	m := s.module(id)
	m.deployed, m.read, m.ran = &d, time.Now(), false
	return nil
}

// ran notes that a module was loaded because it is deployed.
func (s *Store) ran(id moduleID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.modules[id]; ok {
		m.ran = true
	}
}

// errNotStored says that a module is not in the topic, or not yet.
var errNotStored = errors.New("module is not in " + cluster.TopicScripts)

// find gives what is known of a module that is whole.
func (s *Store) find(id moduleID) (deployed, []model.Offset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.modules[id]
	if !ok || m.deployed == nil || len(m.chunks) < m.deployed.Chunks {
		return deployed{}, nil, fmt.Errorf("%w: script %q, digest %s", errNotStored, id.name, id.digest)
	}
	chunks := slices.Clone(m.chunks[:m.deployed.Chunks])
	if slices.Contains(chunks, model.NoOffset) {
		return deployed{}, nil, fmt.Errorf("%w: script %q, digest %s", errNotStored, id.name, id.digest)
	}
	return *m.deployed, chunks, nil
}

// nameOf finds a script that has the digest.
func (s *Store) nameOf(d model.Digest) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.modules {
		if id.digest == d {
			return id.name, true
		}
	}
	return "", false
}

// read gives a module and its manifest, verified by its digest.
func (s *Store) read(ctx context.Context, id moduleID) (deployed, []byte, error) {
	d, offsets, err := s.find(id)
	if err != nil {
		return d, nil, err
	}
	chunks := make([][]byte, len(offsets))
	for n, at := range offsets {
		if chunks[n], err = s.readRecord(ctx, at, chunkKey(id.name, id.digest, n)); err != nil {
			return d, nil, fmt.Errorf("read chunk %d of script %q: %w", n, id.name, err)
		}
	}
	module, err := joinChunks(d, chunks)
	return d, module, err
}

// readRecord gives the value of the record at an offset.
func (s *Store) readRecord(ctx context.Context, at model.Offset, key []byte) ([]byte, error) {
	id, ok := s.topic.id()
	if !ok {
		return nil, errNotStored
	}
	a, err := s.topic.Log.Read(ctx, id, at, 1, 0)
	if err != nil {
		return nil, err
	}
	var reader record.Reader
	var rec record.Record
	for rest := a.Records; len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Next(rest); err != nil {
			return nil, err
		}
		if err := reader.Reset(b, inflatedMax); err != nil {
			return nil, err
		}
		for reader.Next(&rec) {
			if rec.Offset == at && string(rec.Key) == string(key) {
				return slices.Clone(rec.Value), nil
			}
		}
	}
	return nil, fmt.Errorf("%w: no record %q at offset %d", ErrDamaged, key, at)
}

// put stores a module and waits until it was read back. One that is deployed now, and
// there, is not written again; any other that is there may be about to be forgotten.
func (s *Store) put(ctx context.Context, name string, manifest, module []byte, now model.Digest) (deployed, error) {
	d := deployed{
		Version: formatVersion, Name: name, Digest: DigestOf(manifest, module), Bytes: len(module),
		Chunks: chunksOf(len(module)), Manifest: string(manifest), Written: time.Now().UTC(),
	}
	id := moduleID{name, d.Digest}
	if known, _, err := s.find(id); err == nil && d.Digest == now {
		return known, nil
	}
	value, err := json.Marshal(d)
	if err != nil {
		return d, fmt.Errorf("write the deployment of %q: %w", name, err)
	}
	var records []KV
	for n := range d.Chunks {
		records = append(records, KV{chunkKey(name, d.Digest, n), chunkOf(module, n)})
	}
	records = append(records, KV{moduleKey(name, d.Digest), value})
	return d, s.write(ctx, records)
}

// point makes the name's own record say what it runs.
func (s *Store) point(ctx context.Context, d deployed) error {
	value, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write the deployment of %q: %w", d.Name, err)
	}
	return s.write(ctx, []KV{{nameKey(d.Name), value}})
}

// write puts records and waits until they were read back.
func (s *Store) write(ctx context.Context, records []KV) error {
	last, err := s.topic.Put(ctx, records)
	if err != nil {
		return err
	}
	for {
		s.mu.Lock()
		next, grown := s.next, s.grown
		s.mu.Unlock()
		if next > last {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("read back what was written to %s: %w", s.topic.Name, ctx.Err())
		}
	}
}

// Remember stores a plan unless its activation is known, and gives what is
// known. Pacemaker's Plans.
func (s *Store) Remember(ctx context.Context, spec *Spec) (*Spec, error) {
	s.remembering.Lock()
	defer s.remembering.Unlock()
	if p := s.plan(spec.Name, spec.Activation); p != nil {
		return p, nil
	}
	value, err := json.Marshal(planned{Version: formatVersion, Plan: spec})
	if err != nil {
		return nil, fmt.Errorf("write the plan of %q: %w", spec.Name, err)
	}
	if err := s.write(ctx, []KV{{planKey(spec.Name, spec.Activation), value}}); err != nil {
		return nil, err
	}
	if p := s.plan(spec.Name, spec.Activation); p != nil {
		return p, nil
	}
	return nil, ErrNoPlan
}

// Recall gives ErrNoPlan for an activation that nobody remembered.
func (s *Store) Recall(ctx context.Context, script model.ScriptID, a model.Activation) (*Spec, error) {
	select {
	case <-s.atEnd:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.plans {
		if id.activation == a && p.Script == script {
			return p, nil
		}
	}
	return nil, fmt.Errorf("activation %d: %w", a, ErrNoPlan)
}

func (s *Store) plan(name string, a model.Activation) *Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plans[planID{name, a}]
}

// plansOf lists the plans of a name, oldest first.
func (s *Store) plansOf(name string) []*Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Spec
	for id, p := range s.plans {
		if id.name == name {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *Spec) int { return int(int64(a.Activation) - int64(b.Activation)) })
	return all
}

// keysOf lists all that is stored of a name.
func (s *Store) keysOf(name string) []KV {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []KV
	for id, m := range s.modules {
		if id.name == name {
			keys = append(keys, m.keys(id)...)
		}
	}
	for id := range s.plans {
		if id.name == name {
			keys = append(keys, KV{Key: planKey(name, id.activation)})
		}
	}
	if _, there := s.names[name]; there {
		keys = append(keys, KV{Key: nameKey(name)})
	}
	return keys
}

// oldKeysOf lists what is stored of a script's older activations: but for modules that
// never ran, unless they were stored before a moment, since they may be about to.
func (s *Store) oldKeysOf(sc *controller.Script, before time.Time) []KV {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []KV
	for id, m := range s.modules {
		if id.name == sc.Name && id.digest != sc.Digest && (m.ran || m.read.Before(before)) {
			keys = append(keys, m.keys(id)...)
		}
	}
	for id := range s.plans {
		if id.name == sc.Name && id.activation < sc.Activation {
			keys = append(keys, KV{Key: planKey(sc.Name, id.activation)})
		}
	}
	return keys
}

func (m *stored) keys(id moduleID) (keys []KV) {
	for n, at := range m.chunks {
		if at != model.NoOffset {
			keys = append(keys, KV{Key: chunkKey(id.name, id.digest, n)})
		}
	}
	if m.deployed != nil || len(keys) > 0 {
		keys = append(keys, KV{Key: moduleKey(id.name, id.digest)})
	}
	return keys
}

// newest is when a module of a name was last read here; zero for none.
func (s *Store) newest(name string) (at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, m := range s.modules {
		if id.name == name && m.read.After(at) {
			at = m.read
		}
	}
	return at
}

// forget writes tombstones.
func (s *Store) forget(ctx context.Context, keys []KV) error {
	if len(keys) == 0 {
		return nil
	}
	return s.write(ctx, keys)
}
