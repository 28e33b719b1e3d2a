package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/raft/transport"
	"github.com/millrace-io/millrace/broker/record"
)

// broker is a node as the server wires it: raft, a loop, and both ends of a pull.
type broker struct {
	id    model.NodeID
	dir   string
	fs    *disk.Memory
	host  *raft.Host
	cores *core.Set
	h     *core.Handle
	giver *Giver
	done  chan struct{} // closed when leadership is heard of no more
}

// trio is three of them.
type trio struct {
	t     *testing.T
	net   *transport.Memory
	nodes [3]*broker
	mu    sync.Mutex // guards givers, which calls go to
	bytes int        // of pieces
}

type coreLog struct{ *raft.Host }

func (l coreLog) Propose(shard model.ShardID, cmd []byte, timeout time.Duration) (func() error, error) {
	p, err := l.Host.Propose(shard, cmd, timeout)
	if err != nil {
		return nil, err
	}
	return p.Failed, nil
}

type unobserved struct{}

func (unobserved) Flushed(time.Duration, error) {}
func (unobserved) Applied(int, int)             {}

// from makes calls of a node: raft's are not there yet.
type from struct {
	trio *trio
	node model.NodeID
}

func (f from) Call(ctx context.Context, to model.NodeID, m Method, body []byte) ([]byte, error) {
	f.trio.mu.Lock()
	g := f.trio.nodes[to].giver
	f.trio.mu.Unlock()
	if g == nil {
		return nil, errLink
	}
	answer, err := g.Answer(ctx, f.node, m, body)
	f.trio.mu.Lock()
	defer f.trio.mu.Unlock()
	f.trio.bytes += len(answer)
	return answer, err
}

func at(n int) string { return fmt.Sprintf("node-%d:1", n) }

func (w *trio) start(n int) {
	w.t.Helper()
	b, log := w.nodes[n], slog.New(slog.DiscardHandler)
	fatal := func(err error) { panic(err) }
	taker := NewTaker(TakerOptions{
		Node: b.id, Caller: from{w, b.id}, Log: log, Peers: func(model.ShardID) []model.NodeID { return []model.NodeID{0, 1, 2} },
	})
	b.cores = core.New(core.Options{
		Cores: 1, Log: log, Leadership: func(core.Leadership) {}, Fatal: fatal, Observe: unobserved{},
		FlushDelay: time.Minute, FlushBytes: 4 << 20, CacheBytes: 1 << 20, WriteBytes: 8 << 20,
		SnapshotBytes: 1 << 40, SnapshotEntries: 1 << 40, HousekeepEvery: time.Hour,
		ProducerExpiry: func() time.Duration { return 0 },
		Note:           func(h *core.Handle, applied uint64) []byte { return Note(b.id, h.Shard, applied) },
		Recover: func(h *core.Handle, note []byte, stop <-chan struct{}) error {
			return taker.Recover(h, note, stop)
		},
	})
	giver := NewGiver(GiverOptions{Log: log, Find: func(s model.ShardID) (Exporter, bool) { return b.cores.HandleByShard(s) }})
	w.mu.Lock()
	b.giver = giver
	w.mu.Unlock()
	var err error
	b.host, err = raft.Open(raft.Options{
		Dir: b.dir, Node: b.id, Listen: at(n), Advertise: at(n), Network: w.net.Node(fmt.Sprint(n)), Log: log,
		JournalFileBytes: 4 << 20, JournalBytesMax: 32 << 20, Fatal: fatal,
	})
	check(w.t, err)
	for i := range w.nodes {
		b.host.SetAddress(model.NodeID(i), at(i))
	}
	b.cores.UseLog(coreLog{b.host})
	b.h, err = b.cores.Open(partition.Options{FS: b.fs, Dir: "/topics/t/3", ID: testID, Config: partition.Config{SegmentBytesMax: 1 << 20}}, testShard, "t")
	check(w.t, err)
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		for c := range b.host.Changes() {
			b.h.Lead(c.Leader == b.id, c.Term)
		}
	}()
	applied, err := b.h.Open(nil)
	check(w.t, err)
	installed, err := b.h.Installed(w.t.Context())
	check(w.t, err, b.host.StartPartition(testShard, []model.NodeID{0, 1, 2}, b.h), b.host.CheckLog(testShard, applied, installed))
}

func (w *trio) stop(n int) {
	w.t.Helper()
	b := w.nodes[n]
	w.mu.Lock()
	giver := b.giver
	b.giver = nil
	w.mu.Unlock()
	giver.Close()
	b.host.Close()
	<-b.done
	check(w.t, b.cores.Close())
}

