package raft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/test/port"
)

// counting is a StateMachine that remembers what it was given.
type counting struct {
	mu      sync.Mutex
	entries [][]byte
	index   uint64
	durable uint64
}

func (c *counting) Open(<-chan struct{}) (uint64, error) { return c.durable, nil }

func (c *counting) Apply(entries []Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if e.Index <= c.index {
			return fmt.Errorf("entry %d after %d", e.Index, c.index)
		}
		c.index = e.Index
		c.entries = append(c.entries, bytes.Clone(e.Cmd))
	}
	return nil
}

func (c *counting) Sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.durable = c.index
	return nil
}

func (c *counting) Close() error { return nil }

func (c *counting) Note() ([]byte, error) { return nil, errors.New("this machine has no peers") }

func (c *counting) Recover([]byte, <-chan struct{}) error {
	return errors.New("this machine has no peers")
}

func (c *counting) seen() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.entries)
}

func freeAddress(t testing.TB) string { return port.Free(t, 1)[0] }

// node is what a Host and a Fake have in common: all that other rooms use.
type node interface {
	Changes() <-chan LeaderChange
	StartPartition(model.ShardID, []model.NodeID, StateMachine) error
	StartController(Replica, ControllerMachine) error
	Propose(model.ShardID, []byte, time.Duration) (*Proposal, error)
	ProposeController(context.Context, []byte) ([]byte, error)
	Barrier(context.Context, model.ShardID) error
	Snapshot(context.Context, model.ShardID, uint64) error
	Leader(model.ShardID) (LeaderChange, bool)
	Logs() []model.ShardID
	Stop(model.ShardID) error
	Remove(model.ShardID) error
	Close()
}

// mover is a node whose groups change.
type mover interface {
	node
	StartReplica(Replica, StateMachine) error
	Birth(model.ShardID) (model.Birth, bool)
	Running(model.ShardID) bool
	Members(context.Context, model.ShardID) (Members, error)
	AddLearner(context.Context, model.ShardID, Member, uint64) error
	Promote(context.Context, model.ShardID, Member, uint64) error
	RemoveMember(context.Context, model.ShardID, Member, uint64) error
	Transfer(model.ShardID, model.NodeID) error
}

// world opens nodes that share what outlives them: one is open at a time.
type world struct {
	open func(t *testing.T) node
}

// inBoth runs a history on dragonboat and on the Fake: they must not differ.
func inBoth(t *testing.T, history func(t *testing.T, w world)) {
	t.Run("dragonboat", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		history(t, world{open: func(t *testing.T) node { return openHost(t, dir) }})
	})
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		disk := NewDisk()
		history(t, world{open: func(*testing.T) node { return eager{NewFake(0, disk)} }})
	})
}

// eager is a Fake that elects itself at once, as a lone Host does in time.
type eager struct{ *Fake }

func (e eager) StartPartition(s model.ShardID, members []model.NodeID, m StateMachine) error {
	err := e.Fake.StartPartition(s, members, m)
	if err == nil {
		e.Elect(s, 0)
	}
	return err
}

func (e eager) StartController(r Replica, m ControllerMachine) error {
	err := e.Fake.StartController(r, m)
	if err == nil {
		e.Elect(ControllerShard, 0)
	}
	return err
}

