package server

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/raft"
)

const (
	// judgeEvery is how often a leader looks at its followers.
	judgeEvery = time.Second
	// comebacksAtOnce bounds how many replicas that lagged are asked at a time what they
	// have applied, comebackCalls how many of them beside each other.
	comebacksAtOnce, comebackCalls = 512, 8
	// comebackRest lets followers apply what the leader has: word of what is committed
	// may wait for 20 ms.
	comebackRest = 100 * time.Millisecond
	// comebackWait bounds the questions of a turn.
	comebackWait = 5 * time.Second
)

// judge decides which replicas of what this node leads are in sync. One is as long as
// its node is there and it has acknowledged all that the leader had a while ago: so it
// stays in sync while writes go on, and falls out when it is silent or falls behind.
//
// Once out, it has to have all that the leader had since, and to have applied what the
// leader has: a replica that takes files has acknowledged them before they are there.
//
// All of it belongs to the goroutine of run, but what ask is given.
type judge struct {
	node      model.NodeID
	cluster   *cluster.Cluster
	cores     *core.Set
	followers func(model.ShardID, model.LeaderEpoch) (last uint64, all []raft.Follower, err error)
	applied   func(context.Context, model.ShardID, raft.Member) (uint64, error)
	tell      func() // that there is something to announce
	led       map[model.PartitionID]*standing
	// answers takes those that are in sync again; asking while it is awaited.
	answers chan []comeback
	asking  bool
}

// standing is a partition that this node leads.
type standing struct {
	epoch     model.LeaderEpoch
	followers []progress
	seen      bool // in this turn
}

// comeback is a replica that has the log again.
type comeback struct {
	h       *core.Handle
	epoch   model.LeaderEpoch
	member  raft.Member
	applied uint64 // by the leader
}

// replicaCount is produce.Options.Replicas.
type replicaCount struct{ s *Server }

// InSync implements produce.Replicas.
func (c replicaCount) InSync(id model.PartitionID) int { return c.s.cluster.InSyncCount(id) }

// Await implements produce.Replicas. What is applied, a majority has.
func (c replicaCount) Await(ctx context.Context, h *core.Handle, index uint64, count int) bool {
	p, ok := c.s.cluster.Metadata().Partition(h.ID)
	epoch, serving := h.Serving()
	if !ok || !serving {
		return false
	}
	return count <= len(p.Replicas)/2+1 || c.s.raft.AwaitFollowers(ctx, h.Shard, epoch, index, others(&p, c.s.n.ID), count-1)
}

func (s *Server) newJudge() *judge {
	return &judge{
		node: s.n.ID, cluster: s.cluster, cores: s.cores, followers: s.raft.Followers, tell: s.tellLeaders,
		applied: func(ctx context.Context, shard model.ShardID, of raft.Member) (uint64, error) {
			return askApplied(ctx, s.raft, shard, of)
		},
		led: map[model.PartitionID]*standing{}, answers: make(chan []comeback, 1),
	}
}

func (j *judge) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case back := <-j.answers:
			j.asking = false
			j.readmit(back)
		case now := <-tick.C:
			if back := j.look(now); len(back) > 0 && !j.asking {
				j.asking = true
				// Any of them may not be ready for long, and keep no other waiting.
				rand.Shuffle(len(back), func(a, b int) { back[a], back[b] = back[b], back[a] })
				work.Go(func() { j.answers <- j.ask(ctx, back[:min(len(back), comebacksAtOnce)]) })
			}
		}
	}
}

// look judges every partition led here, and gives the replicas to be asked.
func (j *judge) look(now time.Time) (back []comeback) {
	m := j.cluster.Metadata()
	limit := m.Cluster.ReplicaLag
	for _, st := range j.led {
		st.seen = false
	}
	j.cores.Handles(func(h *core.Handle) bool {
		p, ok := m.Partition(h.ID)
		epoch, serving := h.Serving()
		if !ok || !serving || len(p.Replicas) < 2 {
			return true
		}
		last, answered, err := j.followers(h.Shard, epoch)
		if err != nil {
			return true // it is about to stop, and leads no longer
		}
		st := j.standing(h.ID, epoch, others(&p, j.node), now, last)
		for i := range st.followers {
			f := &st.followers[i]
			if f.look(now, last, answered, j.cluster.Gone(f.member.Node), limit) {
				back = append(back, comeback{h: h, epoch: epoch, member: f.member})
			}
		}
		j.publish(h.ID, st)
		return true
	})
	for id, st := range j.led {
		if !st.seen {
			delete(j.led, id)
		}
	}
	return back
}

