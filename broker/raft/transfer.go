package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/millrace-io/millrace/broker/model"
)

// The library tells whoever is to lead but once, and it lets the chance go while it
// has committed entries to apply, as it nearly always has under load. The leader then
// drops proposals for an election timeout, for nothing. So it also calls that node,
// which tells its own replica again until it leads: see hurry.go.
const (
	// takeOverFirst doubles each time; takeOverTries take less than an election timeout.
	takeOverFirst, takeOverTries = 2 * time.Millisecond, 9
	// takeOverBytes are a shard and the index up to which its log must be there.
	takeOverBytes = 16
	// takeOverWait bounds the call.
	takeOverWait = time.Second
)

// Transfer has another node lead a shard that this one leads. Until that one has all
// of the log, for an election timeout at most, proposals are dropped. It does not
// wait: whether it came to that is told by Changes.
func (h *Host) Transfer(shard model.ShardID, to model.NodeID) error {
	n, err := h.of(shard)
	if err == nil {
		id, ok := h.registry.newest(uint64(shard), to)
		if !ok {
			return fmt.Errorf("transfer the leadership of shard %d: node %d has no replica that is known", shard, to)
		}
		err = n.RequestLeaderTransfer(uint64(shard), id)
	}
	var last uint64
	if err == nil {
		_, last, err = logRange(n, shard)
	}
	if err != nil {
		return fmt.Errorf("transfer the leadership of shard %d to node %d: %w", shard, to, refused(err))
	}
	body := appendTakeOver(nil, shard, last)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), takeOverWait)
		defer cancel()
		if _, err := h.Call(ctx, to, methodTakeOver, body); err != nil {
			h.log.Debug("not told to take over", "shard", shard, "node", to, "err", err)
		}
	}()
	return nil
}

// takeOver answers methodTakeOver: this node is to lead shards instead of the one that asks.
func (h *Host) takeOver(from model.NodeID, body []byte) (failed error) {
	if len(body) == 0 || len(body)%takeOverBytes != 0 {
		return fmt.Errorf("%d bytes say what is to be taken over, not a multiple of %d", len(body), takeOverBytes)
	}
	for b := range slices.Chunk(body, takeOverBytes) {
		shard, last := model.ShardID(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:])
		if _, err := h.of(shard); err != nil {
			failed = errors.Join(failed, fmt.Errorf("take over shard %d: %w", shard, refused(err)))
			continue
		}
		go h.insist(shard, last, from)
	}
	return failed
}

// insist tells a replica to campaign until it leads. Before it has the log that the
// leader had it could only depose that one, and not be elected. A leader whose disk
// stands still does not know that it was deposed, and must not depose its successor.
func (h *Host) insist(shard model.ShardID, last uint64, from model.NodeID) {
	pause := takeOverFirst
	t := time.NewTimer(pause)
	defer t.Stop()
	for range takeOverTries {
		select {
		case <-t.C:
		case <-h.closing:
			return
		}
		ours, err := h.logEnd(shard)
		if c, ok := h.Leader(shard); err != nil || ok && c.Leader != from {
			return
		}
		if ours.index >= last && !h.timeOut(shard) {
			return
		}
		pause *= 2
		t.Reset(pause)
	}
}

// logRange gives the first and last index of a shard's log here.
func logRange(n *dragonboat.NodeHost, shard model.ShardID) (first, last uint64, err error) {
	r, err := n.GetLogReader(uint64(shard))
	if err != nil {
		return 0, 0, err
	}
	first, last = r.GetRange()
	return first, last, nil
}

// logEnd is the last entry of a log.
type logEnd struct {
	index, term uint64
	// voted is the newest term that the replica knows of.
	voted uint64
}

// logEnd gives the end of a shard's log here, also to who may outlive the host.
func (h *Host) logEnd(shard model.ShardID) (e logEnd, err error) {
	h.openMu.RLock() // the library does not stand it when it is closed
	defer h.openMu.RUnlock()
	if h.closed {
		return e, ErrStopped
	}
	n, err := h.of(shard)
	if err != nil {
		return e, err
	}
	r, err := n.GetLogReader(uint64(shard))
	if err != nil {
		return e, err
	}
	_, e.index = r.GetRange()
	state, _ := r.NodeState()
	e.voted = state.Term
	e.term, err = r.Term(e.index)
	return e, err
}