const patience = 60 * time.Second

func (w *trio) eventually(what string, f func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !f(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s does not come to be", what)
		}
	}
}

// write has whoever serves, of these nodes, take a batch.
func (w *trio) write(value []byte, nodes ...int) {
	w.t.Helper()
	var b record.Builder
	b.Reset(record.Plain(record.None))
	check(w.t, b.Add(1000, []byte("k"), value, nil))
	_, batch, err := b.Build(nil)
	check(w.t, err)
	w.eventually("a write", func() bool {
		for _, n := range nodes {
			h := w.nodes[n].h
			epoch, serving := h.Serving()
			if !serving {
				continue
			}
			token := w.nodes[n].cores.Token()
			outcome := h.Expect(token)
			defer h.Forget(token)
			cmd := partition.Command{Kind: partition.KindProduce, Epoch: epoch, Token: token, Batches: [][]byte{batch}}
			p, err := w.nodes[n].host.Propose(testShard, cmd.Append(nil), 2*time.Second)
			if err != nil {
				continue
			}
			if o, got, _, err := raft.Await(w.t.Context(), p, outcome); err == nil && got && o.Err == nil {
				return true
			}
		}
		return false
	})
}

func (w *trio) content(n int) (all []byte) {
	w.t.Helper()
	for from := model.Offset(0); ; {
		var answer *partition.ReadAnswer
		var failed error
		err := w.nodes[n].h.Query(w.t.Context(), func(p *partition.Partition) {
			answer, failed = p.Read(partition.ReadAsk{From: from, BytesMax: 1 << 20, MinOne: true})
		})
		if errors.Is(err, core.ErrNotLeader) {
			return nil // its files are being replaced
		}
		check(w.t, err, failed)
		b, err := answer.Load(nil)
		if errors.Is(err, partition.ErrReplaced) {
			return nil
		}
		check(w.t, err)
		if len(b) == 0 {
			return all
		}
		all = append(all, b...)
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			check(w.t, err)
			from, b = batch.NextOffset(), rest
		}
	}
}

// forget has nodes 0 and 1 forget their logs, as loops do by themselves in time.
func (w *trio) forget(value []byte) {
	w.t.Helper()
	for n := range 2 {
		b := w.nodes[n]
		check(w.t, b.host.Barrier(w.t.Context(), testShard), b.h.Sync())
		var through uint64
		check(w.t, b.h.Query(w.t.Context(), func(p *partition.Partition) { through = p.CheckpointIndex() - 2 }))
		check(w.t, b.host.Snapshot(w.t.Context(), testShard, through))
	}
	w.write(value, 0, 1) // the log goes in the turn of what comes next
	w.write(value, 0, 1)
}

// TestLaggingBroker: a node was down for longer than the others' logs reach back. It
// comes back by a note and a pull, stands where they do, and again after a restart;
// the second time it takes only what it has not.
func TestLaggingBroker(t *testing.T) {
	w := &trio{t: t, net: transport.NewMemory()}
	for n := range w.nodes {
		w.nodes[n] = &broker{id: model.NodeID(n), dir: t.TempDir(), fs: disk.NewMemory()}
	}
	for n := range w.nodes {
		w.start(n)
	}
	value := bytes.Repeat([]byte("v"), 100<<10)
	w.write(value, 0, 1, 2)
	w.eventually("the first record", func() bool { return len(w.content(2)) > 0 })
	for round := range 2 {
		w.stop(2)
		for range 30 {
			w.write(value, 0, 1)
		}
		w.forget(value)
		w.bytes = 0
		w.start(2)
		w.eventually("the lagging node", func() bool { return bytes.Equal(w.content(2), w.content(0)) })
		installed, err := w.nodes[2].h.Installed(t.Context())
		check(t, err)
		w.mu.Lock()
		came, all := w.bytes, len(w.content(2))
		w.mu.Unlock()
		if installed == 0 || came < all/3 || round == 1 && came > all*3/4 {
			t.Fatalf("round %d: %d bytes of %d came, installed %d", round, came, all, installed)
		}
		w.write([]byte("and on"), 0, 1, 2)
		w.eventually("the rest", func() bool { return bytes.Equal(w.content(2), w.content(0)) })
	}
	w.stop(2)
	w.start(2)
	w.eventually("a restart", func() bool { return bytes.Equal(w.content(2), w.content(0)) })
	for n := range w.nodes {
		w.stop(n)
	}
}
