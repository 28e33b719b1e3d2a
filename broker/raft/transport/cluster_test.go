package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"hash/crc32"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"github.com/lni/vfs"
)

type clusterOptions struct {
	nodes   int // 3 when 0
	shards  uint64
	rtt     uint64 // milliseconds
	address func(node int) string
	factory func(node int) config.TransportFactory
	// snapshotEntries makes replicas forget their log that often; 0 never.
	snapshotEntries uint64
}

// cluster is some NodeHosts in this process with their logs in memory.
type cluster struct {
	clusterOptions
	hosts   []*dragonboat.NodeHost
	members map[uint64]dragonboat.Target
	mu      sync.Mutex
	logs    map[string]*journal
}

// newCluster starts a replica of every shard on every node; replica n is on node n-1.
func newCluster(t testing.TB, o clusterOptions) *cluster {
	t.Helper()
	if o.nodes == 0 {
		o.nodes = 3
	}
	c := &cluster{clusterOptions: o, members: map[uint64]dragonboat.Target{}, logs: map[string]*journal{}}
	var addresses []string
	for n := range o.nodes {
		addresses = append(addresses, o.address(n))
		c.members[uint64(n)+1] = addresses[n]
	}
	for n := range o.nodes {
		h, err := dragonboat.NewNodeHost(config.NodeHostConfig{
			NodeHostDir: fmt.Sprintf("/node-%d", n), RTTMillisecond: o.rtt, RaftAddress: addresses[n],
			Expert: config.ExpertConfig{TransportFactory: o.factory(n), LogDB: config.GetTinyMemLogDBConfig(), FS: vfs.NewMem()},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Close)
		c.hosts = append(c.hosts, h)
	}
	for n := range o.nodes {
		for s := uint64(1); s <= o.shards; s++ {
			c.start(t, n, s)
		}
	}
	return c
}

func (c *cluster) start(t testing.TB, node int, shard uint64) {
	t.Helper()
	create := func(shard, replica uint64) sm.IStateMachine {
		j := &journal{}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.logs[fmt.Sprint(shard, "/", replica)] = j
		return j
	}
	err := c.hosts[node].StartReplica(c.members, false, create, config.Config{
		ShardID: shard, ReplicaID: uint64(node) + 1, CheckQuorum: true, PreVote: true,
		ElectionRTT: 10, HeartbeatRTT: 2, SnapshotEntries: c.snapshotEntries, CompactionOverhead: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
}

const patience = 30 * time.Second

// leader waits for a node that leads a shard: one that a read through it confirms.
func (c *cluster) leader(t testing.TB, shard uint64, but ...int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil {
		for n, h := range c.hosts {
			id, _, ok, err := h.GetLeaderID(shard)
			if err != nil || !ok || id != uint64(n)+1 || slices.Contains(but, n) {
				continue
			}
			short, stop := context.WithTimeout(ctx, time.Second)
			_, err = h.SyncRead(short, shard, nil)
			stop()
			if err == nil {
				return n
			}
		}
		select { // elections tell nobody here; look again in a tick
		case <-time.After(time.Duration(c.rtt) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	t.Fatalf("no leader of shard %d within %v", shard, patience)
	return 0
}

func (c *cluster) propose(node int, shard uint64, command []byte) error {
	h := c.hosts[node]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := h.SyncPropose(ctx, h.GetNoOPSession(shard), command)
	return err
}

// read gives a node's log of a shard, as far as it was agreed on when asked.
func (c *cluster) read(t testing.TB, node int, shard uint64) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil {
		short, stop := context.WithTimeout(ctx, time.Second)
		got, err := c.hosts[node].SyncRead(short, shard, nil)
		stop()
		if err == nil {
			return got.([]string)
		}
	}
	t.Fatalf("node %d answers no read of shard %d", node, shard)
	return nil
}

// journal is a state machine that keeps its commands, the long ones as a checksum.
type journal struct{ lines []string }

func line(command []byte) string {
	if len(command) <= 64 {
		return string(command)
	}
	return fmt.Sprintf("%d bytes %08x", len(command), crc32.ChecksumIEEE(command))
}

func (j *journal) Update(e sm.Entry) (sm.Result, error) {
	j.lines = append(j.lines, line(e.Cmd))
	return sm.Result{}, nil
}

func (j *journal) Lookup(any) (any, error) { return slices.Clone(j.lines), nil }

func (j *journal) SaveSnapshot(w io.Writer, _ sm.ISnapshotFileCollection, _ <-chan struct{}) error {
	for _, l := range j.lines {
		b := append(binary.LittleEndian.AppendUint32(nil, uint32(len(l))), l...)
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) RecoverFromSnapshot(r io.Reader, _ []sm.SnapshotFile, _ <-chan struct{}) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	j.lines = nil
	for len(b) > 0 {
		n := 4 + binary.LittleEndian.Uint32(b)
		j.lines, b = append(j.lines, string(b[4:n])), b[n:]
	}
	return nil
}

func (j *journal) Close() error { return nil }

var _ raftio.ITransport = (*Transport)(nil)

// links is what nodes are connected by, and how a test takes one away.
type links interface {
	network(node int) Network
	address(t testing.TB, node int) string
	isolate(node int)
	rejoin(node int)
}

// inMemory are links in this process. A cut one holds what is written until it heals.
type inMemory struct{ *Memory }

func name(node int) string { return fmt.Sprint("node-", node) }

func (l inMemory) network(node int) Network              { return l.Node(name(node)) }
func (l inMemory) address(_ testing.TB, node int) string { return name(node) + ":1" }
func (l inMemory) isolate(node int) {
	for other := range 3 {
		if other != node {
			l.Cut(name(node), name(other))
			l.Cut(name(other), name(node))
		}
	}
}
func (l inMemory) rejoin(node int) {
	for other := range 3 {
		l.Heal(name(node), name(other))
		l.Heal(name(other), name(node))
	}
}

// overTCP are links of the operating system; a cut breaks them.
type overTCP struct{ gates [3]*gate }

func (l *overTCP) network(node int) Network           { return l.gates[node] }
func (l *overTCP) address(t testing.TB, _ int) string { return freeAddress(t) }
func (l *overTCP) isolate(node int)                   { l.gates[node].set(true) }
func (l *overTCP) rejoin(node int)                    { l.gates[node].set(false) }

// gate is one node's network: shut, it breaks what passes through it.
type gate struct {
	mu   sync.Mutex
	shut bool
	open []net.Conn
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	for _, c := range g.open {
		_ = c.Close()
	}
	g.open = nil
}

// pass lets a connection through, or breaks it.
func (g *gate) pass(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		_ = c.Close()
		return
	}
	g.open = append(g.open, c)
}

func (g *gate) Dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := OS{}.Dial(ctx, address)
	if err == nil {
		g.pass(c)
	}
	return c, err
}

func (g *gate) Listen(address string) (net.Listener, error) {
	l, err := OS{}.Listen(address)
	return gateListener{l, g}, err
}

type gateListener struct {
	net.Listener
	gate *gate
}

func (l gateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.gate.pass(c)
	}
	return c, err
}

// counting counts the chunks that a node is handed.
type counting struct {
	*Factory
	chunks *atomic.Int64
}

func (c counting) Create(h config.NodeHostConfig, m raftio.MessageHandler, s raftio.ChunkHandler) raftio.ITransport {
	return c.Factory.Create(h, m, func(chunk pb.Chunk) bool {
		c.chunks.Add(1)
		return s(chunk)
	})
}

// TestCluster takes the leader away from three nodes, and gives it back: who is
// left elects and goes on, and in the end all have one log. A node that was away
// for longer than its peers' logs reach back gets a snapshot.
func TestCluster(t *testing.T) {
	for name, l := range map[string]links{"memory": inMemory{NewMemory()}, "tcp": &overTCP{[3]*gate{{}, {}, {}}}} {
		for _, snapshots := range []uint64{0, 5} {
			t.Run(fmt.Sprintf("%s/snapshots=%d", name, snapshots), func(t *testing.T) {
				testCluster(t, l, snapshots)
			})
		}
	}
}

func testCluster(t *testing.T, l links, snapshots uint64) {
	const shard = 1
	var chunks [3]atomic.Int64
	c := newCluster(t, clusterOptions{
		shards: shard, rtt: 10, snapshotEntries: snapshots,
		address: func(n int) string { return l.address(t, n) },
		factory: func(n int) config.TransportFactory {
			return counting{NewFactory(Options{Network: l.network(n), Log: quiet()}), &chunks[n]}
		},
	})
	var want []string
	agree := func(node int, from, to int) {
		for i := from; i < to; i++ {
			command := bytes.Repeat(fmt.Append(nil, i, " "), 1+1000*(i%2))
			if err := c.propose(node, shard, command); err != nil {
				t.Fatalf("command %d: %v", i, err)
			}
			want = append(want, line(command))
		}
	}
	first := c.leader(t, shard)
	agree(first, 0, 10)

	l.isolate(first)
	second := c.leader(t, shard, first)
	agree(second, 10, 40)
	l.rejoin(first)
	agree(c.leader(t, shard), 40, 50)

	for node := range c.hosts {
		if got := c.read(t, node, shard); !slices.Equal(got, want) {
			t.Errorf("node %d has %d commands, want %d:\n%q\n%q", node, len(got), len(want), got, want)
		}
	}
	if got := chunks[first].Load(); (got > 0) != (snapshots > 0) {
		t.Errorf("%d chunks of a snapshot came", got)
	}
}
