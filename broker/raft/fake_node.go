package raft

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// FakeNode is a Host on a FakeNet, with its methods. Those that begin and end replicas,
// and Close, are the driver's; the others may be called from any goroutine.
type FakeNode struct {
	net     *FakeNet
	id      model.NodeID
	down    <-chan struct{}
	changes *mailbox

	// What follows is guarded by the net's mu.
	runs   map[model.ShardID]*fakeRun
	left   map[model.ShardID]bool // as of Host
	closed bool
	// following are the machines that follow a note, or did: closed at their end.
	following map[model.ShardID]chan struct{}
}

// fakeRun is a replica that was started. Guarded by the net's mu, but for the machines,
// which only the driver calls.
type fakeRun struct {
	node       *FakeNode
	shard      model.ShardID
	member     Member
	have       *fakeReplica
	partition  StateMachine
	controller ControllerMachine
	applied    uint64 // the machine has: it may be ahead of what follows after a start
	reached    uint64 // gone through since the start, with what it says of members
	knows      uint64 // committed, as this node has heard
	roster     *roster
	gone       bool // out of its group, as it knows: it has stopped
	leader     LeaderChange
	transfer   model.NodeID // is to lead instead, or NoNode
	busy       bool         // it takes no proposals
	inbox      []*fakeProposal
	sorted     int // of inbox, in order
	barriers   []*fakeBarrier
	snapshots  []*fakeSnapshot
	recovering bool
	stop       chan struct{} // closed when the replica ends
}

// fakeBarrier is a read barrier; index is what must be applied, 0 before a majority has
// told.
type fakeBarrier struct {
	index uint64
	done  chan error
}

type fakeSnapshot struct {
	through uint64
	done    chan error
}

// Open opens a node; what one of that id had on disk is there. Once down is closed its
// machines answer no more: the driver waits for them no longer, and should Close it.
func (n *FakeNet) Open(id model.NodeID, down <-chan struct{}) *FakeNode {
	n.mu.Lock()
	defer n.mu.Unlock()
	must(n.nodes[id] == nil, "node %d is open", id)
	o := &FakeNode{net: n, id: id, down: down, changes: newMailbox(), runs: map[model.ShardID]*fakeRun{}, left: map[model.ShardID]bool{}, following: map[model.ShardID]chan struct{}{}}
	n.nodes[id] = o
	return o
}

// ask has a machine do something, without the net's mu; false: the node is down.
func (o *FakeNode) ask(f func() error) bool {
	select {
	case <-o.down: // before: else it would be a draw whether f is heard
		return false
	default:
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		must(err == nil, "a state machine of node %d failed: %v", o.id, err)
		return true
	case <-o.down:
		return false
	}
}

// Changes is as of Host.
func (o *FakeNode) Changes() <-chan LeaderChange { return o.changes.out }

// StartPartition is as of Host: what the machine lacks is replayed to it in time.
func (o *FakeNode) StartPartition(shard model.ShardID, members []model.NodeID, m StateMachine) error {
	return o.StartReplica(Replica{Shard: shard, Members: members}, m)
}

// StartReplica is as of Host.
func (o *FakeNode) StartReplica(of Replica, m StateMachine) error {
	applied, err := m.Open(nil)
	if err == nil {
		err = o.startReplica(of, m, applied)
	}
	if err != nil {
		return fmt.Errorf("start replica of shard %d: %w", of.Shard, err)
	}
	return nil
}

func (o *FakeNode) startReplica(of Replica, m StateMachine, applied uint64) error {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	if _, held := o.birth(of.Shard); !held && applied > 0 {
		return fmt.Errorf("%w: it is gone, and entry %d was applied already", ErrLogDamaged, applied)
	}
	r, err := o.start(of)
	if err != nil {
		return err
	}
	g := o.net.groups[of.Shard]
	needs := g.lastCommand(r.have.forgotten)
	if applied < needs && r.have.note == nil {
		delete(o.runs, of.Shard)
		return fmt.Errorf("%w: it stands at entry %d, the log begins behind %d", ErrMachineBehind, applied, needs)
	}
	r.partition, r.applied = m, max(applied, r.have.forgotten)
	if applied < needs {
		r.recover(g)
	} else {
		r.have.note = nil
	}
	if applied < r.have.has {
		o.net.saw("replayed")
	}
	return nil
}

// StartController is as of Host.
func (o *FakeNode) StartController(of Replica, m ControllerMachine) error {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	r, err := o.start(of)
	if err != nil {
		return fmt.Errorf("start replica of the controller: %w", err)
	}
	r.controller = m
	if r.have.snapshot == nil {
		return nil
	}
	return m.Restore(bytes.Clone(r.have.snapshot))
}

