package raft

import (
	"maps"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// roster is who is in a group, as the library finds it while it applies a log: its
// membership's rules, but for witnesses, which we have none of.
type roster struct {
	change   uint64
	voters   map[uint64]string
	learners map[uint64]string
	removed  map[uint64]bool
}

func newRoster(m pb.Membership) *roster {
	r := &roster{change: m.ConfigChangeId, voters: map[uint64]string{}, learners: map[uint64]string{}, removed: map[uint64]bool{}}
	maps.Copy(r.voters, m.Addresses)
	maps.Copy(r.learners, m.NonVotings)
	maps.Copy(r.removed, m.Removed)
	return r
}

// apply takes a change that is at index in the log. One that the library would reject
// changes nothing.
func (r *roster) apply(cc *pb.ConfigChange, index uint64) {
	if !r.takes(cc) {
		return
	}
	r.change = index
	switch cc.Type {
	case pb.AddNode:
		delete(r.learners, cc.ReplicaID)
		r.voters[cc.ReplicaID] = cc.Address
	case pb.AddNonVoting:
		r.learners[cc.ReplicaID] = cc.Address
	case pb.RemoveNode:
		delete(r.voters, cc.ReplicaID)
		delete(r.learners, cc.ReplicaID)
		r.removed[cc.ReplicaID] = true
	}
}

func (r *roster) takes(cc *pb.ConfigChange) bool {
	_, votes := r.voters[cc.ReplicaID]
	learns, isLearner := r.learners[cc.ReplicaID]
	switch {
	case !cc.Initialize && cc.ConfigChangeId != r.change: // asked of other members
		return false
	case cc.Type == pb.RemoveNode:
		return !votes || len(r.voters) > 1
	case r.removed[cc.ReplicaID] || votes:
		return false
	case cc.Type == pb.AddNode && isLearner:
		return learns == cc.Address
	}
	return !isLearner && !r.has(cc.Address)
}

// has tells whether a node has a replica in the group.
func (r *roster) has(address string) bool {
	for _, all := range []map[uint64]string{r.voters, r.learners} {
		for _, a := range all {
			if a == address {
				return true
			}
		}
	}
	return false
}

func (r *roster) members() Members {
	return Members{Change: r.change, Voters: memberList(r.voters), Learners: memberList(r.learners)}
}
