package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/millrace-io/millrace/broker/admin"
	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/kafka"
	"github.com/millrace-io/millrace/broker/metrics"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/raft"
)

// startReplicas starts every partition that this node holds, and keeps on
// following the metadata.
func (s *Server) startReplicas(ctx context.Context, _ identity) error {
	s.node.waitFor("recovering partitions")
	s.replicas = &replicas{
		node: s.n.ID, dir: s.n.DataDir, fs: disk.OS{}, memory: s.memory, past: s.past, cluster: s.cluster, cores: s.cores, raft: s.raft,
		produce: s.produce, log: s.log, revision: map[model.PartitionID]uint64{},
		faults: newFaults(), damages: s.damages, spawn: s.run, busy: s.underRepair, seats: move.NewSeats(s.n.ID, s.raft), settled: make(chan struct{}),
	}
	s.held.Store(s.replicas)
	if err := s.replicas.setAsideStrangers(time.Now()); err != nil {
		return fmt.Errorf("set aside directories of no topic: %w", err)
	}
	if err := s.replicas.removeStrangeLogs(); err != nil {
		return err
	}
	s.groups = coordinator.New(coordinator.Options{
		Log: coordinator.NewLog(s.produce, s.fetch), Cluster: s.cluster, Logger: s.log,
	})
	reach := s.reach()
	s.scripts = newScripts(s, reach)
	reach.UseScripts(s.scripts.service)
	s.verbs.Store(reach)
	s.run(s.replicas.run)
	s.mover = s.newMover()
	s.moves.Store(s.mover)
	s.run(s.mover.Run)
	s.run(s.newJudge().run)
	s.rebalancer = newRebalancer(s)
	s.run(s.rebalancer.run)
	s.run(s.scrub)
	select {
	case <-s.replicas.settled:
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.awaitLeaders(ctx)
}

func (s *Server) newMover() *move.Mover {
	return move.New(move.Options{
		Node: s.n.ID, Cluster: s.cluster, Raft: s.raft, Led: s.ledHere, Spawn: s.run, Log: s.log,
		Applied: s.askApplied,
	})
}

const (
	// leadersWait is how long a start waits for its partitions' elections before
	// it serves those that have a leader.
	leadersWait  = 10 * time.Second
	leadersCheck = 10 * time.Millisecond
)

// awaitLeaders returns when every partition that was started is served, here or by
// another node. A lone replica waits for its own election timeout.
func (s *Server) awaitLeaders(ctx context.Context) error {
	deadline := time.Now().Add(leadersWait)
	tick := time.NewTicker(leadersCheck)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		waiting := 0
		s.cores.Handles(func(h *core.Handle) bool {
			if node, _ := s.cluster.Leader(h.ID); node == model.NoNode {
				waiting++
			}
			return waiting == 0
		})
		if waiting == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case err := <-s.fatal:
			return err
		}
	}
	s.log.Warn("some partitions have no leader yet")
	return nil
}

func (s *Server) startFronts(context.Context, identity) error {
	s.kafka = kafka.New(kafka.Options{
		Node: s.n.ID, Cluster: kafkaCluster{s.cluster}, Produce: kafka.FromProduce(s.produce), Fetch: s.fetch, Groups: s.groups,
		Limits: kafka.Limits{
			ConnectionsMax: s.n.ConnectionsMax, Idle: s.n.ConnectionIdle, FrameBytesMax: s.n.FrameBytesMax,
			RequestBytes:  s.node.memory * int64(s.n.RequestPercent) / 100,
			ResponseBytes: s.node.memory * int64(s.n.ResponsePercent) / 100,
		},
		Log: s.log, Metrics: metrics.NewKafka(s.registry), NodeConfigs: s.n.Describe, Elect: s.elect,
		InSync: func(id model.PartitionID, node model.NodeID) bool {
			return len(s.cluster.InSync(id, []model.NodeID{node})) == 1
		},
		Disk: func() kafka.Disk {
			return kafka.Disk{Dir: s.n.DataDir, Total: s.space.total.Load(), Usable: s.space.Free()}
		},
	})
	s.collect()
	s.run(s.watchFitness)
	view := &clusterView{
		node: s.n.ID, cluster: s.cluster, cores: s.cores, fetch: s.fetch, space: s.space,
		faults: s.replicas.faults.all, damages: s.damages, sidecar: s.scripts.sidecar, stopped: s.scripts.stopped,
		reasons: s.reasons, rebalancer: s.rebalancer,
		quorum: func(ctx context.Context) (raft.Members, error) { return s.raft.Members(ctx, raft.ControllerShard) },
	}
	s.node.sidecar = s.scripts.sidecar
	var err error
	s.admin, err = admin.New(admin.Options{
		Cluster: view, Node: s.node, Configs: configView{s}, Scripts: s.scripts.service, Operate: operateView{s},
		Metrics: s.registry.Handler(), Log: s.log, Version: s.version,
	})
	if err != nil {
		return err
	}
	if err := s.letIn(); err != nil {
		return err
	}
	s.serveKafka()
	s.serve("admin", s.admin.Serve, net.ErrClosed)
	return nil
}

func (s *Server) serve(name string, serve func(net.Listener) error, closed error) {
	l, ok := s.listeners[name]
	if !ok {
		return
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		if err := serve(l); err != nil && !errors.Is(err, closed) && s.ctx.Err() == nil {
			s.log.Error("listener failed", "listener", name, "err", err)
		}
	}()
}

// leaveFor is how long a node that stops goes on to send readers of its replicas away:
// within it they ask again, by the waits that Kafka's clients have, or are found waiting.
const leaveFor = 500 * time.Millisecond

// stop closes the rooms from the top down: what was accepted is answered, then
// nothing new can enter the log, then everything is flushed.
func (s *Server) stop() error {
	if s.node != nil {
		s.node.waitFor("stopping")
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.n.ShutdownMax)
	defer cancel()
	s.handOver(ctx)
	if s.fetch != nil && s.fetch.Leave() {
		pause(ctx, leaveFor)
	}
	var errs []error
	if s.kafka != nil {
		errs = append(errs, s.kafka.Close(ctx))
	}
	if s.admin != nil {
		errs = append(errs, s.admin.Close(ctx))
	}
	for _, l := range s.listeners {
		_ = l.Close() // most are closed by their front
	}
	if s.scripts != nil {
		s.scripts.stop()
	}
	s.cancel()
	if s.groups != nil {
		s.groups.Close()
	}
	s.work.Wait() // whoever starts and removes replicas ends before their log does
	if s.raft != nil {
		s.raft.Close()
	}
	if s.giver != nil {
		s.giver.Close()
	}
	if s.cores != nil {
		errs = append(errs, s.cores.Close())
	}
	errs = append(errs, s.lock.Close())
	s.log.Info("stopped")
	return errors.Join(errs...)
}
