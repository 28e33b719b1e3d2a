package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// outcome is what becomes of a write to a fakeLog.
type outcome int

const (
	written     outcome = iota
	refusedNow          // surely not written
	unknownLost         // not written, nobody knows
	unknownKept         // written, nobody knows
	unknownLate         // written before the next write, nobody knows
)

// fakeLog is the partitions of __consumer_offsets in memory.
type fakeLog struct {
	mu      sync.Mutex
	batches map[model.PartitionID][]record.Batch
	late    map[model.PartitionID][][]byte
	// next decides about each write; nil writes all.
	next func() outcome
	// hold, when set, delays answers to writes until it is closed.
	hold chan struct{}
	// reading, when set, delays reads until it is closed.
	reading chan struct{}
	readErr error
	writes  int
}

func newFakeLog() *fakeLog {
	return &fakeLog{batches: map[model.PartitionID][]record.Batch{}, late: map[model.PartitionID][][]byte{}}
}

type fakeAppending struct {
	done chan struct{}
	err  error
}

func (a *fakeAppending) Done() <-chan struct{} { return a.done }
func (a *fakeAppending) Err() error            { <-a.done; return a.err }

func (l *fakeLog) Append(id model.PartitionID, batch []byte, _ time.Duration) Appending {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &fakeAppending{done: make(chan struct{})}
	l.writes++
	what := written
	if l.next != nil {
		what = l.next()
	}
	for _, b := range l.late[id] {
		l.add(id, b)
	}
	l.late[id] = nil
	switch what {
	case written:
		l.add(id, batch)
	case refusedNow:
		a.err = ErrUnavailable
	case unknownLost:
		a.err = errUnknownOutcome
	case unknownKept:
		l.add(id, batch)
		a.err = errUnknownOutcome
	case unknownLate:
		l.late[id] = append(l.late[id], batch)
		a.err = errUnknownOutcome
	}
	if l.hold == nil {
		close(a.done)
		return a
	}
	hold := l.hold
	go func() { <-hold; close(a.done) }()
	return a
}

func (l *fakeLog) add(id model.PartitionID, batch []byte) {
	b, rest, err := record.Next(batch)
	if err != nil || len(rest) > 0 || b.Check() != nil {
		panic("a loop wrote what is no batch")
	}
	var end model.Offset
	if all := l.batches[id]; len(all) > 0 {
		end = all[len(all)-1].NextOffset()
	}
	b.SetBaseOffset(end)
	l.batches[id] = append(l.batches[id], b)
}

func (l *fakeLog) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int) (Chunk, error) {
	l.mu.Lock()
	wait := l.reading
	l.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return Chunk{}, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readErr != nil {
		return Chunk{}, l.readErr
	}
	var c Chunk
	for _, b := range l.batches[id] {
		c.End = b.NextOffset()
		if b.NextOffset() > from && (len(c.Records) == 0 || len(c.Records)+len(b) < bytesMax) {
			c.Records = append(c.Records, b...)
		}
	}
	return c, nil
}

func (l *fakeLog) Barrier(context.Context, model.PartitionID) error { return nil }

// replayed gives all offsets of a group as the log has them.
func (l *fakeLog) replayed(t testing.TB, id model.PartitionID, name string) []group.OffsetSet {
	t.Helper()
	r := replay{log: l, id: id, options: &group.Options{}, groups: map[string]*group.Group{}}
	if err := r.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r.groups[name] == nil {
		return nil
	}
	return r.groups[name].Offsets()
}

// directly applies a command where it was proposed.
type directly struct {
	apply func(index uint64, cmd []byte) []byte
	index uint64
}

func (d *directly) ProposeController(_ context.Context, cmd []byte) ([]byte, error) {
	d.index++
	return d.apply(d.index, cmd), nil
}

// node is a Service over the real cluster of one node.
type node struct {
	t       *testing.T
	cluster *cluster.Cluster
	log     *fakeLog
	service *Service
	epoch   model.LeaderEpoch
}

// newNode must be called in a synctest bubble.
func newNode(t *testing.T) *node {
	t.Helper()
	d := &directly{}
	quiet := slog.New(slog.DiscardHandler)
	c := cluster.New(cluster.Options{Node: 0, Proposer: d, Log: quiet})
	d.apply = c.StateMachine().Apply
	if _, err := c.RegisterNode(t.Context(), cluster.Node{ID: 0, Host: "h", Port: 1}, "c"); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, cluster: c, log: newFakeLog()}
	n.service = New(Options{Log: n.log, Cluster: c, Logger: quiet})
	t.Cleanup(n.service.Close)
	return n
}

// serve makes __consumer_offsets and leads all of it, in a new epoch.
func (n *node) serve() {
	n.t.Helper()
	if _, err := n.service.Find(n.t.Context(), "g"); err != nil && !errors.Is(err, ErrUnavailable) {
		n.t.Fatal(err)
	}
	n.epoch++
	n.log.fence()
	n.lead(true)
	synctest.Wait()
}

// fence drops what is still on its way under an older epoch, as apply does once
// a newer leader's first command has been applied.
func (l *fakeLog) fence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.late)
}

func (n *node) lead(serving bool) {
	topic, _ := n.cluster.Metadata().Topic(cluster.TopicOffsets)
	for _, p := range topic.Partitions {
		l := Leadership{Partition: topic.PartitionID(p.Index), Epoch: n.epoch, Serving: serving}
		n.cluster.Lead(cluster.Leadership(l))
		n.service.Lead(l)
	}
}

func (n *node) partition(name string) model.PartitionID {
	topic, _ := n.cluster.Metadata().Topic(cluster.TopicOffsets)
	return topic.PartitionID(Partition(name, int32(len(topic.Partitions))))
}

// commit stores one offset from outside of the group protocol.
func (n *node) commit(name string, partition int32, offset model.Offset) error {
	a := n.service.Commit(n.t.Context(), name, group.Commit{Generation: -1, Offsets: []group.OffsetSet{{
		TopicPartition: group.TopicPartition{Topic: "t", Partition: partition},
		Offset:         group.Offset{Offset: offset, Epoch: -1, Metadata: "m", Committed: time.Now().UnixMilli()},
	}}})
	if a.Err != nil {
		return a.Err
	}
	return a.Partitions[0]
}

func (n *node) offsets(name string) []group.OffsetSet {
	n.t.Helper()
	all, err := n.service.Fetch(n.t.Context(), name, FetchAsk{})
	if err != nil {
		n.t.Fatal(err)
	}
	return all
}

// pass lets time go by on the bubble's clock.
func pass(d time.Duration) { <-time.After(d) }
