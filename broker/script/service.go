package script

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
)

// Options wires a Service.
type Options struct {
	Node    model.NodeID
	Cluster *cluster.Cluster
	Log     Log
	Nodes   Nodes // nil: there is no other node
	// Connect launches or attaches a sidecar, each time it is called; nil runs
	// without transforms.
	Connect func(context.Context) (Sidecar, error)
	// Session names this broker to its sidecar; Cluster is taken from the metadata
	// when it is empty.
	Session control.Session
	Logger  *slog.Logger // nil: slog.Default
}

// Service deploys and steers scripts. It implements the admin front's Scripts.
type Service struct {
	o        Options
	log      *slog.Logger
	store    *Store
	sidecars *Supervisor
	table    *Table
	fibers   Fibers
	deploys  sync.Mutex // one change of __scripts by this node at a time
	kick     chan struct{}
}

// New gives a Service that does nothing before Run.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Service{o: o, log: o.Logger, fibers: noFibers{}, kick: make(chan struct{}, 1)}
	s.store = newStore(o.Log, o.Cluster, o.Logger)
	s.sidecars = &Supervisor{
		connect: o.Connect, session: o.Session, store: s.store, cluster: o.Cluster, log: o.Logger,
		reason: "it was not reached yet", watchers: map[chan struct{}]struct{}{},
	}
	if o.Connect == nil {
		s.sidecars.reason = reasonOff
	}
	s.table = newTable(o.Cluster, s.sidecars, o.Logger)
	return s
}

// noFibers stands where there is no pacemaker.
type noFibers struct{}

func (noFibers) Fibers(model.ScriptID) []FiberState { return nil }

// UseFibers gives the service its pacemaker, which is made after it; call it
// before Run.
func (s *Service) UseFibers(f Fibers) { s.fibers = f }

// Store gives what __scripts holds: pacemaker's Plans.
func (s *Service) Store() *Store { return s.store }

// Sidecar gives the supervised sidecar: pacemaker's async.Opener.
func (s *Service) Sidecar() *Supervisor { return s.sidecars }

// Table gives the sync scripts for produce.
func (s *Service) Table() *Table { return s.table }

// Journal writes the compacted topic __pacemaker.
func (s *Service) Journal() *Topic {
	return &Topic{Name: cluster.TopicPacemaker, Log: s.o.Log, Cluster: s.o.Cluster}
}

// Run works until ctx ends: it reads __scripts, keeps the sidecar attached and
// loaded, and finishes removals.
func (s *Service) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { s.store.tail(ctx) })
	work.Go(func() { s.table.follow(ctx) })
	work.Go(func() { s.janitor(ctx) })
	work.Go(func() {
		if s.sidecars.session.Cluster == "" {
			s.sidecars.session.Cluster = s.clusterID(ctx)
		}
		s.sidecars.run(ctx)
	})
}

// clusterID waits until the cluster has one.
func (s *Service) clusterID(ctx context.Context) string {
	changed, cancel := s.o.Cluster.Watch()
	defer cancel()
	for {
		if id := s.o.Cluster.Metadata().ClusterID; id != "" {
			return id
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ""
		}
	}
}

// Ready tells whether scripts can run as they are deployed; reason says what is
// waited for. A sidecar that is off or down waits for nothing: topics without
// scripts are served all the same.
func (s *Service) Ready() (ok bool, reason string) {
	select {
	case <-s.store.AtEnd():
	default:
		return false, cluster.TopicScripts + " is being read"
	}
	if s.sidecars.State().State != SidecarUp {
		return true, ""
	}
	for _, sc := range s.o.Cluster.Metadata().Scripts() {
		if running, why := s.sidecars.Running(sc.Digest); !running && !sc.Removing && why == reasonLoading {
			return false, fmt.Sprintf("script %q is being loaded", sc.Name)
		}
	}
	return true, ""
}

// refusals maps what the cluster refuses to the kinds that the admin API knows.
var refusals = []struct{ is, kind error }{
	{cluster.ErrUnknownScript, api.ErrNotFound}, {cluster.ErrUnknownTopic, api.ErrInvalid},
	{cluster.ErrConflict, api.ErrConflict}, {cluster.ErrScriptRemoving, api.ErrConflict},
	{cluster.ErrCycle, api.ErrInvalid}, {cluster.ErrInvalidScript, api.ErrInvalid},
	{cluster.ErrInvalidPartitions, api.ErrInvalid}, {cluster.ErrInvalidReplication, api.ErrInvalid},
	{cluster.ErrInternalTopic, api.ErrInvalid}, {cluster.ErrTooManyScripts, api.ErrInvalid},
	{cluster.ErrInvalidConfig, api.ErrInvalid}, {cluster.ErrTopicName, api.ErrInvalid},
	{control.ErrDown, api.ErrUnavailable}, {control.ErrSession, api.ErrUnavailable},
	{control.ErrMemory, api.ErrUnavailable}, {control.ErrModule, api.ErrInvalid},
	{context.DeadlineExceeded, api.ErrTimedOut},
}

// explain wraps the admin API's kind of err around it.
func explain(err error) error {
	if err == nil {
		return nil
	}
	for _, r := range refusals {
		if errors.Is(err, r.is) && !errors.Is(err, r.kind) {
			return fmt.Errorf("%w: %w", r.kind, err)
		}
	}
	return err
}

// waitTick is how often running state is looked at by who waits for it: it has
// no version to wait on.
const waitTick = 10 * time.Millisecond

// until waits for done to say so.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	return every(ctx, waitTick, what, done)
}

// every is until with a pace.
func every(ctx context.Context, pace time.Duration, what string, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if wait(ctx, pace) != nil {
			return fmt.Errorf("%w: waiting until %s: %w", api.ErrTimedOut, what, ctx.Err())
		}
	}
}