func openHost(t testing.TB, dir string) *Host {
	t.Helper()
	addr := freeAddress(t)
	h, err := Open(Options{
		Dir: dir, Node: 0, Listen: addr, Advertise: addr, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		JournalFileBytes: 4 << 20, JournalBytesMax: 32 << 20,
		Fatal: func(err error) { panic(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

const shard model.ShardID = 100

// TestSeveralNodeHosts: shards of all NodeHosts are in one log and come back from it,
// and a log can be removed whose NodeHost was not open.
func TestSeveralNodeHosts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shards := []model.ShardID{shard, hostShards, 3*hostShards + 5, hostShards * hostsMax}
	h := openHost(t, dir)
	if _, err := h.Propose(hostShards, []byte("early"), time.Second); !errors.Is(err, ErrClosed) {
		t.Fatalf("a proposal to a NodeHost that is not open: %v", err)
	}
	for round := range 2 {
		for _, of := range shards {
			m := &counting{}
			if err := h.StartPartition(of, []model.NodeID{0}, m); err != nil {
				t.Fatal(err)
			}
			awaitLeaderOf(t, h, of)
			p, err := h.Propose(of, fmt.Appendf(nil, "%d", of), 2*time.Second)
			if err == nil {
				err = p.Failed()
			}
			if err != nil {
				t.Fatalf("shard %d: %v", of, err)
			}
			if got := m.seen(); len(got) != round+1 {
				t.Errorf("shard %d has %q in round %d", of, got, round)
			}
		}
		h.Close()
		h = openHost(t, dir)
	}
	defer h.Close()
	if err := h.Remove(shards[2]); err != nil {
		t.Fatal(err)
	}
	left := h.Logs()
	slices.Sort(left)
	if want := []model.ShardID{shard, hostShards, hostShards * hostsMax}; !slices.Equal(left, want) {
		t.Errorf("logs %v, want %v", left, want)
	}
}

// awaitLeader reads changes until this node leads the shard.
func awaitLeader(t *testing.T, h node) LeaderChange {
	t.Helper()
	return awaitLeaderOf(t, h, shard)
}

func awaitLeaderOf(t testing.TB, h node, of model.ShardID) LeaderChange {
	t.Helper()
	for {
		select {
		case c := <-h.Changes():
			if c.Shard == of && c.Leader == 0 {
				return c
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no leader within 10 s")
		}
	}
}

func propose(t *testing.T, h node, cmd string) {
	t.Helper()
	p, err := h.Propose(shard, []byte(cmd), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Failed(); err != nil {
		t.Fatal(err)
	}
}

// TestRestart proposes, restarts on another address, and finds everything that
// was not durable replayed, in order, once.
func TestRestart(t *testing.T) { inBoth(t, restart) }

func restart(t *testing.T, w world) {
	h := w.open(t)
	first := &counting{}
	if err := h.StartPartition(shard, []model.NodeID{0}, first); err != nil {
		t.Fatal(err)
	}
	was := awaitLeader(t, h)
	for i := range 5 {
		propose(t, h, fmt.Sprint("a", i))
	}
	if err := first.Sync(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		propose(t, h, fmt.Sprint("b", i))
	}
	if err := h.Barrier(t.Context(), shard); err != nil {
		t.Fatal(err)
	}
	h.Close()

	h = w.open(t)
	defer h.Close()
	second := &counting{durable: first.durable, index: first.durable}
	if err := h.StartPartition(shard, []model.NodeID{0}, second); err != nil {
		t.Fatal(err)
	}
	now := awaitLeader(t, h)
	if now.Term <= was.Term {
		t.Errorf("term %d after %d: it must grow over a restart", now.Term, was.Term)
	}
	if err := h.Barrier(t.Context(), shard); err != nil {
		t.Fatal(err)
	}
	want := [][]byte{[]byte("b0"), []byte("b1"), []byte("b2")}
	if got := second.seen(); !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("replayed %q, want %q", got, want)
	}
}

// TestSnapshot lets the log forget what is durable; a restart begins behind it.
func TestSnapshot(t *testing.T) { inBoth(t, snapshot) }

func snapshot(t *testing.T, w world) {
	h := w.open(t)
	m := &counting{}
	if err := h.StartPartition(shard, []model.NodeID{0}, m); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, h)
	for i := range 20 {
		propose(t, h, fmt.Sprint(i))
	}
	if err := h.Snapshot(t.Context(), shard, m.index); err != nil {
		t.Fatal(err)
	}
	propose(t, h, "after")
	h.Close()
	h = w.open(t)
	defer h.Close()
	again := &counting{durable: m.durable, index: m.durable}
	if err := h.StartPartition(shard, []model.NodeID{0}, again); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, h)
	if err := h.Barrier(t.Context(), shard); err != nil {
		t.Fatal(err)
	}
	if got := again.seen(); len(got) != 1 || string(got[0]) != "after" {
		t.Errorf("replayed %q, want only what came after the snapshot", got)
	}
}

// TestRefused shows that a proposal to a shard that is not here is surely not
// written, and that a stopped replica's log can be removed. (It never comes back:
// shard ids are not reused.)
func TestRefused(t *testing.T) { inBoth(t, refusal) }

func refusal(t *testing.T, w world) {
	h := w.open(t)
	if err := h.Barrier(t.Context(), 77); !errors.Is(err, ErrClosed) {
		t.Errorf("barrier of a strange shard: %v, want ErrClosed", err)
	}
	if _, err := h.Propose(77, []byte("x"), time.Second); !errors.Is(err, ErrClosed) {
		t.Errorf("propose to a strange shard: %v, want ErrClosed", err)
	}
	m := &counting{}
	if err := h.StartPartition(shard, []model.NodeID{0}, m); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, h)
	propose(t, h, "x")
	if got := h.Logs(); !slices.Equal(got, []model.ShardID{shard}) {
		t.Errorf("logs of %v, want %v", got, shard)
	}
	if err := errors.Join(h.Stop(shard), h.Stop(shard), h.Remove(shard)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Propose(shard, []byte("x"), time.Second); !errors.Is(err, ErrClosed) {
		t.Errorf("propose to a removed replica: %v, want ErrClosed", err)
	}
	if got := h.Logs(); len(got) != 0 {
		t.Errorf("logs of %v are left", got)
	}
	h.Close()
	_, proposed := h.Propose(shard, []byte("x"), time.Second)
	_, controlled := h.ProposeController(t.Context(), []byte("x"))
	for _, err := range []error{
		proposed, controlled, h.StartPartition(shard, []model.NodeID{0}, m),
		h.Barrier(t.Context(), shard), h.Snapshot(t.Context(), shard, 1),
	} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("after Close: %v, want ErrStopped", err)
		}
	}
	if len(h.Logs()) != 0 {
		t.Error("a closed node lists logs")
	}
}

// echo is a ControllerMachine that keeps a list of its commands.
type echo struct{ all []byte }

func (e *echo) Apply(_ uint64, cmd []byte) []byte {
	e.all = append(e.all, cmd...)
	return append([]byte("did "), cmd...)
}
func (e *echo) Snapshot() ([]byte, error) { return e.all, nil }
func (e *echo) Restore(b []byte) error    { e.all = bytes.Clone(b); return nil }

func TestController(t *testing.T) { inBoth(t, controls) }

func controls(t *testing.T, w world) {
	h := w.open(t)
	m := &echo{}
	if err := h.StartController(Replica{Shard: ControllerShard, Members: []model.NodeID{0}}, m); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 1200 { // past a snapshot
		if _, err := h.ProposeController(ctx, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := h.ProposeController(ctx, []byte("y"))
	if err != nil || string(got) != "did y" {
		t.Fatalf("result %q, %v", got, err)
	}
	h.Close()
	h = w.open(t)
	defer h.Close()
	again := &echo{}
	if err := h.StartController(Replica{Shard: ControllerShard, Members: []model.NodeID{0}}, again); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ProposeController(ctx, []byte("z")); err != nil {
		t.Fatal(err)
	}
	if want := 1202; len(again.all) != want {
		t.Errorf("%d commands after the restart, want %d", len(again.all), want)
	}
}

// TestLogBehindMachine starts a replica whose log has lost what its machine had
// reached already.
func TestLogBehindMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := openHost(t, dir)
	m := &counting{}
	if err := h.StartPartition(shard, []model.NodeID{0}, m); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, h)
	for i := range 5 {
		propose(t, h, fmt.Sprint(i))
	}
	h.Close()
	reached := m.index

	h = openHost(t, dir)
	defer h.Close()
	if err := h.StartPartition(shard, []model.NodeID{0}, &counting{durable: reached, index: reached}); err != nil {
		t.Fatal(err)
	}
	if err := h.CheckLog(shard, reached, 0); err != nil {
		t.Errorf("a whole log: %v", err)
	}
	if err := h.CheckLog(shard, reached+100, reached+99); !errors.Is(err, ErrLogDamaged) {
		t.Errorf("a log that ends too soon: %v, want ErrLogDamaged", err)
	}
	if err := h.CheckLog(shard, reached+100, reached+100); err != nil {
		t.Errorf("a log that ends before what was installed: %v", err)
	}
	if err := h.CheckLog(shard+1, 0, 0); err == nil {
		t.Error("a shard that does not run is checked")
	}
}
