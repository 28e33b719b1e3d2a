package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	// scrubRateMin is the least that scrubbing reads, in bytes a second: with little to
	// read it is done early, and rests.
	scrubRateMin = 256 << 10
	// scrubRest is the least pause between two passes.
	scrubRest = time.Second
)

// scrub reads every byte of every partition's files within scrub_period, over and over,
// partitions in an order drawn anew: a node that is restarted often gets to all of them.
func (s *Server) scrub(ctx context.Context) {
	for {
		began := time.Now()
		if err := s.scrubAll(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("scrubbing has ended early", "err", err)
		}
		if !pause(ctx, max(scrubRest, s.n.ScrubPeriod-time.Since(began))) {
			return
		}
	}
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) scrubAll(ctx context.Context) error {
	var handles []*core.Handle
	s.cores.Handles(func(h *core.Handle) bool {
		handles = append(handles, h)
		return true
	})
	var bytes int64
	for _, h := range handles {
		_ = h.Query(ctx, func(p *partition.Partition) { bytes += p.Bytes() }) // one that is gone has none
	}
	rate := max(scrubRateMin, int64(float64(bytes)/s.n.ScrubPeriod.Seconds()))
	rand.Shuffle(len(handles), func(i, j int) { handles[i], handles[j] = handles[j], handles[i] })
	var errs []error
	for _, h := range handles {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.scrubOne(ctx, h, rate); err != nil {
			errs = append(errs, fmt.Errorf("%s-%d: %w", h.Topic, h.ID.Index, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Server) scrubOne(ctx context.Context, h *core.Handle, rate int64) error {
	x, err := h.Export(ctx)
	if err != nil {
		return nil // it has left this node, or is being replaced
	}
	defer x.Release()
	return x.Scrub(func(bytes int) error {
		if !pause(ctx, time.Duration(bytes)*time.Second/time.Duration(rate)) {
			return ctx.Err()
		}
		return nil
	}, func(err error) { s.damaged(h, err) })
}

// damaged takes note of a range that cannot be read, and has it repaired where another
// node has it.
func (s *Server) damaged(h *core.Handle, err error) {
	s.damages.read(h, err)
	if p, ok := s.cluster.Metadata().Partition(h.ID); !ok || len(p.Holders()) < 2 || s.ctx.Err() != nil {
		return
	}
	s.repairMu.Lock()
	defer s.repairMu.Unlock()
	if s.repairing[h.ID] {
		return
	}
	s.repairing[h.ID] = true
	s.run(func(ctx context.Context) {
		defer func() {
			s.repairMu.Lock()
			defer s.repairMu.Unlock()
			delete(s.repairing, h.ID)
		}()
		if err := s.repair(ctx, h); err != nil && ctx.Err() == nil {
			s.log.Error("partition not repaired", "topic", h.Topic, "partition", h.ID.Index, "err", err)
		}
	})
}

const (
	// repairWait bounds each wait of a repair for others, repairCheck lies between looks.
	repairWait, repairCheck = 30 * time.Second, 50 * time.Millisecond
)

// repair takes a partition's files anew from another node. This node's replica stands
// still meanwhile; if it leads, another has to lead first.
func (s *Server) repair(ctx context.Context, h *core.Handle) error {
	s.log.Warn("partition is repaired from another node", "topic", h.Topic, "partition", h.ID.Index)
	leader, err := s.otherLeader(ctx, h)
	if err != nil {
		return err
	}
	gone, end := s.whileHeld(ctx, h)
	defer end()
	if err := s.raft.Stop(h.Shard); err != nil {
		return err
	}
	h.Led(false) // until it hears again
	if err := s.taker.Repair(h, h.Shard, leader, gone); err != nil {
		return err
	}
	s.damages.forget(h.ID)
	if err := s.rejoin(ctx, h); err != nil {
		return err
	}
	s.log.Info("partition repaired", "topic", h.Topic, "partition", h.ID.Index)
	return nil
}

// otherLeader waits until another node leads, giving it the leadership if need be.
func (s *Server) otherLeader(ctx context.Context, h *core.Handle) (model.NodeID, error) {
	var asked time.Time
	for deadline := time.Now().Add(repairWait); time.Now().Before(deadline); {
		p, ok := s.cluster.Metadata().Partition(h.ID)
		leader, _ := s.cluster.Leader(h.ID)
		_, serving := h.Serving()
		switch {
		case !ok:
			return model.NoNode, core.ErrUnknownPartition
		case !serving && leader != model.NoNode && leader != s.n.ID:
			return leader, nil
		case serving && time.Since(asked) > handOverAgain:
			asked = time.Now()
			if others := s.takers(p.Replicas, false); len(others) > 0 {
				if err := s.raft.Transfer(h.Shard, others[rand.IntN(len(others))]); err != nil {
					s.log.Debug("leadership not given away", "shard", h.Shard, "err", err)
				}
			}
		}
		if !pause(ctx, repairCheck) {
			return model.NoNode, ctx.Err()
		}
	}
	return model.NoNode, errors.New("no other node leads it: repair waits until it is read again")
}

// whileHeld gives what is closed when the partition leaves this node, or the node stops.
func (s *Server) whileHeld(ctx context.Context, h *core.Handle) (gone <-chan struct{}, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	changed, unwatch := s.cluster.Watch()
	go func() {
		defer unwatch()
		for {
			if p, ok := s.cluster.Metadata().Partition(h.ID); !ok || !s.replicas.seats.Runs(&p) {
				cancel()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx.Done(), cancel
}

// rejoin starts the Raft replica again. The library needs a moment to let go of the one
// before.
func (s *Server) rejoin(ctx context.Context, h *core.Handle) error {
	applied, err := h.Open(ctx.Done())
	if err != nil {
		return err
	}
	installed, err := h.Installed(ctx)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(repairWait); ; {
		p, ok := s.cluster.Metadata().Partition(h.ID)
		if !ok {
			return core.ErrUnknownPartition
		}
		birth, _ := s.raft.Birth(h.Shard)
		err := s.raft.StartReplica(move.Replica(&p, birth), h)
		if err == nil {
			return s.raft.CheckLog(h.Shard, applied, installed)
		}
		if errors.Is(err, raft.ErrStopped) || time.Now().After(deadline) || !pause(ctx, repairCheck) {
			return err
		}
	}
}

// underRepair tells whether a partition's replica is not to be touched now.
func (s *Server) underRepair(id model.PartitionID) bool {
	s.repairMu.Lock()
	defer s.repairMu.Unlock()
	return s.repairing[id]
}
