package raft

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

// TestOtherLog opens a directory that dragonboat's own log was used in.
func TestOtherLog(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), freeAddress(t)
	old, err := dragonboat.NewNodeHost(config.NodeHostConfig{
		NodeHostDir: dir, NodeHostID: target(0), RTTMillisecond: tickMilliseconds, RaftAddress: addr,
		Expert: config.ExpertConfig{Engine: engine(), LogDB: config.GetTinyMemLogDBConfig(), NodeRegistryFactory: newRegistry()},
	})
	if err != nil {
		t.Fatal(err)
	}
	old.Close()
	_, err = Open(Options{Dir: dir, Listen: addr, Advertise: addr, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), JournalFileBytes: 4 << 20, JournalBytesMax: 16 << 20})
	if !errors.Is(err, ErrOtherLog) {
		t.Errorf("%v, want ErrOtherLog", err)
	}
}

// TestDamagedJournal damages the log of one of two shards: that replica does not
// start, by name; the other has all it had.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	const other model.ShardID = shard + 1
	dir := t.TempDir()
	h := openHost(t, dir)
	machines := map[model.ShardID]*counting{shard: {}, other: {}}
	for s, m := range machines {
		if err := h.StartPartition(s, []model.NodeID{0}, m); err != nil {
			t.Fatal(err)
		}
		awaitLeaderOf(t, h, s)
		for i := range 3 {
			p, err := h.Propose(s, fmt.Appendf(nil, "command %d of shard %d", i, s), time.Second)
			if err == nil {
				err = p.Failed()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	h.Close()
	corrupt(t, filepath.Join(dir, journalDir), fmt.Sprintf("command 1 of shard %d", other))

	h = openHost(t, dir)
	defer h.Close()
	if err := h.StartPartition(other, []model.NodeID{0}, &counting{}); !errors.Is(err, ErrLogDamaged) {
		t.Errorf("start on a damaged log: %v, want ErrLogDamaged", err)
	}
	again := &counting{}
	if err := h.StartPartition(shard, []model.NodeID{0}, again); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, h)
	propose(t, h, "more")
	if n := len(again.seen()); n != 4 {
		t.Errorf("the whole log has %d commands, want 4", n)
	}
}

// corrupt flips a bit where text stands in one of the journal's files.
func corrupt(t *testing.T, dir, text string) {
	t.Helper()
	fs := disk.OS{}
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := disk.ReadFile(fs, filepath.Join(dir, n), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(b, []byte(text))
		if at < 0 {
			continue
		}
		f, err := fs.OpenAppend(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{b[at] ^ 1}, int64(at))
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%q is in none of %v", text, names)
}

// A command that no journal file takes is refused before it is proposed.
func TestCommandTooLarge(t *testing.T) {
	t.Parallel()
	h := openHost(t, t.TempDir())
	defer h.Close()
	if err := h.StartPartition(shard, []model.NodeID{0}, &counting{}); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, h)
	p, err := h.Propose(shard, make([]byte, h.commandMax), time.Second)
	if err != nil || p.Failed() != nil {
		t.Errorf("the largest command: %v", err)
	}
	if _, err := h.Propose(shard, make([]byte, h.commandMax+1), time.Second); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more: %v, want ErrTooLarge", err)
	}
}

// TestMachineBehind starts a replica whose machine has lost what its log has
// forgotten: the library would panic.
func TestMachineBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := openHost(t, dir)
	m := &counting{}
	if err := h.StartPartition(shard, []model.NodeID{0}, m); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, h)
	for range 5 {
		propose(t, h, "x")
	}
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := h.Snapshot(t.Context(), shard, m.durable); err != nil {
		t.Fatal(err)
	}
	h.Close()

	h = openHost(t, dir)
	defer h.Close()
	if err := h.StartPartition(shard, []model.NodeID{0}, &counting{}); !errors.Is(err, ErrMachineBehind) {
		t.Errorf("a machine that lost everything: %v, want ErrMachineBehind", err)
	}
	if err := h.StartPartition(shard, []model.NodeID{0}, &counting{durable: m.durable, index: m.durable}); err != nil {
		t.Errorf("one that stands where it was: %v", err)
	}
}

// A start that fails behind the journal's, for a port that is taken, is an error and
// leaves the journal as it was.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	o := Options{
		Dir: dir, Listen: at, Advertise: at, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		JournalFileBytes: 4 << 20, JournalBytesMax: 16 << 20, Fatal: func(err error) { t.Error(err) },
	}
	if h, err := Open(o); err == nil {
		h.Close()
		t.Fatal("opened on a port that is taken")
	}
	openHost(t, dir).Close()
}
