package move

import (
	"slices"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// votersWanted are so many of the controller's group, of the nodes that stay: the rest
// learn. Who has a vote keeps it until the node goes.
const votersWanted, votersWantedLarge = 3, 5

// NextQuorum says what is to be done for the controller's group, given the nodes and who is
// in it; self leads it. DoNothing: it is what it should be, or waits for nodes. A node has
// one replica there, so what it had goes before what it has; and votes that go are
// made up for first.
func NextQuorum(nodes []cluster.Node, group raft.Members, self model.NodeID) Action {
	named, stays, votes := map[raft.Member]bool{}, map[model.NodeID]bool{}, 0
	for i := range nodes {
		n := &nodes[i]
		named[raft.Member{Node: n.ID, Birth: n.Birth}] = true
		stays[n.ID] = n.State != controller.NodeDecommissioning
	}
	for _, l := range group.Learners {
		if !named[l] {
			return Action{Do: DoForget, Member: l}
		}
	}
	in := map[model.NodeID]bool{}
	var going []raft.Member
	for _, v := range group.Voters {
		in[v.Node] = true
		_, known := stays[v.Node]
		switch {
		case named[v]:
			if stays[v.Node] {
				votes++
			}
		case known:
			return Action{Do: DoRemove, Member: v} // its node is back with another disk
		default:
			going = append(going, v)
		}
	}
	for _, l := range group.Learners {
		in[l.Node] = true
	}
	staying := 0
	for i := range nodes {
		n := &nodes[i]
		if n.Birth > 0 && n.RPC != "" && !in[n.ID] {
			return Action{Do: DoAdd, Member: raft.Member{Node: n.ID, Birth: n.Birth}}
		}
		if stays[n.ID] && n.Come() {
			staying++
		}
	}
	learners := slices.DeleteFunc(slices.Clone(group.Learners), func(l raft.Member) bool { return !stays[l.Node] })
	if votes < votersOf(staying) && len(learners) > 0 {
		return Action{Do: DoPromote, After: learners}
	}
	return takeOut(going, self)
}

// votersOf is how many of so many nodes are to vote.
func votersOf(nodes int) int {
	switch {
	case nodes >= votersWantedLarge:
		return votersWantedLarge
	case nodes >= votersWanted:
		return votersWanted
	}
	return 1
}
