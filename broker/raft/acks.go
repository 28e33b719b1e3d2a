package raft

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// How far its followers are a leader knows inside the library, which does not tell. But
// their answers come by here, so that they are noted in passing: one short lock and one
// look-up each.

// ackStripes is how many locks the shards share: a node hears each peer on a few
// connections at once.
const ackStripes = 64

// acks are the answers of followers. Its methods may be called from any goroutine.
type acks struct {
	began   time.Time
	stripes [ackStripes]ackStripe
}

type ackStripe struct {
	mu     sync.Mutex
	shards map[uint64][]ack // by shard; one for each replica that has answered
	// news, unless nil, is closed at the next answer: somebody waits.
	news chan struct{}
}

// ack is what a replica has answered last.
type ack struct {
	replica uint64
	// match is the end of the log that it has under term, 0 before it has said so.
	term, match uint64
	at          time.Duration // since acks.began
}

func newAcks() *acks {
	a := &acks{began: time.Now()}
	for i := range a.stripes {
		a.stripes[i].shards = map[uint64][]ack{}
	}
	return a
}

func (a *acks) stripe(shard uint64) *ackStripe { return &a.stripes[shard%ackStripes] }

// note takes what is an answer of a follower to its leader.
func (a *acks) note(all []pb.Message) {
	now := time.Duration(-1)
	for i := range all {
		m := &all[i]
		if m.Type != pb.ReplicateResp && m.Type != pb.HeartbeatResp {
			continue
		}
		if now < 0 {
			now = time.Since(a.began)
		}
		a.stripe(m.ShardID).note(m, now)
	}
}

func (s *ackStripe) note(m *pb.Message, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
	all := s.shards[m.ShardID]
	for i := range all {
		if all[i].replica == m.From {
			all[i].take(m, now)
			return
		}
	}
	a := ack{replica: m.From}
	a.take(m, now)
	s.shards[m.ShardID] = append(all, a)
}

// take is for each answer. What was acknowledged to an older term may be gone from the
// log since, and is no answer to this one.
func (a *ack) take(m *pb.Message, now time.Duration) {
	if m.Term < a.term {
		return
	}
	if m.Term > a.term {
		a.term, a.match = m.Term, 0
	}
	a.at = now
	if m.Type == pb.ReplicateResp && !m.Reject {
		a.match = max(a.match, m.LogIndex)
	}
}

// of gives those who have answered under a term.
func (a *acks) of(shard, term uint64) (all []Follower) {
	s := a.stripe(shard)
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.locked(s, shard, term)
}

func (a *acks) locked(s *ackStripe, shard, term uint64) (all []Follower) {
	for _, k := range s.shards[shard] {
		if k.term == term {
			m := Member{Node: replicaNode(k.replica), Birth: replicaBirth(k.replica)}
			all = append(all, Follower{Member: m, Match: k.match, Answered: a.began.Add(k.at)})
		}
	}
	return all
}

// ofAndNews is of, and a channel that is closed when any of them may be others.
func (a *acks) ofAndNews(shard, term uint64) ([]Follower, <-chan struct{}) {
	s := a.stripe(shard)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news == nil {
		s.news = make(chan struct{})
	}
	return a.locked(s, shard, term), s.news
}

// longest gives those that have acknowledged most of a shard's log under a term, the one with
// most first.
func (a *acks) longest(shard, term uint64, most int) []Follower {
	all := a.of(shard, term)
	slices.SortFunc(all, func(x, y Follower) int { return cmp.Compare(y.Match, x.Match) })
	return all[:min(most, len(all))]
}

func (a *acks) forget(shard uint64) {
	s := a.stripe(shard)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.shards, shard)
}

// Follower is a replica that has answered this node, its leader.
type Follower struct {
	Member
	// Match: it has, synced, all of the log up to this index. What it has applied may be less.
	Match uint64
	// Answered is when it was heard last. A leader asks every tick.
	Answered time.Time
}

// Followers gives the last index of a shard's log here, and the replicas, removed ones
// too, that have answered this node as its leader under epoch.
func (h *Host) Followers(shard model.ShardID, epoch model.LeaderEpoch) (last uint64, all []Follower, err error) {
	n, err := h.of(shard)
	if err == nil {
		_, last, err = logRange(n, shard)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("followers of shard %d: %w", shard, refused(err))
	}
	return last, h.acks.of(uint64(shard), uint64(epoch)), nil
}

// AwaitFollowers returns true once so many of a shard's members have acknowledged an
// index to this node as its leader under epoch, and false when ctx ends before.
func (h *Host) AwaitFollowers(ctx context.Context, shard model.ShardID, epoch model.LeaderEpoch, index uint64, members []Member, count int) bool {
	for {
		all, news := h.acks.ofAndNews(uint64(shard), uint64(epoch))
		n := 0
		for _, f := range all {
			if f.Match >= index && slices.Contains(members, f.Member) {
				n++
			}
		}
		if n >= count {
			return true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false
		}
	}
}
