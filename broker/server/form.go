package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

var (
	// ErrWiped says that the cluster knows a node of this id, and the data directory
	// knows no cluster. What the node gave its word for is lost: it may not vote as what it
	// was, and comes back as another.
	ErrWiped = errors.New("the disk of this node was lost or replaced")
	// ErrGone says that the node was decommissioned, or that another disk has its id by now.
	ErrGone = errors.New("this data directory is no part of its cluster any more; start with an empty one")
	// ErrOtherCluster says that a node at the address of a seed is of another cluster.
	ErrOtherCluster = errors.New("a seed is of another cluster")
)

// greeting is what a node answers to who asks whom it meets.
type greeting struct {
	Node    model.NodeID `json:"node"`
	Cluster string       `json:"cluster"`
	Formed  bool         `json:"formed"`
	// Settled: Come is right. A node that has just started may not know yet.
	Settled bool           `json:"settled"`
	Come    []model.NodeID `json:"come"` // nodes that have been part of the cluster
	build
	Gone []model.NodeID `json:"gone,omitempty"`
	Lost []lostNode     `json:"lost,omitempty"`
	// Deployment is the cluster's; of builds that do not tell it is 0. Disk is the node's own,
	// Disks are those of Come.
	Deployment uint64                  `json:"deployment,omitempty"`
	Disk       string                  `json:"disk,omitempty"`
	Disks      map[model.NodeID]string `json:"disks,omitempty"`
	// Births are those of Come and Gone, by metadata that may be behind.
	Births map[model.NodeID]model.Birth `json:"births,omitempty"`
	// At is where nodes live, by the metadata of this version.
	At       map[model.NodeID]string `json:"at,omitempty"`
	Metadata uint64                  `json:"metadata,omitempty"`
}

// sameSeeds tells whether who greets was formed by the same seeds as far as is known.
func (g *greeting) sameSeeds(id identity) bool {
	return g.Deployment == 0 || g.Deployment == id.Deployment
}

// knows tells whether the cluster of who greets has had a node of this id.
func (g *greeting) knows(id identity) bool {
	return g.sameSeeds(id) && (slices.Contains(g.Come, id.Node) || slices.Contains(g.Gone, id.Node))
}

// behind tells whether what is said of this node is of a birth before the one that it has: who has just started
// itself may not know yet that this node came back.
func (g *greeting) behind(id identity) bool {
	birth, ok := g.Births[id.Node]
	return ok && birth < id.Birth
}

// greet answers raft.MethodIdentity.
func (s *Server) greet() ([]byte, error) {
	id := s.identity.Load()
	g := greeting{
		Node: id.Node, Cluster: id.Cluster, Formed: id.Formed, Settled: !id.Formed, build: s.build(),
		Deployment: id.Deployment, Disk: id.Disk, Lost: id.Lost,
		Disks: map[model.NodeID]string{}, At: map[model.NodeID]string{}, Births: map[model.NodeID]model.Birth{},
	}
	if c := s.shared.Load(); c != nil && id.Formed {
		m := c.Metadata()
		g.Settled, g.Metadata = m.ClusterID != "", m.Version
		for i := range m.Nodes {
			g.At[m.Nodes[i].ID] = m.Nodes[i].RPC
			if m.Nodes[i].Come() {
				g.Come = append(g.Come, m.Nodes[i].ID)
				g.Disks[m.Nodes[i].ID] = m.Nodes[i].Disk
				g.Births[m.Nodes[i].ID] = m.Nodes[i].Birth
			}
		}
		g.Gone = slices.Sorted(maps.Keys(m.Gone))
		maps.Copy(g.Births, m.Gone)
	}
	return json.Marshal(g)
}

const (
	// meetEvery is how often a node that waits for others asks them.
	meetEvery = 200 * time.Millisecond
	// meetWait bounds one question.
	meetWait = 2 * time.Second
	// meetTell is how often it says whom it waits for.
	meetTell = 10 * time.Second
)

// meet returns when this node may vote: at once if it has been part of its cluster,
// else when it has met as many founders as are a majority with it. If one of them knows
// it, by another disk, it is another node from then on.
func (s *Server) meet(ctx context.Context, id identity) error {
	members := id.members()
	told := time.Now()
	for {
		met := 1
		for _, g := range s.ask(ctx, members) {
			err := id.judge(g)
			if errors.Is(err, ErrWiped) {
				return s.comeBack(ctx, id)
			}
			if err != nil {
				return err
			}
			if g.Settled && g.sameSeeds(id) {
				met++
			}
		}
		if id.Formed || id.Birth > 0 || met > len(members)/2 {
			return nil
		}
		if time.Since(told) > meetTell {
			told = time.Now()
			s.log.Info("waiting for other founders", "met", met-1, "founders", members)
		}
		if !pause(ctx, meetEvery) {
			return ctx.Err()
		}
	}
}