// standing gives what is known of a partition: new under each epoch, when its replicas
// stand as the leader before has said.
func (j *judge) standing(id model.PartitionID, epoch model.LeaderEpoch, others []raft.Member, now time.Time, last uint64) *standing {
	st := j.led[id]
	if st == nil || st.epoch != epoch {
		st = &standing{epoch: epoch}
		lag := j.cluster.Lags(id)
		for _, m := range others {
			st.followers = append(st.followers, progressOf(m, now, last, slices.Contains(lag, m.Node)))
		}
		j.led[id] = st
	}
	if !slices.EqualFunc(st.followers, others, func(f progress, m raft.Member) bool { return f.member == m }) {
		st.follow(others, now, last)
	}
	st.seen = true
	return st
}

// follow goes on with those that stay, after a move. The mover has let none in that had
// not caught up.
func (st *standing) follow(others []raft.Member, now time.Time, last uint64) {
	old := st.followers
	st.followers = nil
	for _, m := range others {
		f := progressOf(m, now, last, false)
		if at := slices.IndexFunc(old, func(f progress) bool { return f.member == m }); at >= 0 {
			f = old[at]
		}
		st.followers = append(st.followers, f)
	}
}

// others are the replicas of a partition but a node's own.
func others(p *cluster.Partition, node model.NodeID) []raft.Member {
	all := make([]raft.Member, 0, len(p.Replicas))
	for _, seat := range p.Seats()[:len(p.Replicas)] {
		if seat.Node != node {
			all = append(all, raft.Member(seat))
		}
	}
	return all
}

// publish tells the cluster of a partition's laggards.
func (j *judge) publish(id model.PartitionID, st *standing) {
	var lag []model.NodeID
	for i := range st.followers {
		if st.followers[i].out {
			lag = append(lag, st.followers[i].member.Node)
		}
	}
	slices.Sort(lag)
	if j.cluster.Lagging(id, st.epoch, lag) {
		j.tell()
	}
}

// ask gives those that have applied what the leader has.
func (j *judge) ask(ctx context.Context, back []comeback) (good []comeback) {
	ctx, cancel := context.WithTimeout(ctx, comebackWait)
	defer cancel()
	known := back[:0]
	for _, c := range back {
		var err error
		if c.applied, err = move.AppliedBy(ctx, c.h); err == nil {
			known = append(known, c)
		}
	}
	if !pause(ctx, comebackRest) {
		return nil
	}
	seats, answers := make(chan struct{}, comebackCalls), make(chan *comeback, len(known))
	for i := range known {
		seats <- struct{}{}
		go func() {
			defer func() { <-seats }()
			c := &known[i]
			if applied, err := j.applied(ctx, c.h.Shard, c.member); err != nil || applied < c.applied {
				c = nil
			}
			answers <- c
		}()
	}
	for range known {
		if c := <-answers; c != nil {
			good = append(good, *c)
		}
	}
	return good
}

// readmit takes replicas in that are still on their way.
func (j *judge) readmit(back []comeback) {
	for _, c := range back {
		st := j.led[c.h.ID]
		if st == nil || st.epoch != c.epoch {
			continue
		}
		for i := range st.followers {
			if f := &st.followers[i]; f.member == c.member && f.ready {
				f.out, f.ready = false, false
			}
		}
		j.publish(c.h.ID, st)
	}
}

// progress is how far a follower is known to be.
type progress struct {
	member raft.Member
	// At caughtUp it had all that the leader had. It will have had that at goalAt, once it has goal.
	caughtUp, goalAt time.Time
	goal             uint64
	// out: it is not in sync, since since: older answers do not count. ready: it has all
	// of the log again.
	out, ready bool
	since      time.Time
}

// progressOf begins: who is not known to lag has the time to answer that all have.
func progressOf(m raft.Member, now time.Time, last uint64, lags bool) progress {
	p := progress{member: m, goalAt: now, goal: last, out: lags, since: now}
	if !lags {
		p.caughtUp = now
	}
	return p
}

// look judges it: last is the leader's, answered what followers said, gone that its
// node is. It tells whether it is out and ready to be in sync again.
func (p *progress) look(now time.Time, last uint64, answered []raft.Follower, gone bool, limit time.Duration) bool {
	if i := slices.IndexFunc(answered, func(f raft.Follower) bool { return f.Member == p.member }); i >= 0 && !answered[i].Answered.Before(p.since) {
		p.hear(now, last, answered[i])
	}
	late := gone || now.Sub(p.caughtUp) > limit
	if late && (gone || !p.out) {
		p.out, p.since = true, now
		p.goal, p.goalAt = last, now
	}
	p.ready = p.out && !late && !p.caughtUp.Before(p.since)
	return p.ready
}

func (p *progress) hear(now time.Time, last uint64, f raft.Follower) {
	switch {
	case f.Match >= last:
		p.caughtUp = f.Answered
	case f.Match >= p.goal:
		p.caughtUp = p.goalAt
	default:
		return
	}
	p.goal, p.goalAt = last, now
}
