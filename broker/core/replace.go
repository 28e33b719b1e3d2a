package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// errNoPeers is what a node without peers answers to what needs them.
var errNoPeers = errors.New("this node neither gives nor takes partitions")

// Note says what a replica that lacks what the log has forgotten is told: see raft's
// StateMachine.
func (h *Handle) Note() ([]byte, error) {
	note := h.core.set.o.Note
	if note == nil {
		return nil, errNoPeers
	}
	applied, err := h.Open(nil)
	if err != nil {
		return nil, err
	}
	return note(h, applied), nil
}

// Recover brings the partition to where a note says: see raft's StateMachine.
func (h *Handle) Recover(note []byte, stop <-chan struct{}) error {
	if h.core.set.o.Recover == nil {
		return errNoPeers
	}
	h.recovering.Store(true) // who reads from this replica would wait for as long
	defer h.recovering.Store(false)
	return h.core.set.o.Recover(h, note, stop)
}

// Installed is the raft index up to which the partition came from another node.
func (h *Handle) Installed(ctx context.Context) (uint64, error) {
	var index uint64
	err := h.Query(ctx, func(p *partition.Partition) { index = p.Installed() })
	return index, err
}

// Export pins the partition as it is, for another node. Release it.
func (h *Handle) Export(ctx context.Context) (*partition.Export, error) {
	var x *partition.Export
	var failed error
	if err := h.Query(ctx, func(p *partition.Partition) { x, failed = p.Export() }); err != nil {
		return nil, err
	}
	return x, failed
}

// Files is how the partition is opened, with the configuration that it has now.
func (h *Handle) Files() partition.Options {
	o := h.files
	if t := h.Config(); t != nil {
		o.Config = PartitionConfig(t)
	}
	return o
}

// Replace has swap put other files in the partition's directory and goes on with
// those, under the same Handle. Who asks meanwhile is told ErrNotLeader. Nothing is
// applied until it returns. An error stops the node, unless the loop has ended: there
// is nothing to go on with.
func (h *Handle) Replace(swap func() error) error {
	detach := &detachEvent{shard: h.Shard, reply: make(chan error, 1)}
	if !h.core.send(detach) {
		return ErrClosed
	}
	if err, ok := await(h.core, detach.reply); !ok || err != nil {
		return errors.Join(ErrClosed, err)
	}
	err := swap()
	var part *partition.Partition
	if err == nil {
		part, err = partition.Open(h.Files())
	}
	if err != nil {
		err = fmt.Errorf("replace partition %s-%d: %w", h.Topic, h.ID.Index, err)
		h.core.set.o.Fatal(err)
		return err
	}
	attach := &attachEvent{h: h, part: part, reply: make(chan error, 1)}
	if h.core.send(attach) {
		if err, ok := await(h.core, attach.reply); ok {
			return err
		}
	}
	part.Abandon()
	return ErrClosed
}

// detachEvent takes a partition from its loop for Replace.
type detachEvent struct {
	shard model.ShardID
	reply chan error
}

// step is dropEvent's, but for what the files' new owner may do to them.
func (e *detachEvent) step(c *Core) {
	r := c.replicas[e.shard]
	switch {
	case r == nil:
		e.reply <- ErrUnknownPartition
		return
	case r.flushing || r.compacting:
		r.leaving = e
		return
	case r.failed:
		e.reply <- ErrClosed
		return
	}
	c.release(r, r.part.Retire)
	c.away[e.shard] = struct{}{}
	e.reply <- nil
}

// attachEvent gives a partition back to its loop.
type attachEvent struct {
	h     *Handle
	part  *partition.Partition
	reply chan error
}

func (e *attachEvent) step(c *Core) {
	delete(c.away, e.h.Shard)
	(&addEvent{h: e.h, part: e.part}).step(c)
	if t := e.h.Config(); t != nil { // it may have changed since the partition was opened
		e.part.Configure(PartitionConfig(t))
	}
	// What raft has told meanwhile went unheard.
	if epoch := model.LeaderEpoch(e.h.leading.Load()); epoch != model.NoEpoch {
		(&leadEvent{shard: e.h.Shard, leads: true, epoch: epoch}).step(c)
	}
	e.reply <- nil
}

// missing is what is said of a partition that the loop does not have.
func (c *Core) missing(shard model.ShardID) error {
	if _, away := c.away[shard]; away {
		return ErrNotLeader
	}
	return ErrUnknownPartition
}
