package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/record"
)

const testShard model.ShardID = 700

var testID = model.PartitionID{Topic: model.TopicID{7}, Index: 3}

func check(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// node is a node with a replica of the one partition there is. mu stands for its loop.
type node struct {
	t      *testing.T
	mu     sync.Mutex
	fs     *disk.Memory
	memory *block.Memory
	o      partition.Options
	p      *partition.Partition
	giver  *Giver
	broken error // what Replace has met
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, fs: disk.NewMemory(), memory: block.NewChecked()}
	n.o = partition.Options{FS: n.fs, Dir: "/topics/t/3", ID: testID, Config: partition.Config{SegmentBytesMax: 2500 << 10, CacheBytesMax: -1}, Memory: n.memory}
	n.open()
	n.giver = n.newGiver()
	return n
}

func (n *node) newGiver() *Giver {
	find := func(s model.ShardID) (Exporter, bool) { return n, s == testShard }
	return NewGiver(GiverOptions{Find: find, Log: slog.New(slog.DiscardHandler)})
}

func (n *node) open() {
	n.t.Helper()
	var err error
	n.p, err = partition.Open(n.o)
	check(n.t, err)
}

func (n *node) Export(context.Context) (*partition.Export, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.p.Export()
}

func (n *node) Open(<-chan struct{}) (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.p.Applied(), nil
}

func (n *node) Files() partition.Options { return n.o }

func (n *node) Replace(swap func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.p.Retire()
	if n.broken != nil {
		return n.broken
	}
	if err := swap(); err != nil {
		return err
	}
	n.open()
	return nil
}

// apply applies what it has not applied of a log.
func (n *node) apply(log []partition.Entry) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	_, err := n.p.Apply(log[n.p.Applied():])
	check(n.t, err)
}

func (n *node) flush() {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if j := n.p.FlushStart(); j != nil {
		err := j.Run()
		n.p.FlushDone(j, err)
		check(n.t, err)
	}
}

// net is the calls between nodes, and a story of the partition.
type net struct {
	t     *testing.T
	nodes map[model.NodeID]*node
	log   []partition.Entry
	r     *rand.Rand
	noise *rand.ChaCha8
	keys  int // how many there are; 0: one

	mu sync.Mutex
	// before may lose a call, after change its answer.
	before func(to model.NodeID, m Method) error
	after  func(to model.NodeID, body, answer []byte)
	takes  time.Duration // each call
	calls  map[Method]int
	bytes  int
}

const taker model.NodeID = 9

// newNet has nodes 1 to n with a partition of so many batches, and the taker.
func newNet(t *testing.T, n, batches int) *net {
	t.Helper()
	w := &net{t: t, nodes: map[model.NodeID]*node{taker: newNode(t)}, r: rand.New(rand.NewPCG(1, 2)), noise: rand.NewChaCha8([32]byte{1}), calls: map[Method]int{}}
	lead := partition.Command{Kind: partition.KindLead, Epoch: 1}
	w.log = []partition.Entry{{Index: 1, Cmd: lead.Append(nil)}}
	w.append(batches)
	for i := range n {
		w.nodes[model.NodeID(i+1)] = newNode(t)
		w.nodes[model.NodeID(i+1)].apply(w.log)
	}
	return w
}

// append puts batches of 64 KiB into the log.
func (w *net) append(batches int) {
	w.t.Helper()
	value := make([]byte, 64<<10)
	for range batches {
		_, _ = w.noise.Read(value) // it never fails
		var b record.Builder
		b.Reset(record.Plain(record.None))
		check(w.t, b.Add(1000, fmt.Appendf(nil, "k%d", w.r.IntN(max(w.keys, 1))), value, nil))
		_, batch, err := b.Build(nil)
		check(w.t, err)
		cmd := partition.Command{Kind: partition.KindProduce, Epoch: 1, Batches: [][]byte{batch}}
		w.log = append(w.log, partition.Entry{Index: uint64(len(w.log) + 1), Cmd: cmd.Append(nil)})
	}
}

// errLost has a call find no end.
var errLost = errors.New("lost")

// Call is a Caller's, from the taker.
func (w *net) Call(ctx context.Context, to model.NodeID, m Method, body []byte) ([]byte, error) {
	w.mu.Lock()
	before, after := w.before, w.after
	w.calls[m]++
	w.mu.Unlock()
	if before != nil {
		if err := before(to, m); errors.Is(err, errLost) {
			<-ctx.Done()
			return nil, ctx.Err()
		} else if err != nil {
			return nil, err
		}
	}
	n := w.nodes[to]
	if n == nil {
		return nil, fmt.Errorf("node %d is not there", to)
	}
	if w.takes > 0 {
		select {
		case <-time.After(w.takes):
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	answer, err := n.giver.Answer(ctx, taker, m, body)
	answer = slices.Clone(answer)
	if m == MethodPiece && err == nil {
		w.mu.Lock()
		w.bytes += len(answer)
		w.mu.Unlock()
		if after != nil {
			after(to, body, answer)
		}
	}
	return answer, err
}

func (w *net) taker(rate int64) *Taker {
	return NewTaker(TakerOptions{
		Node: taker, Caller: w, BytesPerSecond: rate, Log: slog.New(slog.DiscardHandler),
		Peers: func(model.ShardID) []model.NodeID { return []model.NodeID{taker, 1, 2} },
	})
}

// recover follows a note of node 1 to the end and compares what came with node 1's.
func (w *net) recover(index uint64) {
	w.t.Helper()
	check(w.t, w.taker(-1).Recover(w.nodes[taker], Note(1, testShard, index), nil))
	w.same(index)
}

// same, in a bubble, compares what has come, once it has applied the rest of the log, with what is
// computed from the log alone.
func (w *net) same(index uint64) {
	w.t.Helper()
	n := w.nodes[taker]
	if at := n.p.Applied(); at < index || at != n.p.Installed() && n.p.Installed() != 0 {
		w.t.Fatalf("it stands at %d, installed %d, the note said %d", at, n.p.Installed(), index)
	}
	want := newNode(w.t)
	want.apply(w.log)
	n.apply(w.log)
	if got, want := n.content(), want.content(); !bytes.Equal(got, want) {
		w.t.Fatalf("it reads %d bytes, want %d, or others", len(got), len(want))
	}
	for _, dir := range []string{".pull", ".old"} {
		if left := n.fs.Files(n.o.Dir + dir); len(left) > 0 {
			w.t.Errorf("%v are left", left)
		}
	}
	<-time.After(leaseIdleMax + time.Second) // what could not be released ends by itself
	synctest.Wait()
	for id, n := range w.nodes {
		n.giver.mu.Lock()
		if len(n.giver.leases) > 0 {
			w.t.Errorf("node %d has %d leases", id, len(n.giver.leases))
		}
		n.giver.mu.Unlock()
	}
}

func (n *node) content() (all []byte) {
	n.t.Helper()
	for from := n.p.LogStart(); from < n.p.HighWatermark(); {
		a, err := n.p.Read(partition.ReadAsk{From: from, BytesMax: 1 << 20, MinOne: true})
		check(n.t, err)
		b, err := a.Load(nil)
		check(n.t, err)
		all = append(all, b...)
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			check(n.t, err, batch.Check())
			from, b = batch.NextOffset(), rest
		}
	}
	return all
}

// size is what node 1's files come to.
func (w *net) size() int { return int(w.nodes[1].p.Bytes()) }
