package raft

import (
	"errors"
	"fmt"
	"sync"

	"github.com/lni/dragonboat/v4"
	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/millrace-io/millrace/broker/model"
)

// Replica is what a node is to hold of a shard. A node holds one at a time: that of an
// older birth must be removed before the next is started.
type Replica struct {
	Shard model.ShardID
	Birth model.Birth
	// Members are the nodes that hold one now. If Joins is false they form the group: it
	// is what a replica without log begins with.
	Members []model.NodeID
	// Joins: the group is there already, and what a replica without log is to hold comes
	// from its leader, once that has made it a member.
	Joins bool
	// Installed is the index at which the machine's files came from another node, 0: never.
	// It may be ahead of the log by then.
	Installed uint64
}

// births are those of the replicas that this node has, or is about to have. mu guards it.
type births struct {
	mu   sync.RWMutex
	byID map[model.ShardID]model.Birth
}

func (b *births) get(shard model.ShardID) (birth model.Birth, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	birth, ok = b.byID[shard]
	return birth, ok
}

func (b *births) set(shard model.ShardID, birth model.Birth) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byID == nil {
		b.byID = map[model.ShardID]model.Birth{}
	}
	b.byID[shard] = birth
}

func (b *births) forget(shard model.ShardID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byID, shard)
}

// own is the id of this node's replica of a shard.
func (h *Host) own(shard model.ShardID) uint64 {
	birth, _ := h.births.get(shard)
	return replicaID(h.node, birth)
}

// Birth gives that of this node's replica of a shard, started or not.
func (h *Host) Birth(shard model.ShardID) (model.Birth, bool) { return h.births.get(shard) }

// Running tells whether this node's replica of a shard goes on. One that hears that it is
// out of its group stops by itself, and votes no more; its log stays. Those who are left
// may not know for good that it is out, and wait for its vote: then it is to be stopped
// and started again.
func (h *Host) Running(shard model.ShardID) bool {
	n, err := h.of(shard)
	if err != nil {
		return false
	}
	_, _, _, err = n.GetLeaderID(uint64(shard))
	return !errors.Is(err, dragonboat.ErrShardNotFound)
}

// findReplicas learns from the log which replicas this node has.
func (h *Host) findReplicas() error {
	all, err := h.journal.ListNodeInfo()
	if err != nil {
		return fmt.Errorf("list the replicas of the raft log: %w", err)
	}
	for _, i := range all {
		shard, birth := model.ShardID(i.ShardID), replicaBirth(i.ReplicaID)
		if replicaNode(i.ReplicaID) != h.node {
			continue
		}
		other, twice := h.births.get(shard)
		must(!twice, "shard %d has logs of two replicas of this node, births %d and %d", shard, other, birth)
		h.births.set(shard, birth)
	}
	return nil
}

// ErrOtherReplica says that this node has an older replica of the shard. Remove it first.
var ErrOtherReplica = errors.New("another replica of the shard is on this node")

// StartReplica starts this node's replica of a partition's shard.
func (h *Host) StartReplica(r Replica, m StateMachine) error {
	if err := h.startReplica(r, m); err != nil {
		if errors.Is(err, dragonboat.ErrClosed) {
			err = ErrStopped
		}
		return fmt.Errorf("start replica of shard %d: %w", r.Shard, err)
	}
	return nil
}

func (h *Host) startReplica(r Replica, m StateMachine) error {
	if err := h.claim(r); err != nil {
		return err
	}
	err := h.launch(r, m)
	if err != nil && !h.HasLog(r.Shard) {
		h.births.forget(r.Shard)
	}
	return err
}

// claim notes which replica of a shard is this node's.
func (h *Host) claim(r Replica) error {
	if birth, ok := h.births.get(r.Shard); ok && birth != r.Birth {
		return fmt.Errorf("%w: of birth %d, asked for %d", ErrOtherReplica, birth, r.Birth)
	}
	h.births.set(r.Shard, r.Birth)
	return nil
}

func (h *Host) launch(r Replica, m StateMachine) error {
	if err := h.Damaged(r.Shard); err != nil {
		return err
	}
	if err := h.checkMachine(r.Shard, m); err != nil {
		return err
	}
	n, err := h.home(r.Shard)
	if err != nil {
		return err
	}
	if err := h.pad(&r, m); err != nil {
		return err
	}
	c := h.config(r.Shard, len(r.Members))
	initial := h.initial(r.Shard, r.Members)
	if applied, err := m.Open(nil); err != nil || initial != nil && applied > 0 { // the library would panic
		return errors.Join(err, fmt.Errorf("%w: it is gone, and entry %d was applied already", ErrLogDamaged, applied))
	}
	joins := r.Joins && initial != nil
	if r.Joins {
		initial = nil
		c.IsNonVoting, err = h.startsAsLearner(r)
	}
	if err != nil {
		return err
	}
	closed := make(chan struct{})
	create := func(uint64, uint64) sm.IOnDiskStateMachine {
		return &diskMachine{machine: m, shard: r.Shard, recovering: &h.recovering, closed: closed}
	}
	if err := n.StartOnDiskReplica(initial, joins, create, c); err != nil {
		return err
	}
	h.machines.Store(r.Shard, closed)
	h.started(r.Shard, r.Members, initial != nil)
	return nil
}

// startsAsLearner tells whether the library is to take a replica for a learner until its
// log says otherwise. Each of a later birth begins as one, and the library panics at a
// log that makes a learner of a voter; what the log has forgotten is in the snapshot. A
// learner answers candidates, so that one which the log has yet to make a voter
// keeps nobody from being elected.
func (h *Host) startsAsLearner(r Replica) (bool, error) {
	if r.Birth == 0 {
		return false, nil
	}
	id := replicaID(h.node, r.Birth)
	ss, err := h.journal.GetSnapshot(uint64(r.Shard), id)
	if err != nil {
		return false, err
	}
	_, voter := ss.Membership.Addresses[id]
	return !voter, nil
}
