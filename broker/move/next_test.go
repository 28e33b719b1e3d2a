package move

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

func members(of ...uint32) (all []raft.Member) {
	for i := 0; i < len(of); i += 2 {
		all = append(all, raft.Member{Node: model.NodeID(of[i]), Birth: model.Birth(of[i+1])})
	}
	return all
}

// TestNext: what is done for a move, by who is in the group.
func TestNext(t *testing.T) {
	move := func(in bool, nodes []model.NodeID, births ...model.Birth) *controller.Move {
		return &controller.Move{Replicas: nodes, Births: births, In: in}
	}
	alone := cluster.Partition{Replicas: []model.NodeID{0}, Move: move(false, []model.NodeID{1, 2}, 1, 2)}
	in := cluster.Partition{Replicas: []model.NodeID{1, 2}, Births: []model.Birth{1, 2}, Move: move(true, []model.NodeID{1, 2}, 1, 2)}
	for _, c := range []struct {
		p                cluster.Partition
		voters, learners []raft.Member
		want             string
	}{
		{alone, members(0, 0), nil, "add a learner {1 1} after []"},
		{alone, members(0, 0), members(1, 1), "add a learner {2 2} after [{1 1}]"},
		{alone, members(0, 0), members(1, 1, 2, 2), "promote {1 1} after [{1 1} {2 2}]"},
		{alone, members(0, 0, 1, 1), members(2, 2), "promote {2 2} after [{2 2}]"},
		{alone, members(0, 0, 1, 1, 2, 2), nil, "tell that it has moved {0 0} after []"},
		{alone, members(0, 0), members(1, 7), "remove a learner {1 7} after []"},
		{alone, members(0, 0, 3, 7), nil, "remove a voter {3 7} after []"},
		{in, members(0, 0, 1, 1, 2, 2, 4, 0, 5, 0), nil, "remove a voter {4 0} after [] or [{5 0}]"},
		{in, members(0, 0, 1, 1, 2, 2), nil, "hand over {0 0} after []"},
		{in, members(0, 0, 1, 1, 2, 2, 5, 0), nil, "remove a voter {5 0} after []"},
		{in, members(1, 1, 2, 2), nil, "tell that it has moved {0 0} after []"},
	} {
		a := next(&c.p, raft.Members{Voters: c.voters, Learners: c.learners}, 0)
		got := fmt.Sprint(a.Do, " ", a.Member, " after ", a.After)
		if len(a.Or) > 0 {
			got += fmt.Sprint(" or ", a.Or)
		}
		if got != c.want {
			t.Errorf("of %v, %v: %s; want %s", c.voters, c.learners, got, c.want)
		}
	}
}

// TestMoves follows random moves, cancels and crashes of leaders to their end, as a model
// of the group takes them: there are never fewer voters than the fewer of before and
// after, no replica comes twice, and each move ends.
func TestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := controller.New()
		for n := range model.NodeID(5) {
			s.Step(controller.Command{RegisterNode: &controller.RegisterNode{Node: controller.Node{ID: n, Host: "h"}, ClusterID: "x"}})
		}
		s.Step(controller.Command{CreateTopics: &controller.CreateTopics{Topics: []controller.NewTopic{{Name: "a", Partitions: 1, Replication: rapid.Int16Range(1, 3).Draw(t, "rf")}}}})
		topic := s.Topics()[0]
		g := &group{removed: map[raft.Member]bool{}}
		for _, seat := range topic.Partitions[0].Seats() {
			g.Voters = append(g.Voters, raft.Member(seat))
		}
		id := topic.PartitionID(0)
		for range rapid.IntRange(1, 6).Draw(t, "moves") {
			ask := controller.Reassignment{Partition: id, Cancel: rapid.IntRange(0, 3).Draw(t, "cancel") == 0}
			if !ask.Cancel {
				for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 4), 1, 3, rapid.ID).Draw(t, "goal") {
					ask.Replicas = append(ask.Replicas, model.NodeID(n))
				}
			}
			s.Step(controller.Command{ReassignPartitions: &controller.ReassignPartitions{Partitions: []controller.Reassignment{ask}}})
			g.follow(t, s, id, rapid.IntRange(0, 12).Draw(t, "steps"))
		}
		g.follow(t, s, id, 100)
		p := s.Topics()[0].Partitions[0]
		if p.Move != nil || len(g.Learners) > 0 || len(g.Voters) != len(p.Replicas) {
			t.Fatalf("it does not end: %+v, %+v, group %+v", p, p.Move, g.Members)
		}
		for _, seat := range p.Seats() {
			if !slices.Contains(g.Voters, raft.Member(seat)) {
				t.Fatalf("replicas %v, group %v", p.Seats(), g.Voters)
			}
		}
	})
}

// group is a model of a Raft group.
type group struct {
	raft.Members
	removed map[raft.Member]bool
}

func (g *group) follow(t *rapid.T, s *controller.State, id model.PartitionID, steps int) {
	for range steps {
		p := s.Topics()[0].Partitions[0]
		if p.Move == nil {
			return
		}
		leader := rapid.SampledFrom(g.Voters).Draw(t, "leader")
		a := next(&p, g.Members, leader.Node)
		least := min(len(p.Replicas), len(p.Move.Replicas))
		switch a.Do {
		case DoAdd:
			both := slices.Concat(g.Voters, g.Learners)
			if g.removed[a.Member] || slices.ContainsFunc(both, func(m raft.Member) bool { return m.Node == a.Member.Node }) {
				t.Fatalf("%+v is added to %+v", a.Member, g.Members)
			}
			g.Learners = append(g.Learners, a.Member)
		case DoPromote:
			g.Learners = slices.DeleteFunc(g.Learners, func(m raft.Member) bool { return m == a.Member })
			g.Voters = append(g.Voters, a.Member)
		case DoForget, DoRemove:
			g.removed[a.Member] = true
			out := func(m raft.Member) bool { return m == a.Member }
			g.Voters, g.Learners = slices.DeleteFunc(slices.Clone(g.Voters), out), slices.DeleteFunc(slices.Clone(g.Learners), out)
			if len(g.Voters) < least || a.Member == leader {
				t.Fatalf("%+v is removed, %+v are left", a.Member, g.Members)
			}
		case DoMoved:
			s.Step(controller.Command{Moved: &controller.Moved{Partition: id, Revision: p.Move.Revision}})
		}
	}
}
