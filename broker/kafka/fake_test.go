package kafka

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/record"
)

// directly applies a command where it was proposed.
type directly struct {
	mu    sync.Mutex
	apply func(index uint64, cmd []byte) []byte
	index uint64
}

func (d *directly) ProposeController(_ context.Context, cmd []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index++
	return d.apply(d.index, cmd), nil
}

// fakeNode is the real cluster of one node over a log in memory.
type fakeNode struct {
	*cluster.Cluster
	log    *fakeLog
	server *Server
	addr   string
	later  atomic.Int64 // nanoseconds that the cluster's clock is ahead
}

func newFakeNode(t testing.TB, change func(*Options)) *fakeNode {
	t.Helper()
	n, o := newFakeRooms()
	if change != nil {
		change(&o)
	}
	n.server, n.addr = serveTest(t, o)
	host, port := splitPort(t, n.addr)
	n.register(t, host, port)
	return n
}

// newFakeRooms gives what is below a server that is not made yet.
func newFakeRooms() (*fakeNode, Options) {
	d, n := &directly{}, &fakeNode{log: newFakeLog()}
	n.Cluster = cluster.New(cluster.Options{
		Node: 0, Proposer: d, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(time.Duration(n.later.Load())) },
	})
	d.apply = n.StateMachine().Apply
	return n, Options{Cluster: n, Produce: n.log, Fetch: n.log, Log: slog.New(slog.DiscardHandler)}
}

func (n *fakeNode) register(t testing.TB, host string, port int32) {
	t.Helper()
	if _, err := n.RegisterNode(t.Context(), cluster.Node{ID: 0, Host: host, Port: port}, "test-cluster"); err != nil {
		t.Fatal(err)
	}
}

// CreateTopics also makes this node lead what was created.
func (n *fakeNode) CreateTopics(ctx context.Context, asks []cluster.CreateTopic, validateOnly bool) ([]cluster.TopicResult, error) {
	results, err := n.Cluster.CreateTopics(ctx, asks, validateOnly)
	if !validateOnly {
		n.lead()
	}
	return results, err
}

func (n *fakeNode) CreatePartitions(ctx context.Context, ask cluster.CreatePartitions, validateOnly bool) (*cluster.Topic, error) {
	t, err := n.Cluster.CreatePartitions(ctx, ask, validateOnly)
	n.lead()
	return t, err
}

func (n *fakeNode) lead() {
	for _, t := range n.Metadata().Topics() {
		for _, p := range t.Partitions {
			n.log.partition(t.PartitionID(p.Index), true)
			n.Lead(cluster.Leadership{Partition: t.PartitionID(p.Index), Epoch: 1, Serving: true})
		}
	}
}

// topic creates a topic and gives it.
func (n *fakeNode) topic(t testing.TB, name string, partitions int32) *cluster.Topic {
	t.Helper()
	r, err := n.CreateTopics(t.Context(), []cluster.CreateTopic{{Name: name, Partitions: partitions, Replication: 1}}, false)
	if err != nil || r[0].Err != nil {
		t.Fatal(err, r)
	}
	return r[0].Topic
}

// fakeLog is the logs of a node, in memory.
type fakeLog struct {
	mu         sync.Mutex
	partitions map[model.PartitionID]*fakePartition
	changed    chan struct{}
	// refuse and hold, when set, fail a produce or keep it from ending.
	refuse func(produce.Ask) error
	hold   <-chan struct{}
	// replica: what is beyond its end has not come here yet.
	replica bool
	// asked remembers the fetches, as they came.
	asked []fetch.Ask
}

type fakePartition struct {
	batches    [][]byte
	start, end model.Offset
}

func newFakeLog() *fakeLog {
	return &fakeLog{partitions: map[model.PartitionID]*fakePartition{}, changed: make(chan struct{})}
}

func (l *fakeLog) partition(id model.PartitionID, create bool) *fakePartition {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partitions[id]
	if p == nil && create {
		p = &fakePartition{}
		l.partitions[id] = p
	}
	return p
}

type fakePending struct {
	done   chan struct{}
	result produce.Result
}

func (p *fakePending) Done() <-chan struct{}  { return p.done }
func (p *fakePending) Result() produce.Result { <-p.done; return p.result }

func (l *fakeLog) Start(ask produce.Ask) Pending {
	p := &fakePending{done: make(chan struct{})}
	p.result = l.append(ask)
	if l.hold == nil {
		close(p.done)
		return p
	}
	go func() { <-l.hold; close(p.done) }()
	return p
}

// refuseWith fails further produces by f.
func (l *fakeLog) refuseWith(f func(produce.Ask) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = f
}

