package raft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/millrace-io/millrace/broker/journal"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// ControllerShard is the Raft group that holds the cluster's metadata.
const ControllerShard model.ShardID = 1

const (
	// engineShards fixes ExecShards and ApplyShards in the format for ever.
	engineShards = 16
	// Timeouts are in ticks. Every tick wakes every replica: 4,096 of them take 14 % of
	// a core at 200 ms.
	//
	// A lone replica waits for its own election timeout, 1.2 to 2.4 s, only where
	// hurry has failed.
	electionTicksAlone, heartbeatTicksAlone = 3, 1
	// With peers 4 ticks are 1.6 to 3.2 s, enough for a stalled disk.
	electionTicks, heartbeatTicks = 4, 1
	// controllerSnapshotEntries is how many metadata commands a start replays at most.
	controllerSnapshotEntries = 1000
	// inMemLogBytesMax bounds what one partition holds in Raft's memory.
	inMemLogBytesMax = 64 << 20
	// journalDir lies in Options.Dir.
	journalDir = "journal"
	// commandOverhead is what the library may add to a command, in bytes.
	commandOverhead = 64
	// otherLog is what dragonboat says of a directory that another log was used in;
	// the error itself is in a package of its own.
	otherLog = "logdb type changed"
)

// Options says where a Host keeps its log and whom it talks to.
type Options struct {
	// Dir is the directory of the Raft log, made if missing.
	Dir string
	// Node is this node's id.
	Node model.NodeID
	// Deployment is the same on all nodes of a cluster: nothing is taken from others.
	// It is part of the directory's format; 0 is a node alone.
	Deployment uint64
	// Lost are nodes that were given up: what one of them says is not taken, should it
	// come back.
	Lost []model.NodeID
	// Listen and Advertise are HOST:PORT of node-to-node traffic.
	Listen, Advertise string
	// JournalFileBytes and JournalBytesMax are the size of one of the log's files,
	// and of all of them.
	JournalFileBytes, JournalBytesMax int64
	// Fatal is told when the log cannot be written or synced. It must end the process.
	Fatal func(error)
	// Pinned, if set, is told which partition's log keeps old files from being used
	// again: it should be flushed, then Snapshot called. It must not wait.
	Pinned func(model.ShardID)
	// Synced, if set, is told of every write to the log, with its sync; it must be quick.
	Synced func(bytes int, took time.Duration)
	// TLS secures node-to-node traffic; nil is plaintext.
	TLS transport.TLS
	// Network carries it; nil is the operating system's.
	Network transport.Network
	// Answer does what another node calls for, as transport.Options.Answer; nil
	// refuses every call. It may be called before Open has returned.
	Answer func(ctx context.Context, from model.NodeID, m Method, body []byte) ([]byte, error)
	// Called, if set, is told of every call that this node made; it must be quick.
	Called func(m Method, took time.Duration, err error)
	Log    *slog.Logger
}

// LeaderChange says who leads a shard now, as this node knows it.
type LeaderChange struct {
	Shard model.ShardID
	// Leader is NoNode while there is none.
	Leader model.NodeID
	// Term is the Raft term: a partition's leader epoch.
	Term model.LeaderEpoch
}

// Host is this node's share of every Raft group. Its methods may be called
// from any goroutine.
type Host struct {
	node       model.NodeID
	options    Options
	hosts      [hostsMax]atomic.Pointer[dragonboat.NodeHost]
	ears       [hostsMax]atomic.Pointer[ear]
	caller     atomic.Pointer[transport.Transport] // the first NodeHost's
	registry   *registry
	traffic    *transport.Traffic
	log        *slog.Logger
	changes    *mailbox
	barriers   barriers
	journal    *journal.Journal
	births     births
	left       left
	machines   sync.Map // by shard, of partitions: closed behind the last call of the machine
	acks       *acks
	doubts     doubts
	reigns     reigns
	recovering recovering
	closing    chan struct{}
	once       sync.Once
	// openMu is held to deliver, to open a NodeHost, and to close.
	openMu sync.RWMutex
	closed bool
	// commandMax is the largest command that is taken, in bytes.
	commandMax int
}

