package server

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

func TestCommon(t *testing.T) {
	node := func(id int32, come bool, level controller.Level) known {
		return known{NodeBuild: controller.NodeBuild{ID: model.NodeID(id), Level: level}, come: come}
	}
	const build = controller.LevelBuild
	for name, c := range map[string]struct {
		nodes []known
		want  controller.Level
		named int
	}{
		"all have it":         {[]known{node(0, true, build), node(1, true, build+1)}, build, 2},
		"one is older":        {[]known{node(0, true, build), node(1, true, 1)}, 1, 2},
		"one does not answer": {[]known{node(0, true, build), node(1, true, 0)}, 1, 2},
		"one never came":      {[]known{node(0, true, build), node(1, false, 0)}, build, 1},
		"one is coming":       {[]known{node(0, true, build), node(1, false, 1)}, 1, 2},
	} {
		if got, named := common(c.nodes); got != c.want || len(named) != c.named {
			t.Errorf("%s: level %d of %d nodes", name, got, len(named))
		}
	}
}

// TestLevelIsRaised: a node that is alone is at its build's level soon, says so in its
// directory, and a directory of a later one is refused.
func TestLevelIsRaised(t *testing.T) {
	dir := t.TempDir()
	s, _ := newNode(t, dir)
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	patience := time.After(30 * time.Second)
	for s.identity.Load().Level != controller.LevelBuild {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-patience:
			t.Fatalf("level %d, noted %d", s.cluster.Metadata().Level, s.identity.Load().Level)
		}
	}
	view := operateView{s}
	f, err := view.Features(t.Context())
	if err != nil || f.Active != int(controller.LevelBuild) || f.Common != f.Active || len(f.Nodes) != 1 || f.Nodes[0].Version != "test" || f.Features[0].State != "active" {
		t.Errorf("%+v %v", f, err)
	}
	if _, err := view.ActivateFeatures(t.Context(), 0); err != nil {
		t.Errorf("what is active already: %v", err)
	}
	if _, err := view.ActivateFeatures(t.Context(), 1); !errors.Is(err, api.ErrConflict) {
		t.Errorf("lowered: %v", err)
	}
	if _, err := view.ActivateFeatures(t.Context(), int(controller.LevelBuild)+1); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("beyond what is known: %v", err)
	}
	n, err := s.registration()
	if err != nil {
		t.Fatal(err)
	}
	n.Level = controller.LevelFirst
	if _, err := s.cluster.RegisterNode(t.Context(), n, ""); !errors.Is(err, cluster.ErrOldBuild) {
		t.Errorf("an older build: %v", err)
	}
	noted, err := openIdentity(dir, s.n.ID, nil)
	if err != nil || noted.Format != formatLevels || noted.Level != controller.LevelBuild {
		t.Fatalf("%+v %v", noted, err)
	}
	other := t.TempDir()
	noted.Level++
	if _, err := writeIdentity(other, noted); err != nil {
		t.Fatal(err)
	}
	if _, err := openIdentity(other, s.n.ID, nil); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("of a later level: %v", err)
	}
}

// TestKnownOf: who answers is believed, who does not is what the cluster has noted, and a
// stranger in its place is nobody.
func TestKnownOf(t *testing.T) {
	m := &cluster.Metadata{ClusterID: "ours", Nodes: []cluster.Node{
		{ID: 0, Host: "a"}, {ID: 1, Host: "b"}, {ID: 2, Host: "c", Version: "v2", Level: 2}, {ID: 3, Host: "d"}, {ID: 4}, {ID: 5},
	}}
	said := []greeting{
		{Node: 0, Cluster: "ours", Formed: true, build: build{"v3", 3}},
		{Node: 1, Cluster: "ours", Formed: true}, // it knows no levels
		{Node: 3, Cluster: "theirs", Formed: true, build: build{"v3", 3}},
		{Node: 5, Cluster: "drawn", build: build{"v3", 3}}, // a founder that is about to come
	}
	for i, want := range []known{
		{NodeBuild: controller.NodeBuild{Version: "v3", Level: 3}, come: true},
		{NodeBuild: controller.NodeBuild{Level: controller.LevelFirst}, come: true},
		{NodeBuild: controller.NodeBuild{Version: "v2", Level: 2}, come: true},
		{come: true, why: "it does not answer"},
		{why: "it has never come"},
		{NodeBuild: controller.NodeBuild{Version: "v3", Level: 3}},
	} {
		want.ID = model.NodeID(i)
		if got := knownOf(m, said)[i]; got != want {
			t.Errorf("node %d: %+v, want %+v", i, got, want)
		}
	}
}
