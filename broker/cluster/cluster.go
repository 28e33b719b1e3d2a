package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// Proposer is what cluster asks of raft: propose to the controller's shard and
// return its result once it is applied on this node. An error whose chain has
// none of this room's sentinels means that the outcome is unknown.
type Proposer interface {
	ProposeController(ctx context.Context, cmd []byte) (result []byte, err error)
}

// ShardController is the Raft group of the controller.
const ShardController model.ShardID = 1

// Options configures a Cluster.
type Options struct {
	Node     model.NodeID
	Proposer Proposer
	Founders []model.NodeID    // the nodes that form the cluster; none: this one alone
	Static   map[string]string // this node's own settings of cluster scope (config.Node.Static)
	Now      func() time.Time  // nil: time.Now
	Log      *slog.Logger      // nil: slog.Default
	// Fatal is told that the cluster has left this build behind. It must end the process.
	Fatal func(error)
}

// Cluster is the cluster as this node sees it. Its methods are safe from any
// goroutine; those of StateMachine are not.
type Cluster struct {
	o        Options
	metadata atomic.Pointer[Metadata]
	machine  StateMachine

	publishing sync.Mutex // held from reading a Metadata to publishing its successor

	mu       sync.Mutex // guards watchers
	watchers map[chan struct{}]struct{}

	leaders leaders
}

// New gives a cluster of no version; the StateMachine fills it.
func New(o Options) *Cluster {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	c := &Cluster{o: o, watchers: map[chan struct{}]struct{}{}}
	c.leaders.init(rand.Uint64(), o.Now())
	c.machine.init(c)
	return c
}

// StateMachine gives what raft drives for the controller's shard.
func (c *Cluster) StateMachine() *StateMachine { return &c.machine }

// Metadata gives the newest snapshot. Keep it for one request, not longer.
func (c *Cluster) Metadata() *Metadata { return c.metadata.Load() }

// Watch gives a channel that ticks after each change of the snapshot; ticks
// that nobody took yet are one. cancel ends it and may be called twice.
func (c *Cluster) Watch() (changed <-chan struct{}, cancel func()) {
	w := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[w] = struct{}{}
	return w, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, w)
	}
}

// SetController says who leads the controller's shard; raft's events tell.
func (c *Cluster) SetController(id model.NodeID) {
	c.publishing.Lock()
	defer c.publishing.Unlock()
	m := *c.Metadata()
	if m.Controller == id {
		return
	}
	m.Controller = id
	c.publish(&m)
}

// publish makes m the newest snapshot and ticks every watcher.
func (c *Cluster) publish(m *Metadata) {
	c.metadata.Store(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func must(holds bool, format string, args ...any) {
	if !holds {
		panic("cluster: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