// comeBack is for a founder that learns only now that it was here before.
func (s *Server) comeBack(ctx context.Context, id identity) error {
	for {
		joined, _, err := s.tryJoin(ctx, s.raft, id)
		if now := s.identity.Load(); joined && now.Deployment != id.Deployment {
			return fmt.Errorf("%w: it is taken in again; start it once more, with an empty data directory", ErrWiped)
		}
		if joined {
			return nil
		}
		s.log.Warn("not taken in again yet", "err", err)
		if !pause(ctx, meetTell) {
			return ctx.Err()
		}
	}
}

// judge says why a node of identity id must not start beside who greets it so.
func (id identity) judge(g greeting) error {
	switch {
	case !g.Formed || !g.sameSeeds(id):
		return nil
	case id.Formed && g.Cluster != id.Cluster:
		return fmt.Errorf("%w: node %d is of cluster %s, this one of %s", ErrOtherCluster, g.Node, g.Cluster, id.Cluster)
	case id.givenUp(g) != nil:
		return id.givenUp(g)
	case !id.Formed && id.Birth == 0 && g.knows(id):
		return fmt.Errorf("%w: node %d has been part of cluster %s, this data directory has not", ErrWiped, id.Node, g.Cluster)
	case g.behind(id):
		return nil
	case slices.Contains(g.Gone, id.Node):
		return fmt.Errorf("%w: node %d was decommissioned, says node %d", ErrGone, id.Node, g.Node)
	case !slices.Contains(g.Come, id.Node):
		return nil
	case g.Disks[id.Node] != "" && g.Disks[id.Node] != id.Disk:
		return fmt.Errorf("%w: another disk is node %d by now, says node %d", ErrGone, id.Node, g.Node)
	}
	return nil
}

// ask gives the greetings of those other nodes that answer now.
func (s *Server) ask(ctx context.Context, nodes []model.NodeID) []greeting {
	ctx, cancel := context.WithTimeout(ctx, meetWait)
	defer cancel()
	answers := make(chan *greeting, len(nodes))
	asked := 0
	for _, n := range nodes {
		if n == s.n.ID {
			continue
		}
		asked++
		go func() { answers <- s.askOne(ctx, n) }()
	}
	var all []greeting
	for range asked {
		if g := <-answers; g != nil {
			all = append(all, *g)
		}
	}
	return all
}

// askOne gives nil for a node that does not answer.
func (s *Server) askOne(ctx context.Context, node model.NodeID) *greeting {
	b, err := s.raft.Call(ctx, node, raft.MethodIdentity, nil)
	return s.greeted(b, err)
}

// greeted reads what a node answers to who asks whom it meets; nil if it does not.
func (s *Server) greeted(answer []byte, err error) *greeting {
	var g greeting
	if err == nil {
		err = json.Unmarshal(answer, &g)
	}
	if err != nil {
		s.log.Debug("no greeting", "err", err) // it names the node
		return nil
	}
	return &g
}

// controllerWait bounds the only try to register of a node that is alone. Where there
// are others a command may be lost on its way to the controller's leader, and nobody
// says so: registerWait bounds a try then, and registerPause lies between two.
const controllerWait, registerWait, registerPause = time.Minute, 5 * time.Second, 200 * time.Millisecond

// register enters this node into the cluster under its present addresses. It is
// tried until it is done: a founder waits for others, and any node for an election.
func (s *Server) register(ctx context.Context, id identity) error {
	n, err := s.registration()
	if err != nil {
		return err
	}
	n.Disk = id.Disk
	patience := registerWait
	if id.alone() {
		patience = controllerWait
	}
	for {
		try, cancel := context.WithTimeout(ctx, patience)
		name, err := s.cluster.RegisterNode(try, n, id.Cluster)
		cancel()
		if err == nil {
			return s.formed(id, name)
		}
		if errors.Is(err, cluster.ErrNodeGone) {
			return fmt.Errorf("%w: %w", ErrGone, err)
		}
		if ctx.Err() != nil || errors.Is(err, raft.ErrStopped) || errors.Is(err, cluster.ErrOldBuild) || id.alone() {
			return fmt.Errorf("register with the controller: %w", err)
		}
		s.log.Warn("not registered with the controller yet", "err", err)
		select {
		case <-time.After(registerPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// formed notes in the directory that it is of the cluster that has this name.
func (s *Server) formed(id identity, name string) error {
	switch {
	case !id.Formed:
		id.Formed, id.Cluster = true, name
		return s.become(id)
	case name != id.Cluster:
		return fmt.Errorf("%w: the directory says cluster %s, the controller %s", ErrForeignData, id.Cluster, name)
	}
	return nil
}