// Open starts the Raft log in o.Dir and listens for peers. It starts no replica.
func Open(o Options) (*Host, error) {
	h := &Host{
		node: o.Node, options: o, registry: newRegistry(), traffic: transport.NewTraffic(), log: o.Log, changes: newMailbox(), acks: newAcks(), closing: make(chan struct{}),
		commandMax: min(inMemLogBytesMax, journal.EntryBytesMax(o.JournalFileBytes)-commandOverhead),
	}
	h.registry.setAddress(o.Node, o.Advertise)
	if _, err := h.openHost(0); err != nil {
		h.changes.close() // the library has closed the journal
		return nil, err
	}
	if err := h.findReplicas(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// SetAddress tells where a node can be reached now.
func (h *Host) SetAddress(node model.NodeID, address string) { h.registry.setAddress(node, address) }

// Changes delivers every leader change, in order, to its one reader. It is
// closed by Close.
func (h *Host) Changes() <-chan LeaderChange { return h.changes.out }

// StartPartition starts this node's replica of a partition's shard. members are
// all nodes that hold one; they matter only at the very first start.
func (h *Host) StartPartition(shard model.ShardID, members []model.NodeID, m StateMachine) error {
	return h.StartReplica(Replica{Shard: shard, Members: members}, m)
}

// started hurries a replica that has no peers, and the first of a group that is new:
// nobody leads it yet.
func (h *Host) started(shard model.ShardID, members []model.NodeID, fresh bool) {
	if len(members) == 1 || fresh && members[0] == h.node {
		go h.hurry(shard)
	}
}

// StartController starts this node's replica of the controller's shard; r.Shard is
// ControllerShard.
func (h *Host) StartController(r Replica, m ControllerMachine) error {
	if err := h.startController(r, m); err != nil {
		return fmt.Errorf("start replica of the controller: %w", err)
	}
	return nil
}

func (h *Host) startController(r Replica, m ControllerMachine) error {
	if err := h.claim(r); err != nil {
		return err
	}
	if err := h.Damaged(ControllerShard); err != nil {
		return err
	}
	n, err := h.home(ControllerShard)
	if err != nil {
		return err
	}
	c := h.config(ControllerShard, len(r.Members))
	c.SnapshotEntries, c.CompactionOverhead = controllerSnapshotEntries, controllerSnapshotEntries/2
	initial := h.initial(ControllerShard, r.Members)
	joins := r.Joins && initial != nil
	if r.Joins {
		initial = nil
		if c.IsNonVoting, err = h.startsAsLearner(r); err != nil {
			return err
		}
	}
	create := func(uint64, uint64) sm.IStateMachine { return memoryMachine{machine: m} }
	if err := n.StartReplica(initial, joins, create, c); err != nil {
		return err
	}
	h.started(ControllerShard, r.Members, initial != nil)
	return nil
}

// HasLog tells whether this node has a log of shard.
func (h *Host) HasLog(shard model.ShardID) bool {
	return h.hosts[0].Load().HasNodeInfo(uint64(shard), h.own(shard))
}

// initial is empty once the replica has been bootstrapped: its log knows better.
func (h *Host) initial(shard model.ShardID, members []model.NodeID) map[uint64]dragonboat.Target {
	if h.HasLog(shard) {
		return nil
	}
	initial := make(map[uint64]dragonboat.Target, len(members))
	for _, n := range members {
		initial[replicaID(n, 0)] = target(n)
	}
	return initial
}

func (h *Host) config(shard model.ShardID, members int) config.Config {
	c := config.Config{
		ShardID: uint64(shard), ReplicaID: h.own(shard),
		CheckQuorum: true, PreVote: true, OrderedConfigChange: true,
		ElectionRTT: electionTicks, HeartbeatRTT: heartbeatTicks,
		MaxInMemLogSize: inMemLogBytesMax,
		WaitReady:       false,
	}
	if members == 1 {
		c.ElectionRTT, c.HeartbeatRTT = electionTicksAlone, heartbeatTicksAlone
	}
	return c
}

// Stop ends this node's replica of shard; its log stays. When it returns nobody calls the
// replica's machine any more.
func (h *Host) Stop(shard model.ShardID) error {
	n, err := h.of(shard)
	if err == nil {
		err = n.StopReplica(uint64(shard), h.own(shard))
		h.left.note(shard, errors.Is(err, dragonboat.ErrShardNotFound))
	}
	switch {
	case err == nil, errors.Is(err, dragonboat.ErrShardNotFound):
		return h.awaitMachine(shard)
	case errors.Is(err, dragonboat.ErrClosed):
		err = ErrStopped
	}
	return fmt.Errorf("stop replica of shard %d: %w", shard, err)
}

func (h *Host) awaitMachine(shard model.ShardID) error {
	closed, ok := h.machines.Load(shard)
	if !ok {
		return nil
	}
	t := time.NewTimer(removeWaitMax)
	defer t.Stop()
	select {
	case <-closed.(chan struct{}):
		h.machines.CompareAndDelete(shard, closed)
		return nil
	case <-t.C:
		return fmt.Errorf("stop replica of shard %d: its machine is still in use after %v", shard, removeWaitMax)
	}
}

// Logs lists the shards that this node has a log of, started or not.
func (h *Host) Logs() []model.ShardID {
	info := h.hosts[0].Load().GetNodeHostInfo(dragonboat.DefaultNodeHostInfoOption)
	if info == nil {
		return nil // closed
	}
	var shards []model.ShardID
	for _, i := range info.LogInfo {
		if replicaNode(i.ReplicaID) == h.node {
			shards = append(shards, model.ShardID(i.ShardID))
		}
	}
	return shards
}

// removeWaitMax bounds the wait for a stopped replica's goroutines, which is looked
// for every removeRetry.
const removeWaitMax, removeRetry = 10 * time.Second, 10 * time.Millisecond

// Remove deletes the log of a replica that Stop has ended.
func (h *Host) Remove(shard model.ShardID) error {
	n, err := h.home(shard)
	if err != nil {
		return fmt.Errorf("remove the log of shard %d: %w", shard, err)
	}
	deadline := time.Now().Add(removeWaitMax)
	for {
		err := n.RemoveData(uint64(shard), h.own(shard))
		switch {
		case err == nil:
			h.births.forget(shard)
			h.left.note(shard, false)
			h.acks.forget(uint64(shard))
			h.reigns.forget(uint64(shard))
			return nil
		case errors.Is(err, dragonboat.ErrClosed):
			return fmt.Errorf("remove the log of shard %d: %w", shard, ErrStopped)
		case !errors.Is(err, dragonboat.ErrShardNotStopped) || time.Now().After(deadline):
			return fmt.Errorf("remove the log of shard %d: %w", shard, err)
		}
		time.Sleep(removeRetry)
	}
}

// Close stops every replica and closes the log.
func (h *Host) Close() {
	h.once.Do(func() { close(h.closing) })
	h.openMu.Lock()
	h.closed = true
	h.openMu.Unlock()
	h.closeHosts()
	h.changes.close()
}

// mailbox is an unbounded queue between dragonboat's event goroutine, which
// must not wait, and the reader of out. It holds one change per shard at most
// in the long run: the reader is a loop that only updates maps.
type mailbox struct {
	mu    sync.Mutex
	queue []LeaderChange
	wake  chan struct{}
	stop  chan struct{}
	out   chan LeaderChange
	once  sync.Once
}

func newMailbox() *mailbox {
	m := &mailbox{wake: make(chan struct{}, 1), stop: make(chan struct{}), out: make(chan LeaderChange)}
	go m.run()
	return m
}

// listener hears the library's events. It must not wait.
type listener struct{ h *Host }

// LeaderUpdated is part of raftio.IRaftEventListener.
func (l listener) LeaderUpdated(i raftio.LeaderInfo) {
	if l.h.reigns.note(i) {
		time.AfterFunc(abdicateGather, l.h.abdicate)
	}
	c := LeaderChange{Shard: model.ShardID(i.ShardID), Leader: model.NoNode, Term: model.LeaderEpoch(i.Term)}
	if i.LeaderID != 0 {
		c.Leader = replicaNode(i.LeaderID)
	}
	l.h.changes.put(c)
}

func (m *mailbox) put(c LeaderChange) {
	m.mu.Lock()
	m.queue = append(m.queue, c)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []LeaderChange {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue
	m.queue = nil
	return q
}

func (m *mailbox) run() {
	defer close(m.out)
	for {
		for _, c := range m.take() {
			select {
			case m.out <- c:
			case <-m.stop:
				return
			}
		}
		select {
		case <-m.wake:
		case <-m.stop:
			return
		}
	}
}

func (m *mailbox) close() { m.once.Do(func() { close(m.stop) }) }
