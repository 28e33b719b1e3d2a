package controller

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/model"
)

// Level counts what builds of Millrace know. A cluster is at the least level of its nodes:
// what a level brings is used only once all of them have it, since a node that passes
// over a command which others carry out is no longer the same as they are.
type Level int

// The levels. They only grow.
const (
	// LevelFirst is of the builds that said nothing of levels.
	LevelFirst Level = 1
	// LevelSecond is of the builds that first knew levels.
	LevelSecond Level = 2
	// LevelThird is of the builds that know who is left behind when a move is changed.
	LevelThird Level = 3

	// LevelBuild is this build's.
	LevelBuild = LevelThird
)

// Feature is a thing that a level brings.
type Feature struct {
	Name  string
	Level Level
	Doc   string
}

// Features lists what levels bring, in their order.
var Features = []Feature{
	{"feature-levels", LevelSecond, "The cluster knows each node's build, and a node of an older one is refused."},
	{"named-listeners", LevelSecond, "Nodes advertise an address for each Kafka listener that has a name."},
	{"joining", LevelSecond, "Nodes join, come back by another disk, and leave when they are decommissioned and empty."},
	{"racks", LevelSecond, "A partition's replicas lie in different racks, and a script's children leave a node with their parent."},
	{"balance", LevelSecond, "Replicas and leaders move on their own."},
	{"maintenance", LevelSecond, "A node may be kept from leading."},
	{"renewal", LevelSecond, "A replica whose log or files are damaged begins anew from the others."},
	{"left-behind", LevelThird, "Where a move is changed or cancelled, the nodes that it leaves behind hold the partition until they are out of its group."},
}

// ActivateFeatures raises the cluster to a level. Nodes says what each node is, as its
// proposer was told by them: before it no state holds that, for older nodes would not.
type ActivateFeatures struct {
	Level Level       `json:"level"`
	Nodes []NodeBuild `json:"nodes"`
}

// NodeBuild is what a node runs.
type NodeBuild struct {
	ID      model.NodeID `json:"id"`
	Version string       `json:"version"`
	Level   Level        `json:"level"`
	Disk    string       `json:"disk,omitempty"` // see Node
}

// Level is what all nodes of the cluster know, and therefore do. It never falls.
func (s *State) Level() Level { return max(LevelFirst, s.level) }

// level is what a cluster must be at for the command to be carried out. A node of an
// older build passes it over, and so must all. Those of the first level are named,
// so that a new one is held back by itself; a field that is new in an old
// command must be by whoever reads it.
func (c *Command) level() Level {
	switch {
	case c.RegisterNode != nil, c.CreateTopics != nil, c.DeleteTopics != nil, c.CreatePartitions != nil,
		c.SetTopicConfigs != nil, c.SetClusterConfigs != nil, c.AllocateProducers != nil,
		c.DeployScript != nil, c.PauseScript != nil, c.SeekScript != nil, c.RemoveScript != nil, c.DropScript != nil,
		c.ReassignPartitions != nil, c.Moved != nil, c.DecommissionNode != nil, c.RecommissionNode != nil:
		return LevelFirst
	case c.ActivateFeatures != nil, c.ForgetLost != nil:
		return LevelFirst // it asks the nodes itself; who is left after a loss runs what wrote this
	case *c == Command{Version: c.Version, At: c.At, Seed: c.Seed}:
		return LevelFirst // of a newer build: step refuses it
	}
	return LevelSecond
}

// early says why a command cannot be carried out yet.
func (s *State) early(c *Command) *Refusal {
	if need := c.level(); need > s.Level() {
		return refuse(ErrFeatureLevel, "this needs feature level %d, the cluster is at %d until all nodes run a build that has it; `millrace cluster features list` shows which do not", need, s.Level())
	}
	return nil
}

// activateFeatures is refused unless every node that has come is said to know the level.
func (s *State) activateFeatures(c *ActivateFeatures) (Result, bool) {
	switch {
	case c.Level < s.Level():
		return refused(refuse(ErrFeatureLevel, "level %d is below %d, which the cluster is at; levels never fall", c.Level, s.Level()))
	case c.Level == s.Level():
		return Result{}, false
	}
	builds := map[model.NodeID]NodeBuild{}
	for _, b := range c.Nodes {
		builds[b.ID] = b
	}
	var short []string
	for _, n := range s.Nodes() {
		b, known := builds[n.ID]
		switch {
		case !n.Come() && !known:
		case !known:
			short = append(short, fmt.Sprintf("node %d is not known", n.ID))
		case b.Level < c.Level:
			short = append(short, fmt.Sprintf("node %d has %d", n.ID, max(LevelFirst, b.Level)))
		}
	}
	if len(short) > 0 {
		return refused(refuse(ErrFeatureLevel, "level %d is not every node's: %s", c.Level, strings.Join(short, ", ")))
	}
	s.level = c.Level
	for id, b := range builds {
		if old, ok := s.nodes[id]; ok && old.Come() {
			n := *old
			n.Version, n.Level, n.Disk = b.Version, b.Level, b.Disk
			s.nodes[id] = &n
		}
	}
	return Result{}, true
}

// judgeBuild refuses a node whose build knows less than the cluster does. While the
// cluster is at the first level what the node says of its build is dropped: nodes of
// that level do not keep it, and all states are one.
func (s *State) judgeBuild(n *Node) *Refusal {
	if s.Level() == LevelFirst {
		n.Version, n.Level, n.Disk, n.Listeners = "", 0, "", nil
		return nil
	}
	if known := max(LevelFirst, n.Level); known < s.Level() {
		return refuse(ErrOldBuild, "node %d (%s) knows feature level %d, the cluster is at %d, which it never leaves: start a newer build",
			n.ID, orUnknown(n.Version), known, s.Level())
	}
	return nil
}

func orUnknown(version string) string {
	if version == "" {
		return "version unknown"
	}
	return version
}

// LevelOf gives the level that all these nodes have: at least the first, at most this
// build's.
func LevelOf(nodes []NodeBuild) Level {
	if len(nodes) == 0 {
		return LevelFirst
	}
	least := slices.MinFunc(nodes, func(a, b NodeBuild) int { return int(a.Level) - int(b.Level) })
	return min(max(LevelFirst, least.Level), LevelBuild)
}
