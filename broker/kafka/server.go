package kafka

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
)

// Options are what a Server is made of. Node, Cluster, Produce and Fetch are
// required; without Groups the group APIs are not advertised.
type Options struct {
	Node    model.NodeID
	Cluster Cluster
	Produce Producer
	Fetch   Fetcher
	Groups  Groups
	Limits  Limits
	Log     *slog.Logger // nil: slog.Default
	Metrics Metrics      // nil: none
	Now     func() time.Time
	// NodeConfigs gives the node's own settings for DescribeConfigs. nil: none.
	NodeConfigs func() []config.Value
	// InSync tells whether consumers may be sent to a replica of a partition on another
	// node: it is alive and not far behind. nil: none are sent.
	InSync func(id model.PartitionID, node model.NodeID) bool
	// Elect returns when a node leads a partition, or ctx ends. nil: no election is held.
	Elect func(ctx context.Context, id model.PartitionID, to model.NodeID) error
	// Disk answers DescribeLogDirs. nil: the directory is not told.
	Disk func() Disk
}

// Server serves the Kafka protocol on any number of listeners. Its methods may
// be called from any goroutine.
type Server struct {
	o          Options
	limits     Limits
	log        *slog.Logger
	metrics    Metrics
	rows       map[int16]*row
	requests   *requestPools
	responses  *pool
	sessions   *fetch.Sessions
	producers  producerIDs
	complaints complaints

	ctx    context.Context // of handlers; ends when draining begins
	cancel context.CancelFunc

	mu        sync.Mutex // guards the rest
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	served    sync.WaitGroup
}

// ErrClosed is returned by Serve after Close.
var ErrClosed = errors.New("kafka server closed")

// New gives a Server that serves nothing yet.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.InSync == nil {
		o.InSync = func(model.PartitionID, model.NodeID) bool { return false }
	}
	if o.Elect == nil {
		o.Elect = noElections
	}
	if o.Disk == nil {
		o.Disk = func() Disk { return Disk{Total: -1, Usable: -1} }
	}
	s := &Server{
		o: o, limits: o.Limits.withDefaults(), log: o.Log.With("room", "kafka"), metrics: o.Metrics,
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
	}
	s.complaints = complaints{log: s.log, now: o.Now}
	s.requests = newRequestPools(s.limits.RequestBytes)
	s.responses = newPool(s.limits.ResponseBytes)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.sessions = fetch.NewSessions(fetch.SessionLimits{Now: o.Now})
	s.register()
	return s
}

// Serve is ServeAs of the listener without a name.
func (s *Server) Serve(l net.Listener) error { return s.ServeAs("", l) }

// ServeAs accepts connections until l fails or Close is called, which it reports
// as ErrClosed. It closes l. Clients are told what brokers advertise for the
// listener of that name.
func (s *Server) ServeAs(listener string, l net.Listener) error {
	if !s.track(l) {
		_ = l.Close()
		return ErrClosed
	}
	defer s.untrack(l)
	for {
		nc, err := l.Accept()
		if err != nil {
			if s.isClosing() {
				return ErrClosed
			}
			var soft interface{ Temporary() bool }
			if errors.As(err, &soft) && soft.Temporary() { // out of file descriptors, mostly
				s.log.Warn("cannot accept a connection", "err", err)
				if !s.pause(acceptPause) {
					return ErrClosed
				}
				continue
			}
			return err
		}
		s.admit(listener, nc)
	}
}

// acceptPause is how long a listener that ran out of descriptors waits.
const acceptPause = 100 * time.Millisecond

func (s *Server) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// admit serves nc on its own goroutine, or closes it when there are too many.
func (s *Server) admit(listener string, nc net.Conn) {
	s.mu.Lock()
	full := s.closing || len(s.conns) >= s.limits.ConnectionsMax
	if full {
		s.mu.Unlock()
		s.metrics.Refused()
		_ = nc.Close()
		return
	}
	c := newConn(s, nc)
	c.listener = listener
	s.conns[c] = struct{}{}
	s.served.Add(1)
	n := len(s.conns)
	s.mu.Unlock()
	s.metrics.Connections(n)
	go func() {
		defer s.served.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		n := len(s.conns)
		s.mu.Unlock()
		s.metrics.Connections(n)
	}()
}

// Close stops accepting, lets every request that has come be answered, and
// closes all connections. When ctx ends first they are cut, and its error is
// returned.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	s.cancel()
	done := make(chan struct{})
	go func() { s.served.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	return ctx.Err()
}

func (s *Server) track(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) untrack(l net.Listener) {
	s.mu.Lock()
	delete(s.listeners, l)
	s.mu.Unlock()
	_ = l.Close()
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}