func (l *fakeLog) append(ask produce.Ask) produce.Result {
	refused := produce.Result{Base: model.NoOffset, AppendTime: -1, LogStart: model.NoOffset}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		if refused.Err = l.refuse(ask); refused.Err != nil {
			return refused
		}
	}
	p := l.partitions[ask.Partition]
	batch, rest, err := record.Next(ask.Records)
	switch {
	case p == nil:
		refused.Err = produce.ErrUnknownPartition
		return refused
	case err != nil:
		refused.Err = err
		return refused
	case len(rest) > 0:
		refused.Err = produce.ErrInvalidRecord
		return refused
	}
	stored := record.Batch(append([]byte(nil), batch...))
	stored.SetBaseOffset(p.end)
	base := p.end
	p.end = stored.NextOffset()
	p.batches = append(p.batches, stored)
	close(l.changed)
	l.changed = make(chan struct{})
	return produce.Result{Base: base, AppendTime: -1, LogStart: p.start}
}

func (l *fakeLog) Trim(_ context.Context, id model.PartitionID, to model.Offset) (model.Offset, error) {
	p := l.partition(id, false)
	if p == nil {
		return model.NoOffset, produce.ErrUnknownPartition
	}
	p.start = min(to, p.end)
	return p.start, nil
}

func (l *fakeLog) Fetch(ctx context.Context, ask fetch.Ask) []fetch.PartitionAnswer {
	l.mu.Lock()
	l.asked = append(l.asked, ask)
	l.mu.Unlock()
	deadline := time.NewTimer(ask.WaitMax)
	defer deadline.Stop()
	for {
		answers, bytes, failed, changed := l.read(ask)
		if bytes >= ask.BytesMin || failed || ask.WaitMax <= 0 {
			return answers
		}
		select {
		case <-changed:
		case <-deadline.C:
			return answers
		case <-ctx.Done():
			return answers
		}
	}
}

func (l *fakeLog) read(ask fetch.Ask) (answers []fetch.PartitionAnswer, bytes int, failed bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range ask.Partitions {
		p := l.partitions[a.Partition]
		out := fetch.PartitionAnswer{HighWatermark: -1, LSO: -1, LogStart: -1}
		switch {
		case p == nil:
			out.Err = fetch.ErrUnknownPartition
		case a.From > p.end && l.replica:
			out = fetch.PartitionAnswer{Err: fetch.ErrOffsetNotAvailable, HighWatermark: p.end, LSO: p.end, LogStart: p.start}
			answers = append(answers, out)
			continue
		case a.From < p.start || a.From > p.end:
			out.Err = fetch.ErrOffsetOutOfRange
		}
		failed = failed || out.Err != nil
		if out.Err == nil && a.Bare {
			out.HighWatermark, out.LSO, out.LogStart = p.end, p.end, p.start
		} else if out.Err == nil {
			out.HighWatermark, out.LSO, out.LogStart = p.end, p.end, p.start
			for _, b := range p.batches {
				if record.Batch(b).NextOffset() <= a.From {
					continue
				}
				if len(out.Records)+len(b) > a.BytesMax && len(out.Records) > 0 || bytes+len(b) > ask.BytesMax && bytes > 0 {
					break
				}
				out.Records = append(out.Records, b...)
				bytes += len(b)
			}
		}
		answers = append(answers, out)
	}
	return answers, bytes, failed, l.changed
}

func (l *fakeLog) ListOffset(_ context.Context, ask fetch.ListAsk) (fetch.ListAnswer, error) {
	p := l.partition(ask.Partition, false)
	if p == nil {
		return fetch.ListAnswer{}, fetch.ErrUnknownPartition
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ask.Timestamp == fetch.TimestampLatest {
		return fetch.ListAnswer{Offset: p.end, Timestamp: -1, Epoch: 1}, nil
	}
	return fetch.ListAnswer{Offset: p.start, Timestamp: -1, Epoch: 1}, nil
}

func (l *fakeLog) EpochEnd(_ context.Context, id model.PartitionID, _, _ model.LeaderEpoch) (model.LeaderEpoch, model.Offset, error) {
	p := l.partition(id, false)
	if p == nil {
		return model.NoEpoch, model.NoOffset, fetch.ErrUnknownPartition
	}
	return 1, p.end, nil
}

func (l *fakeLog) Describe(_ context.Context, id model.PartitionID) (fetch.PartitionState, error) {
	p := l.partition(id, false)
	if p == nil {
		return fetch.PartitionState{}, fetch.ErrUnknownPartition
	}
	st := fetch.PartitionState{LogStart: p.start, HighWatermark: p.end, LSO: p.end, Serving: true}
	for _, b := range p.batches {
		st.Bytes += int64(len(b))
	}
	return st, nil
}

func leadershipOf(id model.PartitionID, epoch model.LeaderEpoch) cluster.Leadership {
	return cluster.Leadership{Partition: id, Epoch: epoch, Serving: true}
}
