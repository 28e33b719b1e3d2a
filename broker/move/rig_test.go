package move

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

// rig is node 0, which leads the one partition there is and the controller, with a Mover
// that runs. Other nodes are what they answer.
type rig struct {
	*raft.Fake
	t       *testing.T
	cluster *cluster.Cluster
	h       *core.Handle
	mover   *Mover

	mu    sync.Mutex
	group raft.Members
	did   []string
	// nudged are learners that do not come on.
	nudged []raft.Member
	// answers are what nodes have applied, or why they do not say; without one a node has all.
	answers map[model.NodeID]func() (uint64, error)
}

// newRig has a partition on the first so many of the nodes 0, 1 and 2.
func newRig(t *testing.T, replicas int) *rig {
	t.Helper()
	r := &rig{Fake: raft.NewFake(0, raft.NewDisk()), t: t, answers: map[model.NodeID]func() (uint64, error){}}
	r.cluster = cluster.New(cluster.Options{Node: 0, Proposer: r.Fake, Founders: []model.NodeID{0, 1, 2}})
	check(t, r.StartController(raft.Replica{}, r.cluster.StateMachine()))
	r.Elect(raft.ControllerShard, 0)
	for n := range model.NodeID(3) {
		_, err := r.cluster.RegisterNode(t.Context(), cluster.Node{ID: n, Host: "h", Port: 1}, "c")
		check(t, err)
		if int(n)+1 == replicas {
			r.create(replicas)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	cores := r.serve(&work)
	r.mover = New(Options{
		Node: 0, Cluster: r.cluster, Raft: r, Applied: r.applied, Log: slog.New(slog.DiscardHandler),
		Led: func(f func(*core.Handle, cluster.Partition) bool) {
			if _, serving := r.h.Serving(); serving {
				f(r.h, r.partition())
			}
		},
		Spawn: func(f func(context.Context)) { work.Go(func() { f(ctx) }) },
	})
	work.Go(func() { r.mover.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		r.Close()
		work.Wait()
		check(t, cores.Close())
	})
	return r
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// create makes the partition, on the nodes that have registered.
func (r *rig) create(replicas int) {
	r.t.Helper()
	made, err := r.cluster.CreateTopics(r.t.Context(), []cluster.CreateTopic{{Name: "t", Partitions: 1, Replication: int16(replicas)}}, false)
	check(r.t, err, made[0].Err)
	for n := range model.NodeID(replicas) {
		r.group.Voters = append(r.group.Voters, raft.Member{Node: n})
	}
}

func (r *rig) partition() cluster.Partition { return r.cluster.Metadata().Topics()[0].Partitions[0] }

// serve opens the partition here, and has this node lead it.
func (r *rig) serve(work *sync.WaitGroup) *core.Set {
	r.t.Helper()
	cores := core.New(core.Options{
		Cores: 1, Log: slog.New(slog.DiscardHandler), Raft: coreLog{r.Fake}, Observe: deaf{},
		Leadership: func(core.Leadership) {}, Fatal: func(err error) { r.t.Error(err) },
		FlushDelay: time.Hour, FlushBytes: 1 << 30, WriteBytes: 1 << 20, CacheBytes: 1 << 20,
		SnapshotBytes: 1 << 30, SnapshotEntries: 1 << 30, HousekeepEvery: time.Hour,
		ProducerExpiry: func() time.Duration { return 0 },
	})
	id, c := r.cluster.Metadata().Topics()[0].PartitionID(0), config.Topic{}
	var err error
	r.h, err = cores.Open(partition.Options{FS: disk.NewMemory(), Dir: "/p", ID: id, Config: core.PartitionConfig(&c)}, r.partition().Shard, "t")
	check(r.t, err)
	r.h.SetConfig(&c)
	check(r.t, r.StartPartition(r.h.Shard, nil, r.h))
	work.Go(func() {
		for c := range r.Changes() {
			if c.Shard == r.h.Shard {
				r.h.Lead(c.Leader == 0, c.Term)
			}
		}
	})
	r.Elect(r.h.Shard, 0)
	synctest.Wait()
	return cores
}

// ask asks for a move.
func (r *rig) ask(to ...model.NodeID) {
	r.t.Helper()
	outcomes, err := r.cluster.Reassign(r.t.Context(), []cluster.Reassignment{{Partition: r.h.ID, Replicas: to}})
	check(r.t, err, errors.Join(outcomes...))
}

// after lets time pass, and gives what was done since the beginning.
func (r *rig) after(d time.Duration) []string {
	<-time.After(d)
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.did)
}

// answer sets what a node says from now on.
func (r *rig) answer(node model.NodeID, f func() (uint64, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[node] = f
}

// applied is Options.Applied.
func (r *rig) applied(ctx context.Context, _ model.ShardID, of raft.Member) (uint64, error) {
	r.mu.Lock()
	f := r.answers[of.Node]
	r.mu.Unlock()
	if f != nil {
		return f()
	}
	return AppliedBy(ctx, r.h)
}

// change is one of the group's members, of those that the Mover has seen.
func (r *rig) change(did Do, m raft.Member, change uint64, f func(g *raft.Members)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if change != r.group.Change {
		return raft.ErrMembersChanged
	}
	r.group.Voters, r.group.Learners = slices.Clone(r.group.Voters), slices.Clone(r.group.Learners)
	f(&r.group)
	r.group.Change++
	r.did = append(r.did, fmt.Sprint(did, " ", m))
	return nil
}

func (r *rig) Members(context.Context, model.ShardID) (raft.Members, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.group, nil
}

func (r *rig) AddLearner(_ context.Context, _ model.ShardID, m raft.Member, change uint64) error {
	return r.change(DoAdd, m, change, func(g *raft.Members) { g.Learners = append(g.Learners, m) })
}

func (r *rig) Promote(_ context.Context, _ model.ShardID, m raft.Member, change uint64) error {
	return r.change(DoPromote, m, change, func(g *raft.Members) {
		remove(g, m)
		g.Voters = append(g.Voters, m)
	})
}

func (r *rig) RemoveMember(_ context.Context, _ model.ShardID, m raft.Member, change uint64) error {
	return r.change("remove", m, change, func(g *raft.Members) { remove(g, m) })
}

func remove(g *raft.Members, m raft.Member) {
	out := func(v raft.Member) bool { return v == m }
	g.Voters, g.Learners = slices.DeleteFunc(g.Voters, out), slices.DeleteFunc(g.Learners, out)
}

func (r *rig) Nudge(_ model.ShardID, m raft.Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nudged = append(r.nudged, m)
}

func (r *rig) Transfer(shard model.ShardID, to model.NodeID) error {
	r.mu.Lock()
	r.did = append(r.did, fmt.Sprint(DoHandOver, " to ", to))
	r.mu.Unlock()
	r.Elect(shard, to)
	return nil
}

// Propose notes what settles the group, and whether the move was under way then.
func (r *rig) Propose(shard model.ShardID, cmd []byte, timeout time.Duration) (*raft.Proposal, error) {
	r.mu.Lock()
	r.did = append(r.did, fmt.Sprint("settle, moves: ", r.partition().Move != nil))
	r.mu.Unlock()
	return r.Fake.Propose(shard, cmd, timeout)
}

// coreLog is what server makes of a Host.
type coreLog struct{ *raft.Fake }

// Propose implements core.Log.
func (l coreLog) Propose(s model.ShardID, cmd []byte, timeout time.Duration) (func() error, error) {
	p, err := l.Fake.Propose(s, cmd, timeout)
	if err != nil {
		return nil, err
	}
	return p.Failed, nil
}

type deaf struct{}

func (deaf) Flushed(time.Duration, error) {}
func (deaf) Applied(int, int)             {}
