package move

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// TestMover: a replica comes, is waited for, and votes. The group is settled each time that
// the controller is about to be told something.
func TestMover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.answer(1, func() (uint64, error) { return 0, &raft.Refusal{Code: RefusedNoReplica} })
		r.ask(0, 1)
		r.expect(3*time.Second, "node 1 does not run its replica yet: "+(&raft.Refusal{Code: RefusedNoReplica}).Error(), "add a learner {1 1}")
		r.answer(1, func() (uint64, error) { return 0, nil })
		r.expect(10*time.Second, "node 1 is catching up", "add a learner {1 1}")
		if len(r.nudged) == 0 || r.nudged[0] != (raft.Member{Node: 1, Birth: 1}) {
			t.Errorf("nudged: %v", r.nudged)
		}
		r.answer(1, func() (uint64, error) { return 0, errors.New("no route") })
		r.expect(10*time.Second, "node 1 does not answer: no route", "add a learner {1 1}")
		r.answer(1, nil)
		r.expect(2*time.Second, "", "add a learner {1 1}", "promote {1 1}", "settle, moves: true", "settle, moves: true")
		if p := r.partition(); p.Move != nil || !slices.Equal(p.Replicas, []model.NodeID{0, 1}) {
			t.Errorf("it is on %v, move %+v", p.Replicas, p.Move)
		}
	})
}

// TestMoverLeaves: who leads and is to go hands over, and does nothing from then on.
func TestMoverLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.ask(1)
		r.expect(10*time.Second, "", "add a learner {1 1}", "promote {1 1}", "settle, moves: true", "hand over to 1")
		if p := r.partition(); p.Move == nil || !p.Move.In {
			t.Errorf("it is on %v, move %+v", p.Replicas, p.Move)
		}
	})
}

// TestTooFew: no voter goes while too few of the others are up to date.
func TestTooFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3)
		r.answer(1, func() (uint64, error) {
			if p := r.partition(); !p.Move.In {
				return AppliedBy(t.Context(), r.h)
			}
			return 0, errors.New("no route")
		})
		r.ask(0, 1)
		r.expect(10*time.Second, "remove the replica of node 2: "+ErrTooFewUpToDate.Error()+": 1 of 2", "settle, moves: true")
		r.answer(1, nil)
		r.expect(5*time.Second, "", "settle, moves: true", "remove {2 0}", "settle, moves: true")
		if p := r.partition(); p.Move != nil || !slices.Equal(p.Replicas, []model.NodeID{0, 1}) {
			t.Errorf("it is on %v, move %+v", p.Replicas, p.Move)
		}
	})
}

// TestLeave: a partition is not left to one replica that is down. Where that one has lost its
// disk the others have what it had.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3)
		r.answer(1, func() (uint64, error) { return 0, errors.New("no route") })
		r.ask(1)
		r.expect(10*time.Second, "leave it to nodes [1]: "+ErrTooFewUpToDate.Error()+": 0 of 1")
		_, _, err := r.cluster.Join(t.Context(), cluster.Node{ID: 1, Host: "h", Port: 1, RPC: "h:2", Disk: "new", Level: controller.LevelBuild}, false)
		check(t, err)
		if p := r.partition(); p.Lost || !slices.Equal(p.Replicas, []model.NodeID{0, 2}) {
			t.Errorf("it is on %v, lost %v", p.Replicas, p.Lost)
		}
		r.answer(1, nil)
		r.expect(10*time.Second, "", "remove {1 0}", "add a learner {1 1}", "promote {1 1}", "settle, moves: true", "remove {2 0}", "hand over to 1")
		if p := r.partition(); p.Lost || !slices.Equal(p.Replicas, []model.NodeID{1}) {
			t.Errorf("it is on %v, lost %v", p.Replicas, p.Lost)
		}
	})
}

// TestLostGoesFirst: of those who are to go, one that is down goes before the others, who
// could not go before it.
func TestLostGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3)
		r.answer(2, func() (uint64, error) { return 0, errors.New("no route") })
		r.ask(0)
		r.expect(10*time.Second, "", "settle, moves: true", "remove {2 0}", "remove {1 0}", "settle, moves: true")
		if p := r.partition(); p.Move != nil || !slices.Equal(p.Replicas, []model.NodeID{0}) {
			t.Errorf("it is on %v, move %+v", p.Replicas, p.Move)
		}
	})
}

// expect lets time pass, and says what was done by then and why the move waits.
func (r *rig) expect(d time.Duration, why string, did ...string) {
	r.t.Helper()
	if got := r.after(d); !slices.Equal(got, did) {
		r.t.Errorf("done %q, want %q", got, did)
	}
	if got := r.mover.Reasons()[r.h.ID]; got != why {
		r.t.Errorf("it waits since %q, want %q", got, why)
	}
}

// refusing is a Group that has no majority, and knows who was asked for.
type refusing struct {
	Group
	mu    sync.Mutex
	asked []model.ShardID
}

func (g *refusing) Members(_ context.Context, shard model.ShardID) (raft.Members, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, shard)
	return raft.Members{}, errors.New("no majority")
}

// TestTurns: those that have waited longest come first, and among equals there is one
// order, whatever that of the partitions is. Each is tried once in a second.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []*core.Handle // in their order
		for i := range 8 {
			id := model.PartitionID{Topic: model.TopicID{byte(i / 4)}, Index: int32(i % 4)}
			all = append(all, &core.Handle{ID: id, Shard: model.ShardID(100 + i)})
		}
		g, begun := &refusing{}, time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m := New(Options{
			Cluster: cluster.New(cluster.Options{}), Raft: g, Log: slog.New(slog.DiscardHandler),
			Led: func(f func(*core.Handle, cluster.Partition) bool) {
				for _, i := range rand.Perm(len(all)) {
					if i == 6 && time.Since(begun) < 2*moveLook {
						continue // nobody leads it yet
					}
					move := &controller.Move{Revision: 3}
					if i == 7 {
						move.Revision = 2
					}
					f(all[i], cluster.Partition{Move: move})
				}
			},
			Spawn: func(f func(context.Context)) { f(ctx) },
		})
		go m.Run(ctx)
		<-time.After(3*moveLook + moveLook/2)
		cancel()
		synctest.Wait()
		want := []model.ShardID{
			107, 100, 101, 102, 103, 104, 105,
			106, 107, 100, 101, 102, 103, 104, 105,
			107, 100, 101, 102, 103, 104, 105, 106,
		}
		if !slices.Equal(g.asked, want) {
			t.Errorf("asked %v, want %v", g.asked, want)
		}
	})
}

// TestReasonsEnd: nobody is told why a move waits that is over.
func TestReasonsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := &core.Handle{Shard: 100}, cluster.Partition{Move: &controller.Move{}}
		m := New(Options{
			Raft: &refusing{}, Log: slog.New(slog.DiscardHandler),
			Led:   func(f func(*core.Handle, cluster.Partition) bool) { f(h, p) },
			Spawn: func(f func(context.Context)) { go f(t.Context()) },
		})
		m.begin(time.Now())
		e := <-m.ended
		m.tried[e.id] = time.Now()
		if got := m.Reasons()[h.ID]; got != "no majority" {
			t.Errorf("it waits since %q", got)
		}
		p.Move = nil
		m.begin(time.Now())
		if got := m.Reasons(); len(got) > 0 || len(m.tried) > 0 {
			t.Errorf("it is over, and waits since %q", got)
		}
	})
}
