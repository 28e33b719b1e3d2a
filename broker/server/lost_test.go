package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/raft/transport"
	"github.com/millrace-io/millrace/broker/rescue"
)

// TestGivenUp: who was given up is told when and by what, also with an empty directory.
func TestGivenUp(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	g := greeting{Node: 0, Cluster: "x", Formed: true, Settled: true, Come: []model.NodeID{0}, Lost: []lostNode{{1, at}, {2, at}}}
	for name, c := range map[string]struct {
		id   identity
		want error
	}{
		"with its disk":    {identity{Node: 1, Cluster: "x", Formed: true}, ErrGivenUp},
		"with another":     {identity{Node: 2, Cluster: "y"}, ErrGivenUp},
		"another node":     {identity{Node: 3, Cluster: "y"}, nil},
		"one that is left": {identity{Node: 0, Cluster: "x", Formed: true, Lost: g.Lost}, nil},
	} {
		err := c.id.judge(g)
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), "2026-05-01T12:00:00Z") {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	id := identity{Node: 0, Founders: []model.NodeID{0, 1, 2}, Lost: g.Lost}
	if got := id.members(); !slices.Equal(got, []model.NodeID{0}) {
		t.Errorf("its members are %v", got)
	}
}

// words is a controller's machine that remembers commands.
type words struct {
	said chan []byte
}

func (w *words) Apply(_ uint64, cmd []byte) []byte { w.said <- bytes.Clone(cmd); return nil }
func (w *words) Snapshot() ([]byte, error)         { return nil, nil }
func (w *words) Restore([]byte) error              { return nil }

// five are the directories of nodes 0 to 2 of a group of five, on a network in memory.
type five struct {
	net   *transport.Memory
	dirs  [3]string
	hosts [3]*raft.Host
	said  [3]*words
}

var founding = []model.NodeID{0, 1, 2, 3, 4}

func newFive(t *testing.T) *five {
	t.Helper()
	f := &five{net: transport.NewMemory()}
	for n := range f.dirs {
		f.dirs[n] = t.TempDir()
	}
	t.Cleanup(func() { f.close(0, 1, 2) }) // before the directories go
	for n := range f.dirs {
		id := identity{Format: formatVersion, Node: model.NodeID(n), Cluster: "x", Formed: true, Founders: founding, Deployment: 1 << 63}
		if _, err := writeIdentity(f.dirs[n], id); err != nil {
			t.Fatal(err)
		}
		f.open(t, n)
	}
	return f
}

