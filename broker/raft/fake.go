package raft

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// Fate is what a Fake makes of a proposal. All of them happen under dragonboat.
type Fate uint8

// The fates of a proposal.
const (
	// Taken is appended, applied, and answered, in this order.
	Taken Fate = iota
	// Dropped is surely not in the log.
	Dropped
	// Busy is refused since the shard's queue is full.
	Busy
	// Lost is answered as unknown and never applied.
	Lost
	// Late is answered as unknown, and applied once Release lets it: a ghost.
	Late
	// Deaf is applied at once and answered as unknown: the answer came too late.
	Deaf
	// Silent is neither applied nor answered.
	Silent
)

// Fake is a Host in memory, with its methods, for tests and simulation: one node
// whose elections and mishaps its user decides. A new one on the Disk of an old
// one is a restart: what a state machine has not made durable is replayed to it.
//
// A shard's entries are applied by the goroutine that proposes them, one at a
// time in log order. A Fake starts no goroutine but the one behind Changes.
type Fake struct {
	node    model.NodeID
	disk    *Disk
	changes *mailbox

	mu     sync.Mutex
	shards map[model.ShardID]*fakeShard
	fate   func(shard model.ShardID, cmd []byte) Fate
	closed bool
}

// Disk is what survives a Fake: the logs of its shards.
type Disk struct {
	mu   sync.Mutex
	logs map[model.ShardID]*fakeLog
}

// NewDisk gives an empty one.
func NewDisk() *Disk { return &Disk{logs: map[model.ShardID]*fakeLog{}} }

// fakeLog is one shard's: entries behind what was forgotten. Owned by the Fake
// that runs on the disk, under its shard's mu.
type fakeLog struct {
	forgotten uint64 // entries at or below are gone
	entries   []Entry
	term      model.LeaderEpoch
	snapshot  []byte // the controller's, at forgotten
	installed bool   // its machine may be ahead of it
}

func (l *fakeLog) last() uint64 { return l.forgotten + uint64(len(l.entries)) }

func (l *fakeLog) append(cmd []byte) Entry {
	e := Entry{Index: l.last() + 1, Cmd: cmd}
	l.entries = append(l.entries, e)
	return e
}

// fakeShard is a started replica. mu is held while it applies.
type fakeShard struct {
	mu         sync.Mutex
	log        *fakeLog
	partition  StateMachine
	controller ControllerMachine
	leader     model.NodeID
	ghosts     [][]byte
	stopped    bool
}

// NewFake opens a node on d. Shards have no leader until Elect.
func NewFake(node model.NodeID, d *Disk) *Fake {
	return &Fake{node: node, disk: d, changes: newMailbox(), shards: map[model.ShardID]*fakeShard{}}
}

// Decide sets what becomes of proposals from now on; nil takes all. It is called
// under no lock, by whoever proposes.
func (f *Fake) Decide(fate func(shard model.ShardID, cmd []byte) Fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fate = fate
}

// Changes is as of Host.
func (f *Fake) Changes() <-chan LeaderChange { return f.changes.out }

// StartPartition is as of Host: the machine is opened, and what it lacks replayed.
func (f *Fake) StartPartition(shard model.ShardID, _ []model.NodeID, m StateMachine) error {
	applied, err := m.Open(nil)
	if err != nil {
		return fmt.Errorf("start replica of shard %d: %w", shard, err)
	}
	s, err := f.add(shard, &fakeShard{partition: m})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	must(applied >= s.log.forgotten, "shard %d has applied %d, its log begins behind %d", shard, applied, s.log.forgotten)
	must(applied <= s.log.last() || s.log.installed, "shard %d has applied %d, its log ends at %d", shard, applied, s.log.last())
	missing := slices.DeleteFunc(slices.Clone(s.log.entries[min(applied, s.log.last())-s.log.forgotten:]), func(e Entry) bool { return len(e.Cmd) == 0 })
	if len(missing) == 0 {
		return nil
	}
	return m.Apply(missing)
}

// StartController is as of Host.
func (f *Fake) StartController(_ Replica, m ControllerMachine) error {
	s, err := f.add(ControllerShard, &fakeShard{controller: m})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log.snapshot != nil {
		if err := m.Restore(bytes.Clone(s.log.snapshot)); err != nil {
			return err
		}
	}
	for _, e := range s.log.entries {
		s.apply(e)
	}
	return nil
}

func (f *Fake) add(shard model.ShardID, s *fakeShard) (*fakeShard, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("start replica of shard %d: %w", shard, ErrStopped)
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.logs[shard] == nil {
		f.disk.logs[shard] = &fakeLog{}
	}
	s.log, s.leader = f.disk.logs[shard], model.NoNode
	f.shards[shard] = s
	return s, nil
}

// shard finds a started replica.
func (f *Fake) shard(id model.ShardID) (*fakeShard, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("shard %d: %w", id, ErrStopped)
	}
	s := f.shards[id]
	if s == nil {
		return nil, fmt.Errorf("shard %d: %w", id, ErrClosed)
	}
	return s, nil
}

