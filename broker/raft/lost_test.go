package raft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/journal"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// losing are three nodes of a group of which others may be members that never were.
func losing(t *testing.T, members ...model.NodeID) *peers {
	t.Helper()
	p := &peers{net: transport.NewMemory(), shard: shard}
	for n := range p.hosts {
		p.dirs[n], p.machines[n] = t.TempDir(), &counting{}
		p.open(t, n, memberAddress(n))
	}
	t.Cleanup(p.close)
	p.meet()
	for n, h := range p.hosts {
		if !slices.Contains(members, model.NodeID(n)) {
			continue
		}
		if err := h.StartPartition(p.shard, members, p.machines[n]); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// close closes the nodes that are open.
func (p *peers) close() {
	for n, h := range p.hosts {
		if h != nil {
			h.Close()
		}
		p.hosts[n] = nil
	}
}

// stopped opens the log of a node that was closed, and gives what it holds of the group.
func (p *peers) stopped(t *testing.T, n int) (*StoppedLog, *Group) {
	t.Helper()
	l, err := OpenStopped(disk.OS{}, p.dirs[n], model.NodeID(n), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	all, err := l.Groups()
	if err != nil || len(all) != 1 || all[0].Shard != p.shard {
		t.Fatalf("the stopped log holds %+v, %v", all, err)
	}
	return l, &all[0]
}

// goOn closes the nodes and makes one of them go on with those members that stay.
func (p *peers) goOn(t *testing.T, n int, stay ...model.NodeID) (before Group) {
	t.Helper()
	p.close()
	l, g := p.stopped(t, n)
	before = *g
	stays := func(m Member) bool { return slices.Contains(stay, m.Node) }
	if err := l.GoOn(g, g.Term+1, stays); err != nil {
		t.Fatal(err)
	}
	if err := l.GoOn(g, g.Term, stays); err == nil {
		t.Error("a replica goes on in a term that has been")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, g = p.stopped(t, n)
	defer l.Close()
	for _, m := range g.Decided.Voters {
		if m.Node != model.NodeID(n) && !slices.Contains(stay, m.Node) {
			t.Errorf("decided are %+v of %v", g.Decided, stay)
		}
	}
	return before
}

// again starts a node anew; those that are lost are told to it.
func (p *peers) again(t *testing.T, n int, members []model.NodeID, lost ...model.NodeID) {
	t.Helper()
	h, err := Open(Options{
		Dir: p.dirs[n], Node: model.NodeID(n), Listen: memberAddress(n), Advertise: memberAddress(n), Lost: lost,
		Network: p.net.Node(fmt.Sprint(n)), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		JournalFileBytes: 4 << 20, JournalBytesMax: 32 << 20, Fatal: func(err error) { panic(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.hosts[n], p.machines[n] = h, &counting{}
	for m := range p.hosts {
		h.SetAddress(model.NodeID(m), memberAddress(m))
	}
	birth, _ := h.Birth(p.shard)
	if err := h.StartReplica(Replica{Shard: p.shard, Birth: birth, Members: members, Joins: birth > 0}, p.machines[n]); err != nil {
		t.Fatal(err)
	}
}

func (p *peers) text(n int) string {
	got := slices.CompactFunc(p.machines[n].seen(), bytes.Equal) // a command whose outcome was unknown may be there twice
	return string(bytes.Join(got, []byte(",")))
}

// TestGoOn: the only node that is left leads alone, with all that it holds. Those that were
// given up come back with their disks, are a majority of what they know, and change nothing.
func TestGoOn(t *testing.T) {
	t.Parallel()
	three := []model.NodeID{0, 1, 2}
	p := losing(t, three...)
	p.propose(t, "one", 0, 1, 2)
	p.propose(t, "two", 0, 1, 2)
	p.agreed(t)
	before := p.goOn(t, 2)

	p.again(t, 2, []model.NodeID{2}, 0, 1)
	p.propose(t, "three", 2)
	if got := p.text(2); got != "one,two,three" {
		t.Errorf("the node that is left has %q", got)
	}
	if got := p.members(t, 2); got != "[{2 0}] []" {
		t.Errorf("its group is %s", got)
	}
	c, _ := p.hosts[2].Leader(p.shard)
	if c.Term <= model.LeaderEpoch(before.Term) {
		t.Errorf("it leads in term %d after %d", c.Term, before.Term)
	}

	for _, n := range []int{0, 1} {
		p.again(t, n, three)
	}
	for _, cmd := range []string{"a", "b", "c", "d", "e", "f"} {
		p.propose(t, cmd, 0, 1) // in a later term than the other's
	}
	p.propose(t, "four", 2)
	if got := p.text(2); got != "one,two,three,four" {
		t.Errorf("after the lost have come back, it has %q", got)
	}
}

// TestGoOnWithAnUndecidedTail: what the survivor's log ends with, and nobody has decided,
// counts: a command, and a change of members that still names the lost.
func TestGoOnWithAnUndecidedTail(t *testing.T) {
	t.Parallel()
	p := losing(t, 0, 1, 2)
	leader := p.propose(t, "decided", 0, 1, 2)
	p.agreed(t)
	known, err := p.hosts[leader].Members(t.Context(), p.shard)
	if err != nil {
		t.Fatal(err)
	}
	for n := range p.hosts {
		if n != leader {
			p.net.Cut(fmt.Sprint(n), fmt.Sprint(leader))
			p.net.Cut(fmt.Sprint(leader), fmt.Sprint(n))
		}
	}
	h := p.hosts[leader]
	if _, err := h.Propose(p.shard, []byte("undecided"), time.Second); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := h.AddLearner(ctx, p.shard, Member{Node: 7}, known.Change); !errors.Is(err, ErrUnknown) {
		t.Fatalf("the change of members: %v, want ErrUnknown", err)
	}
	before := p.goOn(t, leader, 7)
	if len(before.Decided.Learners) != 0 || len(before.Members.Learners) != 1 || before.LastIndex < before.Commit+2 {
		t.Fatalf("the log does not end with a command and a change that are undecided: %+v", before)
	}
	p.again(t, leader, []model.NodeID{model.NodeID(leader)})
	p.propose(t, "more", leader)
	if got := p.text(leader); got != "decided,undecided,more" {
		t.Errorf("the node that is left has %q", got)
	}
	if got, want := p.members(t, leader), fmt.Sprintf("[{%d 0}] [{7 0}]", leader); got != want {
		t.Errorf("its group is %s, want %s", got, want)
	}
}

// TestGoOnAsTwoOfFive: of two that are left the one with the longer log goes on, and the
// other follows it without having been changed.
func TestGoOnAsTwoOfFive(t *testing.T) {
	t.Parallel()
	p := losing(t, 0, 1, 2, 3, 4) // 3 and 4 never come
	p.propose(t, "one", 0, 1, 2)
	p.agreed(t)
	for _, n := range []string{"1", "2"} {
		p.net.Cut("0", n)
		p.net.Cut(n, "0")
	}
	c, ok := p.hosts[1].Leader(p.shard)
	if ok && c.Leader != 0 {
		if q, err := p.hosts[c.Leader].Propose(p.shard, []byte("two"), time.Second); err != nil {
			t.Fatal(err)
		} else if err := q.Failed(); err == nil {
			t.Fatal("two of five decide")
		}
	}
	p.close()
	l1, g1 := p.stopped(t, 1)
	l2, g2 := p.stopped(t, 2)
	if err := errors.Join(l1.Close(), l2.Close()); err != nil {
		t.Fatal(err)
	}
	goes := 1
	if g2.LastTerm > g1.LastTerm || g2.LastTerm == g1.LastTerm && g2.LastIndex > g1.LastIndex {
		goes = 2
	}
	p.goOn(t, goes, 1, 2)
	left := []model.NodeID{1, 2}
	p.again(t, 1, left, 0, 3, 4)
	p.again(t, 2, left, 0, 3, 4)
	p.propose(t, "three", 1, 2)
	p.same(t, goes, 3-goes)
	if a, b := p.text(1), p.text(2); a != b || a != "one,two,three" && a != "one,three" {
		t.Errorf("the two have %q and %q", a, b)
	}
	if got := p.members(t, goes); got != "[{1 0} {2 0}] []" {
		t.Errorf("their group is %s", got)
	}
}

// TestGoOnFromALearner: where all voters are lost, a learner goes on with what it was sent.
func TestGoOnFromALearner(t *testing.T) {
	t.Parallel()
	p := losing(t, 0)
	p.propose(t, "one", 0)
	m := Member{Node: 1, Birth: 3}
	p.change(t, 0, func(h *Host, change uint64) error { return h.AddLearner(t.Context(), p.shard, m, change) })
	if err := p.hosts[1].StartReplica(Replica{Shard: p.shard, Birth: m.Birth, Joins: true}, p.machines[1]); err != nil {
		t.Fatal(err)
	}
	p.same(t, 0, 1)
	p.goOn(t, 1)
	p.again(t, 1, []model.NodeID{1}, 0)
	p.propose(t, "two", 1)
	if got := p.text(1); got != "one,two" {
		t.Errorf("the learner has %q", got)
	}
	if got := p.members(t, 1); got != "[{1 3}] []" {
		t.Errorf("its group is %s", got)
	}
}

// TestGoOnFromNothing: a group that was made a moment ago, and of which no log was written.
func TestGoOnFromNothing(t *testing.T) {
	t.Parallel()
	p := losing(t, 1) // nothing runs on node 0 but its log
	p.close()
	l, err := OpenStopped(disk.OS{}, p.dirs[0], 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	made := pb.NewBootstrapInfo(false, pb.OnDiskStateMachine, map[uint64]string{1: target(0), 2: target(1), 3: target(2)})
	if err := errors.Join(l.journal.SaveBootstrapInfo(uint64(shard), 1, made), l.Close()); err != nil {
		t.Fatal(err)
	}
	if before := p.goOn(t, 0); len(before.Members.Voters) != 3 || before.LastIndex != 0 {
		t.Errorf("before it had %+v", before)
	}
	p.again(t, 0, []model.NodeID{0}, 1, 2)
	p.propose(t, "one", 0)
	if got := p.text(0); got != "one" {
		t.Errorf("it has %q", got)
	}
}

// TestPad: files that came from another node, and are ahead of the log, are gone on from: the
// next command lies behind what they hold. Of a log that has lost something nothing is made up.
func TestPad(t *testing.T) {
	t.Parallel()
	for name, installed := range map[string]uint64{"installed": 30, "lost": 0} {
		dir, self := t.TempDir(), Member{Node: 2}
		if err := errors.Join(writeGroup(disk.OS{}, dir, self), goOnAlone(disk.OS{}, dir, self.Node)); err != nil {
			t.Fatal(err)
		}
		p := &peers{net: transport.NewMemory(), shard: shard}
		p.dirs[2] = dir
		t.Cleanup(p.close)
		p.open(t, 2, memberAddress(2))
		m := &counting{durable: 30, index: 30}
		p.machines[2] = m
		if err := p.hosts[2].StartReplica(Replica{Shard: shard, Members: []model.NodeID{2}, Installed: installed}, m); err != nil {
			t.Fatal(err)
		}
		err := p.hosts[2].CheckLog(shard, 30, installed)
		if name == "lost" {
			if !errors.Is(err, ErrLogDamaged) {
				t.Errorf("a log that has lost entries: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		p.propose(t, "next", 2)
		m.mu.Lock()
		if m.index <= 30 || string(bytes.Join(m.entries, nil)) != "next" {
			t.Errorf("it stands at %d with %q", m.index, m.entries)
		}
		m.mu.Unlock()
	}
}

// TestMidway: a replica that was to follow a note, and has not, cannot go on.
func TestMidway(t *testing.T) {
	t.Parallel()
	dir, self := t.TempDir(), Member{Node: 2}
	if err := writeGroup(disk.OS{}, dir, self); err != nil {
		t.Fatal(err)
	}
	l, err := OpenStopped(disk.OS{}, dir, self.Node, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	below := filepath.Join("host", "deployment", "part", "replica", "snapshot", "file")
	ss := pb.Snapshot{ShardID: uint64(shard), Index: 20, Term: 4, Filepath: filepath.Join("/elsewhere", below)}
	u := pb.Update{ShardID: uint64(shard), ReplicaID: self.id(), Snapshot: ss, State: pb.State{Term: 4, Vote: 1, Commit: 20}}
	if err := l.journal.SaveRaftState([]pb.Update{u}, 0); err != nil {
		t.Fatal(err)
	}
	damaged := func() bool {
		all, err := l.Groups()
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		if all[0].Damaged == "" && !all[0].Taken {
			t.Error("it is not said that its files came from another node")
		}
		if all[0].Damaged != "" {
			if err := l.GoOn(&all[0], 9, nil); !errors.Is(err, ErrLogDamaged) {
				t.Errorf("it goes on: %v", err)
			}
		}
		return all[0].Damaged != ""
	}
	if damaged() {
		t.Error("a snapshot without a note keeps it from going on")
	}
	path := filepath.Join(dir, below)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(make([]byte, 1024), frameNote([]byte("from node 1"))...), 0o640); err != nil {
		t.Fatal(err)
	}
	if !damaged() {
		t.Error("a note that was not followed does not keep it from going on")
	}
}

// TestGoOnThroughPowerCuts: cut at every change of the disk, it has happened or not, and
// can be done again.
func TestGoOnThroughPowerCuts(t *testing.T) {
	t.Parallel()
	const node, dir = 2, "raft"
	self := Member{Node: node}
	done, cuts := 0, 0
	for at := 1; ; at++ {
		fs := disk.NewCrashing()
		if err := writeGroup(fs, dir, self); err != nil {
			t.Fatal(err)
		}
		fs.StopAt(at)
		finished := goOnAlone(fs, dir, node) == nil
		fs = fs.Crash(uint64(at))
		l, err := OpenStopped(fs, dir, node, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("cut at change %d: %v", at, err)
		}
		all, err := l.Groups()
		if err != nil || len(all) != 1 {
			t.Fatalf("cut at change %d: %+v, %v", at, all, err)
		}
		g := &all[0]
		was := g.LastIndex == writtenEntries && g.Commit < g.LastIndex && len(g.Members.Voters) == 3 && g.Term == 4
		is := g.LastIndex == writtenEntries+2 && g.Commit == g.LastIndex && len(g.Decided.Voters) == 1 && g.Term == 5
		if was == is || finished && !is {
			t.Errorf("cut at change %d, finished %v: %+v", at, finished, g)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if was {
			cuts++
			if err := goOnAlone(fs, dir, node); err != nil {
				t.Errorf("cut at change %d: not again: %v", at, err)
			}
		} else {
			done++
		}
		if finished {
			break
		}
	}
	if cuts < 5 || done < 1 {
		t.Errorf("%d cuts before, %d behind", cuts, done)
	}
}

// writtenEntries are what writeGroup writes: three members, and what leaders begin with.
const writtenEntries = 8

// writeGroup writes the log of a member of three, half of it undecided.
func writeGroup(fs disk.FS, dir string, self Member) error {
	j, err := journal.Open(journal.Options{
		FS: fs, Dir: filepath.Join(dir, journalDir), FileBytes: journal.FileBytesMin, BytesMax: 8 * journal.FileBytesMin,
		Log: slog.New(slog.DiscardHandler), Fatal: func(error) {},
	})
	if err != nil {
		return err
	}
	l := &StoppedLog{node: self.Node, dir: dir, journal: j}
	made := pb.NewBootstrapInfo(false, pb.OnDiskStateMachine, map[uint64]string{1: target(0), 2: target(1), 3: target(2)})
	err = j.SaveBootstrapInfo(uint64(shard), self.id(), made)
	if err != nil {
		return err
	}
	es, err := l.bootstrapEntries(&Group{Shard: shard})
	if err != nil {
		return err
	}
	for len(es) < writtenEntries {
		es = append(es, pb.Entry{Term: 4, Index: uint64(len(es) + 1)})
	}
	u := pb.Update{ShardID: uint64(shard), ReplicaID: self.id(), State: pb.State{Term: 4, Vote: 1, Commit: 5}, EntriesToSave: es}
	return errors.Join(j.SaveRaftState([]pb.Update{u}, 0), j.Close())
}

func goOnAlone(fs disk.FS, dir string, node model.NodeID) error {
	l, err := OpenStopped(fs, dir, node, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	all, err := l.Groups()
	if err == nil {
		err = l.GoOn(&all[0], all[0].Term+1, func(Member) bool { return false })
	}
	return errors.Join(err, l.Close())
}
