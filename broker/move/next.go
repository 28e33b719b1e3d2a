package move

import (
	"fmt"
	"slices"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// Do is what a step does, in words for a log.
type Do string

// The things that a step does. DoMoved, of partitions only, changes no group any more.
const (
	DoNothing  Do = ""
	DoForget   Do = "remove a learner"
	DoRemove   Do = "remove a voter"
	DoHandOver Do = "hand over"
	DoAdd      Do = "add a learner"
	DoPromote  Do = "promote"
	DoMoved    Do = "tell that it has moved"
)

// Action is one thing, of one replica, to be done when those of After have caught up.
// Those of Or may go instead of it.
type Action struct {
	Do     Do
	Member raft.Member
	After  []raft.Member
	Or     []raft.Member
}

// next says what is to be done for a move, given who is in the group. Whoever is in and
// not named goes first: a node has one replica in the group. Learners come one at a
// time, and none votes before all have caught up, so that the group is as short as can
// be of a size that stands fewer losses.
func next(p *cluster.Partition, group raft.Members, self model.NodeID) Action {
	named := map[raft.Member]bool{}
	for _, s := range p.Seats() {
		named[raft.Member(s)] = true
	}
	for _, l := range group.Learners {
		if !named[l] {
			return Action{Do: DoForget, Member: l}
		}
	}
	leaving := slices.DeleteFunc(slices.Clone(group.Voters), func(v raft.Member) bool { return named[v] })
	if a := takeOut(leaving, self); a.Do != DoNothing {
		return a
	}
	var learners []raft.Member
	for _, s := range p.Move.Seats() {
		switch seat := raft.Member(s); {
		case slices.Contains(group.Voters, seat):
		case slices.Contains(group.Learners, seat):
			learners = append(learners, seat)
		default:
			return Action{Do: DoAdd, Member: seat, After: learners}
		}
	}
	if len(learners) > 0 {
		return Action{Do: DoPromote, Member: learners[0], After: learners}
	}
	return Action{Do: DoMoved}
}

// takeOut says what is to be done of voters that are to go. Who leads goes last.
func takeOut(leaving []raft.Member, self model.NodeID) Action {
	others := slices.DeleteFunc(slices.Clone(leaving), func(v raft.Member) bool { return v.Node == self })
	switch {
	case len(others) > 0:
		return Action{Do: DoRemove, Member: others[0], Or: others[1:]}
	case len(leaving) > 0:
		return Action{Do: DoHandOver, Member: leaving[0]}
	}
	return Action{}
}

// FirstOut gives the one of those who are to go, a.Member and a.Or, that can: a majority of
// those who are left is up to date then. Who is not goes first: without him the others may
// go too. ErrTooFewUpToDate: none can.
func (a Action) FirstOut(voters, up []raft.Member) (raft.Member, error) {
	leaving := append([]raft.Member{a.Member}, a.Or...)
	isUp := func(v raft.Member) bool { return slices.Contains(up, v) }
	slices.SortStableFunc(leaving, func(a, b raft.Member) int {
		switch {
		case isUp(a) == isUp(b):
			return 0
		case isUp(a):
			return 1
		}
		return -1
	})
	rest, left := len(voters)-1, 0
	for _, gone := range leaving {
		left = len(up)
		if isUp(gone) {
			left--
		}
		if left > rest/2 {
			return gone, nil
		}
	}
	return raft.Member{}, fmt.Errorf("remove the replica of node %d: %w: %d of %d", a.Member.Node, ErrTooFewUpToDate, left, rest)
}