// start begins with what the node has of a group, or makes it.
func (o *FakeNode) start(of Replica) (*fakeRun, error) {
	m := Member{Node: o.id, Birth: of.Birth}
	if have, held := o.birth(of.Shard); held && have != of.Birth {
		return nil, fmt.Errorf("%w: of birth %d, asked for %d", ErrOtherReplica, have, of.Birth)
	}
	g := o.net.groups[of.Shard]
	if g == nil {
		g = newFakeGroup(of.Shard)
		o.net.groups[of.Shard] = g
	}
	if !of.Joins && g.last() == 0 { // until then who joins waits: in vain, where the others have removed theirs
		g.found(of.Members)
	}
	if g.replicas[m] == nil {
		g.replicas[m] = &fakeReplica{}
		if !of.Joins {
			must(slices.Equal(slices.Sorted(slices.Values(of.Members)), g.founders), "node %d founds shard %d of %v, which %v founded", o.id, of.Shard, of.Members, g.founders)
			g.replicas[m].has = uint64(len(g.founders))
		}
	}
	r := &fakeRun{
		node: o, shard: of.Shard, member: m, have: g.replicas[m], transfer: model.NoNode,
		leader: LeaderChange{Shard: of.Shard, Leader: model.NoNode}, stop: make(chan struct{}),
	}
	r.follow(g, r.have.forgotten)
	if r.have.has > 0 {
		r.knows = max(r.knows, g.entries[r.have.has-1].floor)
	}
	if at := g.removal(m, r.have.forgotten, r.knows); o.left[of.Shard] && at > 0 {
		r.knows = at - 1
	}
	o.runs[of.Shard] = r
	return r, nil
}

// Birth is as of Host.
func (o *FakeNode) Birth(shard model.ShardID) (model.Birth, bool) {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	return o.birth(shard)
}

func (o *FakeNode) birth(shard model.ShardID) (model.Birth, bool) {
	g := o.net.groups[shard]
	if g == nil {
		return 0, false
	}
	m, have := g.held(o.id)
	return m.Birth, have != nil
}

// recover has the machine follow the note, in the background: it asks other nodes.
func (r *fakeRun) recover(g *fakeGroup) {
	r.recovering = true
	note := r.have.note
	ended := make(chan struct{})
	r.node.following[r.shard] = ended
	go func() {
		defer close(ended)
		err := r.partition.Recover(note, r.stop)
		applied, opened := uint64(0), error(nil)
		if err == nil {
			applied, opened = r.partition.Open(nil)
		}
		n := r.node.net
		n.mu.Lock()
		defer n.mu.Unlock()
		if err != nil || opened != nil || r.node.runs[r.shard] != r {
			return // it was stopped
		}
		needs := g.lastCommand(r.have.forgotten)
		must(applied >= needs, "shard %d recovered to %d, its note says %d", r.shard, applied, needs)
		r.have.note, r.recovering = nil, false
		r.follow(g, r.have.forgotten)
	}()
}

// run finds a started replica, under the net's mu.
func (o *FakeNode) run(shard model.ShardID) (*fakeRun, error) {
	if o.closed {
		return nil, fmt.Errorf("shard %d: %w", shard, ErrStopped)
	}
	r := o.runs[shard]
	if r == nil || r.gone {
		return nil, fmt.Errorf("shard %d: %w", shard, ErrClosed)
	}
	return r, nil
}

// Propose is as of Host.
func (o *FakeNode) Propose(shard model.ShardID, cmd []byte, _ time.Duration) (*Proposal, error) {
	if len(cmd) > inMemLogBytesMax {
		return nil, fmt.Errorf("propose to shard %d: %w", shard, ErrTooLarge)
	}
	p := &fakeProposal{node: o, shard: shard, cmd: bytes.Clone(cmd), answer: make(chan verdict, 1)}
	if err := o.put(p); err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	return &Proposal{fake: p.answer}, nil
}

func (o *FakeNode) put(p *fakeProposal) error {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	r, err := o.run(p.shard)
	if err != nil {
		return err
	}
	if r.busy {
		o.net.saw("busy")
		return fmt.Errorf("shard %d: %w", p.shard, ErrBusy)
	}
	r.inbox = append(r.inbox, p)
	return nil
}

// ProposeController is as of Host.
func (o *FakeNode) ProposeController(ctx context.Context, cmd []byte) ([]byte, error) {
	return proposeController(ctx, o, cmd)
}