// open starts a node's raft log with its replica of the controller.
func (f *five) open(t *testing.T, n int) {
	t.Helper()
	id, err := readIdentity(f.dirs[n])
	if err != nil {
		t.Fatal(err)
	}
	address := func(n int) string { return fmt.Sprintf("node-%d:1", n) }
	h, err := raft.Open(raft.Options{
		Dir: filepath.Join(f.dirs[n], "raft"), Node: id.Node, Deployment: id.Deployment, Lost: id.lost(), Listen: address(n), Advertise: address(n),
		Network: f.net.Node(fmt.Sprint(n)), Log: slog.New(slog.DiscardHandler),
		JournalFileBytes: 4 << 20, JournalBytesMax: 32 << 20, Fatal: func(err error) { panic(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range h.Changes() {
		}
	}()
	f.hosts[n], f.said[n] = h, &words{said: make(chan []byte, 100)}
	for m := range f.dirs {
		h.SetAddress(model.NodeID(m), address(m))
	}
	if err := h.StartController(raft.Replica{Shard: raft.ControllerShard, Members: founding}, f.said[n]); err != nil {
		t.Fatal(err)
	}
}

func (f *five) close(nodes ...int) {
	for _, n := range nodes {
		if f.hosts[n] != nil {
			f.hosts[n].Close()
		}
		f.hosts[n] = nil
	}
}

// say has the controller take a command, and waits until this node has applied it; false
// if nobody decides it.
func (f *five) say(t *testing.T, n int, word string, within time.Duration) bool {
	t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(t.Context(), min(within, 2*time.Second))
		_, err := f.hosts[n].ProposeController(ctx, []byte(word))
		cancel()
		if err == nil {
			return true
		}
		<-time.After(100 * time.Millisecond)
	}
	return false
}

const fivePatience = 30 * time.Second

// TestRecoverTwoOfFive: the two that are left report to each other, one of them goes on
// with the group of both, and neither starts on half of it.
func TestRecoverTwoOfFive(t *testing.T) {
	t.Parallel()
	f := newFive(t)
	if !f.say(t, 0, "before", fivePatience) {
		t.Fatal("three of five decide nothing")
	}
	f.close(2)
	if f.say(t, 0, "undecided", time.Second/2) {
		t.Fatal("two of five decide")
	}
	f.close(0, 1)

	log := slog.New(slog.DiscardHandler)
	ask := func(n int, more rescue.Ask) rescue.Ask {
		more.DataDir, more.Lost = f.dirs[n], []model.NodeID{2, 3, 4}
		return more
	}
	files := [2]string{filepath.Join(t.TempDir(), "0.json"), filepath.Join(t.TempDir(), "1.json")}
	for n, to := range files {
		o, err := RecoverLostMajority(ask(n, rescue.Ask{DryRun: true, ReportTo: to}), log)
		if err != nil || o.Plan != nil || !strings.Contains(o.Unreported, fmt.Sprint("node ", 1-n)) || o.Held != 1 {
			t.Fatalf("node %d reports %+v, %v", n, o, err)
		}
	}
	if _, err := RecoverLostMajority(ask(0, rescue.Ask{}), log); !errors.Is(err, rescue.ErrUnreported) {
		t.Fatalf("without the other's report: %v", err)
	}
	if _, err := RecoverLostMajority(giving(ask(0, rescue.Ask{Reports: files[1:]}), 2, 3, 4, 9), log); err == nil {
		t.Fatal("an unknown node was given up")
	}
	if r, err := readRecovery(f.dirs[0]); r != nil || err != nil {
		t.Fatalf("what was refused has left %+v, %v", r, err)
	}
	by := model.NoNode
	for n := range files {
		o, err := RecoverLostMajority(ask(n, rescue.Ask{Reports: []string{files[1-n]}}), log)
		if err != nil || !o.Done || o.Plan.Count(rescue.GoesOn) != 1 {
			t.Fatalf("node %d: %+v, %v", n, o, err)
		}
		if d := o.Plan.Groups[0]; n > 0 && d.By != by {
			t.Fatalf("node 0 has %d go on, node 1 %d", by, d.By)
		} else {
			by = d.By
		}
		if err := checkRecovery(f.dirs[n]); err != nil {
			t.Error(err)
		}
	}
	// Again, as after a failure at the end.
	if o, err := RecoverLostMajority(ask(0, rescue.Ask{Reports: files[1:]}), log); err != nil || !o.Done {
		t.Errorf("again: %+v, %v", o, err)
	}
	f.open(t, 0)
	f.open(t, 1)
	if !f.say(t, int(by), "after", fivePatience) {
		t.Fatal("the two that are left decide nothing")
	}
	if m, err := f.hosts[by].Members(t.Context(), raft.ControllerShard); err != nil || len(m.Voters) != 2 {
		t.Errorf("the group has %+v, %v", m, err)
	}
	for n := range 2 {
		for _, want := range []string{"before", "after"} {
			f.hears(t, n, want)
		}
	}
}

// hears waits until a node's machine is told a word.
func (f *five) hears(t *testing.T, n int, word string) {
	t.Helper()
	limit := time.After(fivePatience)
	for {
		select {
		case got := <-f.said[n].said:
			if string(got) == word {
				return
			}
		case <-limit:
			t.Fatalf("node %d is not told %q", n, word)
		}
	}
}

func giving(a rescue.Ask, lost ...model.NodeID) rescue.Ask {
	a.Lost = lost
	return a
}

// TestHalfRecovered: a directory on which the command has not ended is not started, and only
// the same command goes on.
func TestHalfRecovered(t *testing.T) {
	f := newFive(t)
	f.close(0, 1, 2)
	half := recovery{Lost: []model.NodeID{1, 2, 3, 4}, At: time.Now()}
	if err := half.write(f.dirs[0]); err != nil {
		t.Fatal(err)
	}
	if err := checkRecovery(f.dirs[0]); !errors.Is(err, ErrHalfRecovered) {
		t.Errorf("a start on half a recovery: %v", err)
	}
	log := slog.New(slog.DiscardHandler)
	ask := rescue.Ask{DataDir: f.dirs[0], Lost: []model.NodeID{1, 2}}
	if _, err := RecoverLostMajority(ask, log); !errors.Is(err, ErrHalfRecovered) {
		t.Errorf("others are given up meanwhile: %v", err)
	}
	if o, err := RecoverLostMajority(giving(ask, 4, 3, 2, 1), log); err != nil || !o.Done {
		t.Errorf("the same again: %+v, %v", o, err)
	}
	id, err := readIdentity(f.dirs[0])
	if err != nil || !slices.Equal(id.lost(), half.Lost) {
		t.Errorf("its identity says %+v, %v", id, err)
	}
	f.open(t, 0)
	if !f.say(t, 0, "alone", fivePatience) {
		t.Error("the node that is left decides nothing")
	}
}

// TestRecoverRefuses: what is no stopped node of a cluster, and what has lost nothing.
func TestRecoverRefuses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	empty, fresh := t.TempDir(), t.TempDir()
	if _, err := writeIdentity(fresh, identity{Format: formatVersion, Cluster: "x"}); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{empty: "no node's data directory", fresh: "never been part"} {
		if _, err := RecoverLostMajority(rescue.Ask{DataDir: dir, Lost: []model.NodeID{1}}, log); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "raft")); err == nil {
			t.Errorf("a log was made in %s", dir)
		}
	}
	f := newFive(t)
	f.close(0, 1, 2)
	var files []string
	for n := 1; n < 3; n++ {
		files = append(files, filepath.Join(t.TempDir(), "report"))
		if _, err := RecoverLostMajority(rescue.Ask{DataDir: f.dirs[n], Lost: []model.NodeID{3, 4}, DryRun: true, ReportTo: files[n-1]}, log); err != nil {
			t.Fatal(err)
		}
	}
	ask := rescue.Ask{DataDir: f.dirs[0], Lost: []model.NodeID{4, 3}, Reports: files}
	if _, err := RecoverLostMajority(ask, log); !errors.Is(err, ErrNothingLost) {
		t.Errorf("three of five are there: %v", err)
	}
	lock, err := lockDir(f.dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := RecoverLostMajority(ask, log); err == nil || !strings.Contains(err.Error(), "stop the node first") {
		t.Errorf("of a node that runs: %v", err)
	}
}
