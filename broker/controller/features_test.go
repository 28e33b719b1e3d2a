package controller

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
)

// featureCommand reads activate 2 nodes=0:2,1:1, node 0 having level 2 and node 1 level 1.
func featureCommand(verb, name string, a args) (Command, bool) {
	if verb != "activate" {
		return Command{}, false
	}
	level, _ := strconv.Atoi(name)
	c := &ActivateFeatures{Level: Level(level)}
	for _, n := range a.list("nodes") {
		id, has, _ := strings.Cut(n, ":")
		node, _ := strconv.Atoi(id)
		known, _ := strconv.Atoi(has)
		c.Nodes = append(c.Nodes, NodeBuild{ID: model.NodeID(node), Version: "v" + has, Level: Level(known)})
	}
	return Command{ActivateFeatures: c}, true
}

// firstCommands are those of the builds that knew no levels. It must never grow.
var firstCommands = []string{
	"RegisterNode", "CreateTopics", "DeleteTopics", "CreatePartitions", "SetTopicConfigs", "SetClusterConfigs", "AllocateProducers",
	"DeployScript", "PauseScript", "SeekScript", "RemoveScript", "DropScript", "ReassignPartitions", "Moved", "DecommissionNode", "RecommissionNode",
}

// TestNewCommandsWait: what builds of the first level pass over is passed over by all
// until the cluster is at a level that all have.
func TestNewCommandsWait(t *testing.T) {
	kind := reflect.TypeFor[Command]()
	for i := range kind.NumField() {
		f := kind.Field(i)
		if f.Type.Kind() != reflect.Pointer || f.Name == "ActivateFeatures" || f.Name == "ForgetLost" {
			continue
		}
		var c Command
		reflect.ValueOf(&c).Elem().Field(i).Set(reflect.New(f.Type.Elem()))
		old := slices.Contains(firstCommands, f.Name)
		if old != (c.level() == LevelFirst) {
			t.Errorf("%s is of level %d", f.Name, c.level())
		}
		s := New()
		before := s.Snapshot()
		r := s.Step(c)
		if !old && (!errors.Is(r.Refused.Err(), ErrFeatureLevel) || string(s.Snapshot()) != string(before)) {
			t.Errorf("%s at the first level: %v", f.Name, r.Refused)
		}
	}
	for _, f := range Features {
		if f.Level > LevelBuild || f.Name == "" || f.Doc == "" {
			t.Errorf("feature %+v", f)
		}
	}
}

// TestOldAndNewAgree: while nodes of the first level are there, who hears of levels
// and who does not hold the same state.
func TestOldAndNewAgree(t *testing.T) {
	said, silent := New(), New()
	for _, s := range []*State{said, silent} { // an older build has formed it
		s.Step(Command{RegisterNode: &RegisterNode{Node: Node{ID: 0, Host: "z"}, ClusterID: "x"}})
	}
	for _, n := range []Node{{ID: 0, Host: "a"}, {ID: 1, Host: "b"}, {ID: 0, Host: "a"}} {
		silent.Step(Command{RegisterNode: &RegisterNode{Node: n, ClusterID: "x"}})
		n.Version, n.Level = "v2", LevelBuild
		said.Step(Command{RegisterNode: &RegisterNode{Node: n, ClusterID: "x"}})
	}
	if string(said.Snapshot()) != string(silent.Snapshot()) {
		t.Errorf("they differ:\n%s\n%s", said.Snapshot(), silent.Snapshot())
	}
}

// TestNewerClusterIsNotRead: a build does not start from the state of a cluster whose
// level it does not know.
func TestNewerClusterIsNotRead(t *testing.T) {
	s := New()
	s.Step(Command{RegisterNode: &RegisterNode{Node: Node{ID: 0, Host: "a"}, ClusterID: "x"}})
	r := s.Step(Command{ActivateFeatures: &ActivateFeatures{Level: LevelBuild + 1, Nodes: []NodeBuild{{ID: 0, Level: LevelBuild + 1}}}})
	if r.Refused != nil || s.Level() != LevelBuild+1 {
		t.Fatalf("level %d, %v", s.Level(), r.Refused)
	}
	if _, err := Restore(s.Snapshot()); !errors.Is(err, ErrSnapshotFormat) {
		t.Errorf("it was read: %v", err)
	}
}

func TestLevelOf(t *testing.T) {
	for _, c := range []struct {
		levels []Level
		want   Level
	}{
		{nil, LevelFirst}, {[]Level{0, LevelBuild}, LevelFirst},
		{[]Level{LevelBuild, LevelBuild + 1}, LevelBuild}, {[]Level{LevelBuild + 1}, LevelBuild},
	} {
		var nodes []NodeBuild
		for _, l := range c.levels {
			nodes = append(nodes, NodeBuild{Level: l})
		}
		if got := LevelOf(nodes); got != c.want {
			t.Errorf("%v: %d", c.levels, got)
		}
	}
}