// Barrier is as of Host.
func (o *FakeNode) Barrier(ctx context.Context, shard model.ShardID) error {
	b := &fakeBarrier{done: make(chan error, 1)}
	o.net.mu.Lock()
	r, err := o.run(shard)
	if err == nil {
		r.barriers = append(r.barriers, b)
	}
	o.net.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read barrier: %w", err)
	}
	select {
	case err := <-b.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("read barrier of shard %d: %w", shard, ctx.Err())
	}
}

// Snapshot is as of Host: the machine syncs first.
func (o *FakeNode) Snapshot(ctx context.Context, shard model.ShardID, through uint64) error {
	s := &fakeSnapshot{through: through, done: make(chan error, 1)}
	o.net.mu.Lock()
	r, err := o.run(shard)
	if err == nil {
		r.snapshots = append(r.snapshots, s)
	}
	o.net.mu.Unlock()
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("snapshot of shard %d: %w", shard, ctx.Err())
	}
}

// Leader is as of Host.
func (o *FakeNode) Leader(shard model.ShardID) (LeaderChange, bool) {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	r, err := o.run(shard)
	if err != nil || r.leader.Leader == model.NoNode {
		return LeaderChange{Shard: shard, Leader: model.NoNode}, false
	}
	return r.leader, true
}

// Logs is as of Host.
func (o *FakeNode) Logs() []model.ShardID {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	var shards []model.ShardID
	for _, s := range slices.Sorted(maps.Keys(o.net.groups)) {
		if _, held := o.birth(s); held {
			shards = append(shards, s)
		}
	}
	return shards
}

// Stop is as of Host: what it has not answered is unknown for ever.
func (o *FakeNode) Stop(shard model.ShardID) error {
	o.net.mu.Lock()
	r := o.runs[shard]
	if r == nil {
		o.net.mu.Unlock()
		return nil
	}
	o.end(r)
	o.net.mu.Unlock()
	if r.partition != nil {
		return r.partition.Close()
	}
	return nil
}

func (o *FakeNode) end(r *fakeRun) {
	delete(o.runs, r.shard)
	o.left[r.shard] = r.gone
	if !r.gone {
		o.silence(r)
	}
}

// silence ends what a replica was asked for, and its part in the group.
func (o *FakeNode) silence(r *fakeRun) {
	close(r.stop)
	for _, p := range r.inbox {
		p.tell(verdict{err: ErrUnknown})
	}
	for _, p := range append(slices.Clone(o.net.flying), o.net.lost...) {
		if p.node == o && p.shard == r.shard {
			p.tell(verdict{err: ErrUnknown})
		}
	}
	for _, b := range r.barriers {
		b.done <- fmt.Errorf("read barrier of shard %d: %w", r.shard, ErrClosed)
	}
	for _, s := range r.snapshots {
		s.done <- fmt.Errorf("snapshot of shard %d: %w", r.shard, ErrClosed)
	}
	r.inbox, r.barriers, r.snapshots = nil, nil, nil
	o.net.crashed(o.id, r.shard)
}

// Remove is as of Host: it waits for a machine that still follows a note. With the last
// replica's the group's log is gone.
func (o *FakeNode) Remove(shard model.ShardID) error {
	o.net.mu.Lock()
	ended := o.following[shard]
	o.net.mu.Unlock()
	if ended != nil {
		select {
		case <-ended:
		case <-o.down:
		}
	}
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	if o.runs[shard] != nil {
		return fmt.Errorf("remove the log of shard %d: it is running", shard)
	}
	g := o.net.groups[shard]
	if g == nil {
		return nil
	}
	m, _ := g.held(o.id)
	delete(g.replicas, m)
	if len(g.replicas) == 0 {
		delete(o.net.groups, shard)
	}
	return nil
}

// Close is as of Host. It is what a crash does too: the log is on disk, all else is
// gone. A command that has left this node may still be applied by the others.
func (o *FakeNode) Close() {
	o.net.mu.Lock()
	if o.closed {
		o.net.mu.Unlock()
		return
	}
	o.closed = true
	var ended []*fakeRun
	for _, s := range slices.Sorted(maps.Keys(o.runs)) {
		ended = append(ended, o.runs[s])
		o.end(o.runs[s])
	}
	delete(o.net.nodes, o.id)
	o.net.mu.Unlock()
	for _, r := range ended {
		if r.partition != nil {
			_ = r.partition.Close() // machines close without an error: see StateMachine
		}
	}
	o.changes.close()
}
