package move

import (
	"reflect"
	"sync"
	"testing"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

type births map[model.ShardID]model.Birth

func (b births) Birth(shard model.ShardID) (model.Birth, bool) {
	birth, ok := b[shard]
	return birth, ok
}

const shard model.ShardID = 100

// TestSeats: which replica node 0 is to run, by what it has and by what leaders have said.
func TestSeats(t *testing.T) {
	const none = -1
	on := func(births ...model.Birth) cluster.Partition {
		return cluster.Partition{Shard: shard, Replicas: []model.NodeID{0, 1}[:len(births)], Births: births}
	}
	comes := cluster.Partition{Shard: shard, Replicas: []model.NodeID{1}, Move: &controller.Move{Replicas: []model.NodeID{0}, Births: []model.Birth{4}}}
	goes := cluster.Partition{Shard: shard, Replicas: []model.NodeID{1}, Births: []model.Birth{2}, Move: &controller.Move{In: true, Leaving: []model.NodeID{0}, Replicas: []model.NodeID{1}, Births: []model.Birth{2}}}
	gone := cluster.Partition{Shard: shard, Replicas: []model.NodeID{1}}
	for name, c := range map[string]struct {
		p           cluster.Partition
		have, heard int
		want        int
		runs        bool
	}{
		"it has nothing yet":           {on(3), none, none, 3, false},
		"it has the one":               {on(3), 3, none, 3, true},
		"it has an older one, no move": {on(3), 1, none, 3, false},
		"it is elsewhere":              {gone, none, none, none, false},
		"it was left":                  {gone, 1, none, none, false},
		"it is leaving":                {goes, 1, none, 1, true},
		"it comes":                     {comes, none, none, 4, false},
		"it came":                      {comes, 4, 4, 4, true},
		"an older one may vote":        {comes, 1, none, 1, true},
		"word of the older one":        {comes, 1, 1, 1, true},
		"the older one is out":         {comes, 1, 4, 4, false},
	} {
		has := births{}
		if c.have != none {
			has[shard] = model.Birth(c.have)
		}
		s := NewSeats(0, has)
		if c.heard != none {
			s.Hear(shard, model.Birth(c.heard))
		}
		got := none
		if seat, ok := s.Seat(&c.p); ok {
			got = int(seat.Birth)
		}
		if runs := s.Runs(&c.p); got != c.want || runs != c.runs {
			t.Errorf("%s: replica %d, runs %v", name, got, runs)
		}
	}
}

// TestNews: only a newer replica is news, and what nobody took yet is one.
func TestNews(t *testing.T) {
	s := NewSeats(0, births{})
	var work sync.WaitGroup
	for b := range model.Birth(5) {
		work.Go(func() { s.Hear(shard, b) })
	}
	work.Wait()
	news := func() (n int) {
		for {
			select {
			case <-s.News():
				n++
			default:
				return n
			}
		}
	}
	if n := news(); n != 1 {
		t.Errorf("%d times news, want 1", n)
	}
	s.Hear(shard, 4)
	s.Hear(shard, 1)
	if n := news(); n != 0 {
		t.Errorf("%d times news of what is known", n)
	}
	s.Forget(shard)
	s.Hear(shard, 1)
	if n := news(); n != 1 {
		t.Errorf("%d times news after all was forgotten, want 1", n)
	}
}

// TestReplica: founders make the group, all others join it, and are told of who comes.
func TestReplica(t *testing.T) {
	made := cluster.Partition{Shard: shard, Replicas: []model.NodeID{0, 1}, Move: &controller.Move{Replicas: []model.NodeID{2}, Births: []model.Birth{1}}}
	moved := made
	moved.Moved = 7
	two, three := []model.NodeID{0, 1}, []model.NodeID{0, 1, 2}
	for _, c := range []struct {
		p     cluster.Partition
		birth model.Birth
		want  raft.Replica
	}{
		{made, 0, raft.Replica{Shard: shard, Members: two}},
		{made, 1, raft.Replica{Shard: shard, Birth: 1, Members: three, Joins: true}},
		{moved, 0, raft.Replica{Shard: shard, Members: three, Joins: true}},
	} {
		if got := Replica(&c.p, c.birth); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}
