package move

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	// AtOnce is how many partitions that a node serves are under way at a time: what
	// they hold goes over its network and from its disk.
	AtOnce = 4
	// moveAgain is the pause before a partition is tried again that could not go on.
	moveAgain = time.Second
	// moveLook is how often it is looked for moves that nobody told of.
	moveLook = time.Second
)

// Group is what a Mover asks of raft, as *raft.Host does it.
type Group interface {
	Members(ctx context.Context, shard model.ShardID) (raft.Members, error)
	Barrier(ctx context.Context, shard model.ShardID) error
	AddLearner(ctx context.Context, shard model.ShardID, m raft.Member, change uint64) error
	Promote(ctx context.Context, shard model.ShardID, m raft.Member, change uint64) error
	RemoveMember(ctx context.Context, shard model.ShardID, m raft.Member, change uint64) error
	Transfer(shard model.ShardID, to model.NodeID) error
	Nudge(shard model.ShardID, learner raft.Member)
	Propose(shard model.ShardID, cmd []byte, timeout time.Duration) (*raft.Proposal, error)
}

// Options is what a Mover needs. All of it is required.
type Options struct {
	Node    model.NodeID
	Cluster *cluster.Cluster
	Raft    Group
	// Led calls f for the partitions that this node serves, until it returns false.
	Led func(f func(*core.Handle, cluster.Partition) bool)
	// Applied asks the node of a replica for the raft index that it has applied. A
	// raft.Refusal with a code of this room says that it will run it a little later.
	Applied func(ctx context.Context, shard model.ShardID, of raft.Member) (uint64, error)
	// Spawn runs f beside its caller, with a context that ends with the node.
	Spawn func(f func(context.Context))
	Log   *slog.Logger
}

// Mover changes who is in the groups of the partitions that this node serves, to what
// the controller's moves want. It remembers nothing that matters: what is to be done
// follows from the move and the group, so that any leader goes on where another was.
type Mover struct {
	o Options
	// busy, tried and ended are owned by Run. Those that are tried ended without an end.
	busy  map[model.PartitionID]bool
	tried map[model.PartitionID]time.Time
	ended chan ended
	// reasons say why moves wait. mu guards them.
	mu      sync.Mutex
	reasons map[model.PartitionID]string
}

type ended struct {
	id  model.PartitionID
	err error
}

// New gives a Mover that is still.
func New(o Options) *Mover {
	return &Mover{
		o: o, busy: map[model.PartitionID]bool{}, tried: map[model.PartitionID]time.Time{}, ended: make(chan ended, AtOnce),
		reasons: map[model.PartitionID]string{},
	}
}

// Run moves partitions until ctx ends.
func (m *Mover) Run(ctx context.Context) {
	changed, cancel := m.o.Cluster.Watch()
	defer cancel()
	look := time.NewTicker(moveLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-m.ended:
			m.end(e)
		case <-changed:
		case <-look.C:
		}
		for more := true; more; { // first, whatever woke it: they make room
			select {
			case e := <-m.ended:
				m.end(e)
			default:
				more = false
			}
		}
		m.begin(time.Now())
	}
}

func (m *Mover) end(e ended) {
	delete(m.busy, e.id)
	if e.err != nil {
		m.tried[e.id] = time.Now()
	}
}

// candidate is a partition that is to be moved.
type candidate struct {
	h        *core.Handle
	tried    time.Time
	revision uint64
}

// begin takes up what is to be moved, those first that have waited longest.
func (m *Mover) begin(now time.Time) {
	var all []candidate
	known := map[model.PartitionID]bool{}
	m.o.Led(func(h *core.Handle, p cluster.Partition) bool {
		if p.Move == nil {
			return true
		}
		known[h.ID] = true
		tried := m.tried[h.ID]
		if !m.busy[h.ID] && now.Sub(tried) >= moveAgain {
			all = append(all, candidate{h, tried, p.Move.Revision})
		}
		return true
	})
	for id := range m.tried {
		if !known[id] {
			delete(m.tried, id)
			m.because(id, "")
		}
	}
	slices.SortFunc(all, inTurn)
	for _, c := range all {
		if len(m.busy) == AtOnce {
			return
		}
		m.busy[c.h.ID] = true
		m.o.Spawn(func(ctx context.Context) {
			err := m.move(ctx, c.h)
			select {
			case m.ended <- ended{c.h.ID, err}:
			case <-ctx.Done():
			}
		})
	}
}

// inTurn orders candidates, no two of which are equal: one command moves many partitions,
// which have its revision.
func inTurn(a, b candidate) int {
	return cmp.Or(
		a.tried.Compare(b.tried), cmp.Compare(a.revision, b.revision),
		bytes.Compare(a.h.ID.Topic[:], b.h.ID.Topic[:]), cmp.Compare(a.h.ID.Index, b.h.ID.Index),
	)
}

// Reasons says of every move that waits here why it does.
func (m *Mover) Reasons() map[model.PartitionID]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.reasons)
}

// because notes why a partition waits, and tells whether that is news.
func (m *Mover) because(id model.PartitionID, reason string) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.reasons[id]
	if reason == "" {
		delete(m.reasons, id)
	} else {
		m.reasons[id] = reason
	}
	return old != reason
}

// move takes step after step until the move is over, or not this node's any more.
func (m *Mover) move(ctx context.Context, h *core.Handle) error {
	for {
		more, err := m.step(ctx, h)
		if err != nil && ctx.Err() == nil {
			if m.because(h.ID, err.Error()) {
				m.o.Log.Info("partition waits to be moved", "topic", h.Topic, "partition", h.ID.Index, "why", err)
			}
			return err
		}
		if !more || ctx.Err() != nil {
			m.because(h.ID, "")
			return ctx.Err()
		}
	}
}