// Elect makes a node the leader of a shard, under a new term; NoNode: nobody.
func (f *Fake) Elect(shard model.ShardID, leader model.NodeID) LeaderChange {
	s, err := f.shard(shard)
	must(err == nil, "elect: %v", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.term++
	s.leader = leader
	s.log.append(nil) // a new leader's own entry: it takes an index, and no machine sees it
	c := LeaderChange{Shard: shard, Leader: leader, Term: s.log.term}
	f.changes.put(c)
	return c
}

// Foreign puts a command into the log that another node has proposed.
func (f *Fake) Foreign(shard model.ShardID, cmd []byte) {
	s, err := f.shard(shard)
	must(err == nil, "foreign command: %v", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(s.log.append(cmd))
}

// Release lets the ghosts of a shard into the log and tells how many there were.
func (f *Fake) Release(shard model.ShardID) int {
	s, err := f.shard(shard)
	must(err == nil, "release ghosts: %v", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	ghosts := s.ghosts
	s.ghosts = nil
	for _, cmd := range ghosts {
		s.apply(s.log.append(cmd))
	}
	return len(ghosts)
}

// apply hands one entry to the machine, as dragonboat does: empty ones are its own.
func (s *fakeShard) apply(e Entry) (result []byte) {
	switch {
	case len(e.Cmd) == 0:
	case s.controller != nil:
		return s.controller.Apply(e.Index, e.Cmd)
	case s.partition != nil:
		err := s.partition.Apply([]Entry{e})
		must(err == nil, "state machine failed at entry %d: %v", e.Index, err)
	}
	return nil
}

// Propose is as of Host.
func (f *Fake) Propose(shard model.ShardID, cmd []byte, _ time.Duration) (*Proposal, error) {
	s, err := f.shard(shard)
	if err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	f.mu.Lock()
	decide := f.fate
	f.mu.Unlock()
	fate := Taken
	if decide != nil {
		fate = decide(shard, cmd)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(cmd) > inMemLogBytesMax:
		return nil, fmt.Errorf("propose to shard %d: %w", shard, ErrTooLarge)
	case s.stopped:
		return nil, fmt.Errorf("propose to shard %d: %w", shard, ErrClosed)
	case fate == Busy:
		return nil, fmt.Errorf("propose to shard %d: %w", shard, ErrBusy)
	}
	return &Proposal{fake: s.propose(fate, bytes.Clone(cmd))}, nil
}

// propose gives the verdict, which is there at once, or never.
func (s *fakeShard) propose(fate Fate, cmd []byte) chan verdict {
	v := verdict{}
	switch {
	case s.leader == model.NoNode, fate == Dropped:
		v.err = ErrDropped
	case fate == Lost:
		v.err = ErrUnknown
	case fate == Silent:
		return make(chan verdict)
	case fate == Late:
		s.ghosts = append(s.ghosts, cmd)
		v.err = ErrUnknown
	default: // a follower forwards it silently
		v.result = s.apply(s.log.append(cmd))
		if fate == Deaf {
			v = verdict{err: ErrUnknown}
		}
	}
	answer := make(chan verdict, 1)
	answer <- v
	return answer
}

// ProposeController is as of Host.
func (f *Fake) ProposeController(ctx context.Context, cmd []byte) ([]byte, error) {
	return proposeController(ctx, f, cmd)
}

// Barrier is as of Host: everything committed is applied here already.
func (f *Fake) Barrier(ctx context.Context, shard model.ShardID) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read barrier of shard %d: %w", shard, err)
	}
	s, err := f.shard(shard)
	if err != nil {
		return fmt.Errorf("read barrier: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == model.NoNode {
		return fmt.Errorf("read barrier of shard %d: %w", shard, ErrDropped)
	}
	return nil
}

// Leader is as of Host.
func (f *Fake) Leader(shard model.ShardID) (LeaderChange, bool) {
	none := LeaderChange{Shard: shard, Leader: model.NoNode}
	s, err := f.shard(shard)
	if err != nil {
		return none, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == model.NoNode {
		return none, false
	}
	return LeaderChange{Shard: shard, Leader: s.leader, Term: s.log.term}, true
}

// Snapshot is as of Host: the machine syncs first.
func (f *Fake) Snapshot(_ context.Context, shard model.ShardID, through uint64) error {
	s, err := f.shard(shard)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partition != nil {
		if err := s.partition.Sync(); err != nil {
			return fmt.Errorf("snapshot of shard %d: %w", shard, err)
		}
	}
	if s.controller != nil {
		through = s.log.last()
		if s.log.snapshot, err = s.controller.Snapshot(); err != nil {
			return fmt.Errorf("snapshot of the controller: %w", err)
		}
	}
	if through = min(through, s.log.last()); through > s.log.forgotten {
		s.log.entries = slices.Clone(s.log.entries[through-s.log.forgotten:])
		s.log.forgotten = through
	}
	return nil
}

// Stop is as of Host: what it has not answered is unknown for ever.
func (f *Fake) Stop(shard model.ShardID) error {
	s, err := f.shard(shard)
	if err != nil {
		return nil
	}
	f.mu.Lock()
	delete(f.shards, shard)
	f.mu.Unlock()
	return s.stop()
}

func (s *fakeShard) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped, s.ghosts = true, nil
	if s.partition != nil {
		return s.partition.Close()
	}
	return nil
}

// Remove is as of Host.
func (f *Fake) Remove(shard model.ShardID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shards[shard] != nil {
		return fmt.Errorf("remove the log of shard %d: it is running", shard)
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	delete(f.disk.logs, shard)
	return nil
}

// Logs is as of Host.
func (f *Fake) Logs() []model.ShardID {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return slices.Sorted(maps.Keys(f.disk.logs))
}

// Close is as of Host.
func (f *Fake) Close() {
	f.mu.Lock()
	shards := f.shards
	f.shards, f.closed = map[model.ShardID]*fakeShard{}, true
	f.mu.Unlock()
	for _, s := range shards {
		_ = s.stop() // machines close without an error: see StateMachine
	}
	f.changes.close()
}
