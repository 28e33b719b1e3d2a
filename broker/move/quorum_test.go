package move

import (
	"testing"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// TestNextQuorum: what the node that leads the controller's group, 0, does next.
func TestNextQuorum(t *testing.T) {
	node := func(id model.NodeID, birth model.Birth) cluster.Node {
		return cluster.Node{ID: id, Birth: birth, RPC: "at"}
	}
	going := func(n cluster.Node) cluster.Node {
		n.State = controller.NodeDecommissioning
		return n
	}
	seat := func(id model.NodeID, birth model.Birth) raft.Member { return raft.Member{Node: id, Birth: birth} }
	founders := []raft.Member{seat(0, 0), seat(1, 0), seat(2, 0)}
	three := []cluster.Node{node(0, 0), node(1, 0), node(2, 0)}
	for name, c := range map[string]struct {
		nodes []cluster.Node
		group raft.Members
		do    Do
		whose raft.Member
	}{
		"all is well":                  {three, raft.Members{Voters: founders}, DoNothing, raft.Member{}},
		"a founder has yet to come":    {[]cluster.Node{node(0, 0), node(1, 0), {ID: 2}}, raft.Members{Voters: founders}, DoNothing, raft.Member{}},
		"one joins":                    {append(three[:3:3], node(3, 1)), raft.Members{Voters: founders}, DoAdd, seat(3, 1)},
		"it learns":                    {append(three[:3:3], node(3, 1)), raft.Members{Voters: founders, Learners: []raft.Member{seat(3, 1)}}, DoNothing, raft.Member{}},
		"a disk is lost":               {[]cluster.Node{node(0, 0), node(1, 1), node(2, 0)}, raft.Members{Voters: founders}, DoRemove, seat(1, 0)},
		"it is out":                    {[]cluster.Node{node(0, 0), node(1, 1), node(2, 0)}, raft.Members{Voters: []raft.Member{seat(0, 0), seat(2, 0)}}, DoAdd, seat(1, 1)},
		"it learns anew":               {[]cluster.Node{node(0, 0), node(1, 1), node(2, 0)}, raft.Members{Voters: []raft.Member{seat(0, 0), seat(2, 0)}, Learners: []raft.Member{seat(1, 1)}}, DoPromote, raft.Member{}},
		"a learner's disk is lost":     {append(three[:3:3], node(3, 2)), raft.Members{Voters: founders, Learners: []raft.Member{seat(3, 1)}}, DoForget, seat(3, 1)},
		"a voter leaves, one is left":  {append([]cluster.Node{node(0, 0), node(1, 0), going(node(2, 0))}, node(3, 1)), raft.Members{Voters: founders, Learners: []raft.Member{seat(3, 1)}}, DoPromote, raft.Member{}},
		"a voter leaves, none is left": {[]cluster.Node{node(0, 0), node(1, 0), going(node(2, 0))}, raft.Members{Voters: founders}, DoNothing, raft.Member{}},
		"it has left":                  {[]cluster.Node{node(0, 0), node(1, 0)}, raft.Members{Voters: founders}, DoRemove, seat(2, 0)},
		"this one has left":            {[]cluster.Node{node(1, 0), node(2, 0)}, raft.Members{Voters: founders}, DoHandOver, seat(0, 0)},
		"two have left":                {[]cluster.Node{node(0, 0)}, raft.Members{Voters: founders}, DoRemove, seat(1, 0)},
		"this one and another left":    {[]cluster.Node{node(1, 0)}, raft.Members{Voters: founders}, DoRemove, seat(2, 0)},
		"a learner has left":           {three, raft.Members{Voters: founders, Learners: []raft.Member{seat(3, 1)}}, DoForget, seat(3, 1)},
		"two make one vote":            {[]cluster.Node{node(0, 0), node(1, 1)}, raft.Members{Voters: founders[:1], Learners: []raft.Member{seat(1, 1)}}, DoNothing, raft.Member{}},
		"three make three":             {[]cluster.Node{node(0, 0), node(1, 1), node(2, 1)}, raft.Members{Voters: founders[:1], Learners: []raft.Member{seat(1, 1), seat(2, 1)}}, DoPromote, raft.Member{}},
		"nobody leaving is promoted":   {[]cluster.Node{node(0, 0), going(node(1, 1)), node(2, 1), node(3, 1)}, raft.Members{Voters: founders[:1], Learners: []raft.Member{seat(1, 1)}}, DoAdd, seat(2, 1)},
		"five make five":               {append(three[:3:3], node(3, 1), node(4, 1)), raft.Members{Voters: founders, Learners: []raft.Member{seat(3, 1), seat(4, 1)}}, DoPromote, raft.Member{}},
	} {
		if a := NextQuorum(c.nodes, c.group, 0); a.Do != c.do || a.Member != c.whose {
			t.Errorf("%s: %q %v, want %q %v", name, a.Do, a.Member, c.do, c.whose)
		}
	}
}
