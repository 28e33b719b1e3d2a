package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// build is what a node's greeting says of what it runs. Older ones say nothing.
type build struct {
	Version string           `json:"version,omitempty"`
	Level   controller.Level `json:"level,omitempty"`
}

func (s *Server) build() build { return build{s.version, controller.LevelBuild} }

// known is what a node runs, or why that is not known.
type known struct {
	controller.NodeBuild
	come bool
	why  string
}

// builds asks every node what it runs.
func (s *Server) builds(ctx context.Context) []known {
	m := s.cluster.Metadata()
	var ids []model.NodeID
	for i := range m.Nodes {
		ids = append(ids, m.Nodes[i].ID)
	}
	own := greeting{Node: s.n.ID, build: s.build(), Disk: s.identity.Load().Disk}
	return knownOf(m, append(s.ask(ctx, ids), own))
}

// knownOf puts together what nodes said and what the cluster knows: of one that does not
// answer what it was when it last came, if it has come since levels are kept. A node of
// another cluster may live where one of this did, and says nothing of it.
func knownOf(m *cluster.Metadata, said []greeting) []known {
	all := make([]known, 0, len(m.Nodes))
	for i := range m.Nodes {
		n := &m.Nodes[i]
		k := known{NodeBuild: controller.NodeBuild{ID: n.ID}, come: n.Come()}
		at := slices.IndexFunc(said, func(g greeting) bool { return g.Node == n.ID && !(g.Formed && g.Cluster != m.ClusterID) })
		switch {
		case at >= 0:
			k.Version, k.Level, k.Disk = said[at].Version, max(controller.LevelFirst, said[at].Level), said[at].Disk
		case n.Level > 0:
			k.Version, k.Level, k.Disk = n.Version, n.Level, n.Disk
		case k.come:
			k.why = "it does not answer"
		default:
			k.why = "it has never come"
		}
		all = append(all, k)
	}
	return all
}

// common gives the level that all nodes have, and what to propose it with. A founder
// that has never come and does not answer is not waited for.
func common(all []known) (controller.Level, []controller.NodeBuild) {
	var nodes []controller.NodeBuild
	for _, k := range all {
		if k.come || k.Level > 0 {
			nodes = append(nodes, k.NodeBuild) // one that is not known has level 0
		}
	}
	return controller.LevelOf(nodes), nodes
}

const (
	// levelEvery is how often who leads the controller asks the nodes that lack a level:
	// one that was started with a newer build changes nothing that could be watched.
	levelEvery = 10 * time.Second
	// levelPause lies between two such questions whatever changes.
	levelPause = time.Second
)

// raiseLevel raises the cluster's level while this node leads the controller, until it
// is this build's: a later one needs a newer build, and a start. It has the data
// directory say what the level is.
func (s *Server) raiseLevel(ctx context.Context) {
	changed, cancel := s.cluster.Watch()
	defer cancel()
	tick := time.NewTicker(levelEvery)
	defer tick.Stop()
	for low := false; ; low = true {
		m := s.cluster.Metadata()
		s.seal(m.Level)
		if m.Level >= controller.LevelBuild {
			if low { // it kept nothing that is new of what was registered
				if err := s.register(ctx, *s.identity.Load()); err != nil && ctx.Err() == nil {
					s.log.Warn("not registered again at a higher feature level", "err", err)
				}
			}
			return
		}
		if m.Controller == s.n.ID && m.Cluster.FeaturesAuto {
			if err := s.raise(ctx, 0); err != nil && ctx.Err() == nil {
				s.log.Debug("feature level not raised", "err", err)
			}
			s.seal(s.cluster.Metadata().Level)
			if !pause(ctx, levelPause) {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// seal writes the cluster's level into the data directory, so that no older build opens it.
func (s *Server) seal(level controller.Level) {
	id := *s.identity.Load()
	if level == controller.LevelFirst || level <= id.Level {
		return
	}
	id.Format, id.Level = formatLevels, level
	if _, err := writeIdentity(s.n.DataDir, id); err != nil {
		s.log.Error("feature level not noted in the data directory", "err", err)
		return
	}
	s.identity.Store(&id)
}

// activateWait bounds a proposal.
const activateWait = 10 * time.Second

// raise brings the cluster to a level; 0 is the highest that all nodes have.
func (s *Server) raise(ctx context.Context, level controller.Level) error {
	highest, nodes := common(s.builds(ctx))
	now := s.cluster.Metadata().Level
	if level == 0 {
		level = max(highest, now)
	}
	if level == now {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, activateWait)
	defer cancel()
	if err := s.cluster.ActivateFeatures(limited, level, nodes); err != nil {
		return fmt.Errorf("activate feature level %d: %w", level, err)
	}
	s.log.Info("feature level raised", "level", int(level), "was", int(now))
	return nil
}

// operateView answers the admin API's questions about operating the cluster.
type operateView struct{ s *Server }

// Features implements admin.Operate.
func (v operateView) Features(ctx context.Context) (api.Features, error) {
	all := v.s.builds(ctx)
	m := v.s.cluster.Metadata()
	highest, _ := common(all)
	f := api.Features{
		Active: int(m.Level), Common: int(max(highest, m.Level)), Build: int(controller.LevelBuild), Auto: m.Cluster.FeaturesAuto,
		Nodes: []api.NodeFeatures{}, Features: []api.Feature{},
	}
	for _, k := range all {
		f.Nodes = append(f.Nodes, api.NodeFeatures{Node: k.ID, Version: k.Version, Level: int(k.Level), Reason: k.why})
	}
	for _, feature := range controller.Features {
		state := "waiting"
		switch level := int(feature.Level); {
		case level <= f.Active:
			state = "active"
		case level <= f.Common:
			state = "available"
		}
		f.Features = append(f.Features, api.Feature{Name: feature.Name, Level: int(feature.Level), State: state, Doc: feature.Doc})
	}
	return f, nil
}

// ActivateFeatures implements admin.Operate.
func (v operateView) ActivateFeatures(ctx context.Context, level int) (api.Features, error) {
	if level > int(controller.LevelBuild) {
		return api.Features{}, fmt.Errorf("%w: this build knows feature levels up to %d", api.ErrInvalid, controller.LevelBuild)
	}
	if err := v.s.raise(ctx, controller.Level(level)); err != nil {
		return api.Features{}, adminError(err)
	}
	return v.Features(ctx)
}
