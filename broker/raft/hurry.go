package raft

import (
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// A replica without peers need not wait for its election timeout: there is nobody
// to be in the way of. Nor need the first replica of a new group, which thereby leads
// it where the placement wants that. It is handed the message by which a leader gives its place
// away, which is, as the Raft paper has it, nothing but a clock that moved on.
// Before the replica has applied its own membership it does not listen.
const (
	hurryFirst = time.Millisecond
	// hurryTries double the pause each time: about half a second, in which peers will
	// have started theirs, then the timeout does what it always did.
	hurryTries = 9
)

// hurry makes a replica that was just started the leader of its group.
func (h *Host) hurry(shard model.ShardID) {
	pause := hurryFirst
	t := time.NewTimer(0)
	defer t.Stop()
	for range hurryTries {
		select {
		case <-t.C:
		case <-h.closing:
			return
		}
		if _, ok := h.Leader(shard); ok {
			return
		}
		if !h.timeOut(shard) {
			return
		}
		t.Reset(pause)
		pause *= 2
	}
}

func (h *Host) timeOut(shard model.ShardID) bool {
	return h.deliver(shard, pb.Message{Type: pb.TimeoutNow, From: h.own(shard)})
}

// deliver hands this node's replica of a shard a message, unless the host is closed: the
// library does not stand it then.
func (h *Host) deliver(shard model.ShardID, m pb.Message) bool {
	h.openMu.RLock()
	defer h.openMu.RUnlock()
	if h.closed {
		return false
	}
	m.To, m.ShardID = h.own(shard), uint64(shard)
	e := h.ears[hostOf(shard)].Load()
	e.messages(pb.MessageBatch{BinVer: raftio.TransportBinVersion, DeploymentId: e.deployment, Requests: []pb.Message{m}})
	return true
}
