package script

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
)

// alone is a controller's shard of one node, in memory.
type alone struct {
	mu    sync.Mutex
	index uint64
	c     *cluster.Cluster
}

func (a *alone) ProposeController(_ context.Context, cmd []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index++
	return a.c.StateMachine().Apply(a.index, cmd), nil
}

// memLog holds partitions as records with offsets; it is a Log.
type memLog struct {
	mu      sync.Mutex
	parts   map[model.PartitionID]*memPart
	sources map[model.PartitionID]map[model.SourceKey]partition.SourceState
	fail    error // of the next Activate
}

type memPart struct {
	batches []record.Batch
	end     model.Offset
	grown   chan struct{}
}

func newMemLog() *memLog {
	return &memLog{parts: map[model.PartitionID]*memPart{}, sources: map[model.PartitionID]map[model.SourceKey]partition.SourceState{}}
}

func (m *memLog) part(id model.PartitionID) *memPart {
	p, ok := m.parts[id]
	if !ok {
		p = &memPart{grown: make(chan struct{})}
		m.parts[id] = p
	}
	return p
}

func (m *memLog) Append(_ context.Context, id model.PartitionID, batch []byte) (model.Offset, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.part(id)
	b := record.Batch(batch)
	if err := b.Check(); err != nil {
		return 0, err
	}
	b.SetBaseOffset(p.end)
	p.batches = append(p.batches, b)
	base := p.end
	p.end = b.NextOffset()
	close(p.grown)
	p.grown = make(chan struct{})
	return base, nil
}

func (m *memLog) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int, wait time.Duration) (ReadAnswer, error) {
	for {
		m.mu.Lock()
		p := m.part(id)
		a, grown := ReadAnswer{HighWatermark: p.end}, p.grown
		for _, b := range p.batches {
			if b.LastOffset() >= from && (len(a.Records) == 0 || len(a.Records)+len(b) <= bytesMax) {
				a.Records = append(a.Records, b...)
			}
		}
		m.mu.Unlock()
		if len(a.Records) > 0 || wait <= 0 {
			return a, nil
		}
		select {
		case <-grown:
		case <-time.After(wait):
			return a, nil
		case <-ctx.Done():
			return a, ctx.Err()
		}
	}
}

func (m *memLog) Offset(_ context.Context, id model.PartitionID, timestamp int64) (model.Offset, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.part(id)
	switch timestamp {
	case timestampEarliest:
		return 0, nil
	case timestampLatest:
		return p.end, nil
	}
	for _, b := range p.batches {
		if b.MaxTimestamp() >= timestamp {
			return b.BaseOffset(), nil
		}
	}
	return model.NoOffset, nil
}

func (m *memLog) Activate(_ context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail; err != nil {
		m.fail = nil
		return partition.SourceState{}, err
	}
	if m.sources[id] == nil {
		m.sources[id] = map[model.SourceKey]partition.SourceState{}
	}
	s := partition.SourceState{Activation: a.Activation, Known: !a.Remove, Offset: a.Offset}
	m.sources[id][a.Key] = s
	return s, nil
}

func (m *memLog) Source(_ context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sources[id][key], nil
}

// records gives the records of a partition, the newest of each key.
func (m *memLog) records(t *testing.T, id model.PartitionID) map[string][]byte {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string][]byte{}
	var r record.Reader
	var rec record.Record
	for _, b := range m.part(id).batches {
		if err := r.Reset(b, inflatedMax); err != nil {
			t.Fatal(err)
		}
		for r.Next(&rec) {
			all[string(rec.Key)] = slices.Clone(rec.Value)
			if rec.Value == nil {
				delete(all, string(rec.Key))
			}
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	return all
}

// fill appends n records to a partition.
func (m *memLog) fill(t *testing.T, id model.PartitionID, n int, at int64) {
	t.Helper()
	var b record.Builder
	b.Reset(record.Plain(record.None))
	for range n {
		if err := b.Add(at, nil, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Append(t.Context(), id, batch); err != nil {
		t.Fatal(err)
	}
}

// sidecar is a fake one that dies and comes back.
type sidecar struct {
	control control.Fake
	sync    plugsync.Fake
	async   async.Fake

	mu   sync.Mutex
	died chan struct{}
}

func newSidecar() *sidecar {
	s := &sidecar{}
	s.sync.Control, s.async.Control = &s.control, &s.control
	return s
}

func (s *sidecar) connect(ctx context.Context) (Sidecar, error) {
	if err := s.control.Health(ctx); err != nil {
		return Sidecar{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.died = make(chan struct{})
	return Sidecar{Control: &s.control, Sync: &s.sync, Async: &s.async, Died: s.died, Close: func() error { return nil }}, nil
}

func (s *sidecar) die() {
	s.control.Die()
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.died)
}

// fibers answers for a pacemaker whose fibers take every activation at once.
type fibers struct {
	c     *cluster.Cluster
	mu    sync.Mutex
	stuck bool
	at    model.Offset
}

func (f *fibers) Fibers(id model.ScriptID) []FiberState {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stuck {
		return nil
	}
	var all []FiberState
	m := f.c.Metadata()
	for _, sc := range m.Scripts() {
		for _, in := range sc.Inputs {
			t, ok := m.Topic(in)
			if !ok || sc.ID != id {
				continue
			}
			for _, p := range t.Partitions {
				state := "running"
				if sc.Paused {
					state = "paused"
				}
				all = append(all, FiberState{
					Script: id, Activation: sc.Activation, Parent: t.PartitionID(p.Index), Topic: in, State: state, Offset: f.at, Began: f.at,
				})
			}
		}
	}
	return all
}

// room is a Service with all that it needs.
type room struct {
	*Service
	t      *testing.T
	c      *cluster.Cluster
	log    *memLog
	side   *sidecar
	fibers *fibers
	nodes  Nodes // nil: it is alone
	ended  chan struct{}
	cancel context.CancelFunc
}

func newRoom(t *testing.T) *room {
	t.Helper()
	propose := &alone{}
	c := cluster.New(cluster.Options{Node: 0, Proposer: propose, Log: slog.New(slog.DiscardHandler)})
	propose.c = c
	if _, err := c.RegisterNode(t.Context(), cluster.Node{ID: 0, Host: "localhost", Port: 9092}, "cluster"); err != nil {
		t.Fatal(err)
	}
	c.SetController(0)
	r := &room{t: t, c: c, log: newMemLog(), side: newSidecar(), fibers: &fibers{c: c, at: 5}}
	r.boot()
	t.Cleanup(func() { r.stop() })
	return r
}

// boot starts a Service over what there is, as a restart of the broker does.
func (r *room) boot() {
	r.Service = New(Options{
		Cluster: r.c, Log: r.log, Nodes: r.nodes, Connect: r.side.connect, Session: control.Session{Boot: "b"}, Logger: slog.New(slog.DiscardHandler),
	})
	r.UseFibers(r.fibers)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.ended = cancel, make(chan struct{})
	go func() {
		defer close(r.ended)
		r.Run(ctx)
	}()
	r.await("the sidecar is up", func() bool { return r.sidecars.State().State == SidecarUp })
}

func (r *room) stop() {
	r.cancel()
	<-r.ended
}

func (r *room) await(what string, done func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := until(ctx, what, func() (bool, error) { return done(), nil }); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) topic(name string, partitions int32) *cluster.Topic {
	r.t.Helper()
	res, err := r.c.CreateTopics(r.t.Context(), []cluster.CreateTopic{{Name: name, Partitions: partitions, Replication: 1}}, false)
	if err != nil || res[0].Err != nil {
		r.t.Fatal(err, res)
	}
	return res[0].Topic
}
