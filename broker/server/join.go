package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
)

// application is what a node asks for that joins, and admission what it is given.
type application struct {
	// Deployment is that of the seeds of a node that formed the cluster and lost its disk;
	// 0: it is a new one.
	Deployment uint64       `json:"deployment,omitempty"`
	Node       cluster.Node `json:"node"`
	Renew      bool         `json:"renew,omitempty"` // see controller.JoinNode
}

type admission struct {
	Node       model.NodeID   `json:"node"`
	Birth      model.Birth    `json:"birth"`
	Cluster    string         `json:"cluster"`
	Deployment uint64         `json:"deployment,omitempty"`
	Founders   []model.NodeID `json:"founders"`
}

// admit answers raft.MethodJoin.
func (s *Server) admit(ctx context.Context, body []byte) ([]byte, error) {
	c, id := s.shared.Load(), s.identity.Load()
	if c == nil || !id.Formed || c.Metadata().ClusterID == "" {
		return nil, s.starting()
	}
	var a application
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("read an application: %w", err)
	}
	if a.Deployment != 0 && a.Deployment != id.Deployment {
		return nil, fmt.Errorf("%w: it forms another; if its seeds have moved, start it with --node-id %d and seeds that leave it out", ErrOtherSeeds, a.Node.ID)
	}
	if slices.Contains(id.lost(), a.Node.ID) {
		return nil, fmt.Errorf("%w: node %d; give the new one another --node-id, or none", ErrGivenUp, a.Node.ID)
	}
	known, ok := c.Metadata().Node(a.Node.ID)
	if ok && known.Disk != a.Node.Disk {
		if time.Since(s.began) < tellTime {
			return nil, s.starting() // it may be alive, and not have said so yet
		}
		if c.Alive(known.ID) {
			return nil, fmt.Errorf("node %d is alive, with another data directory, at %s: give this one another --node-id, or stop that one", known.ID, known.RPC)
		}
	}
	node, birth, err := c.Join(ctx, a.Node, a.Renew)
	if err != nil {
		return nil, err
	}
	s.log.Info("node has joined", "node", node, "birth", birth, "rpc", a.Node.RPC)
	return json.Marshal(admission{Node: node, Birth: birth, Cluster: id.Cluster, Deployment: id.Deployment, Founders: id.members()})
}

// tellTime is how long after a start every node that is alive has been heard.
const tellTime = 3 * cluster.AnnounceEvery

// caller is how a node that joins reaches others.
type caller interface {
	CallAddress(ctx context.Context, address string, m raft.Method, body []byte) ([]byte, error)
}

// join finds a cluster for a node that has none, before anything is opened: one that is
// not among those who form it waits until it is taken in, and one that is asks whether it
// has been there before, with another disk.
func (s *Server) join(ctx context.Context, id identity) error {
	if id.Formed || id.Birth > 0 || id.alone() {
		return nil
	}
	secured, err := s.peerTLS()
	if err != nil {
		return err
	}
	asker := raft.NewAsker(secured, nil, s.log)
	defer func() {
		if err := asker.Close(); err != nil {
			s.log.Debug("asker not closed", "err", err)
		}
	}()
	told := time.Time{}
	for {
		joined, wiped, err := s.tryJoin(ctx, asker, id)
		if errors.Is(err, ErrGivenUp) {
			return err
		}
		if joined || !id.Joins && !wiped {
			return nil
		}
		if time.Since(told) > meetTell {
			told = time.Now()
			s.log.Info("waiting to be taken into the cluster", "seeds", s.n.Seeds, "err", err)
		}
		select {
		case <-time.After(meetEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errNobody says that no seed is of a cluster yet.
var errNobody = errors.New("no seed answers that is part of a cluster")

// tryJoin asks each seed once. wiped: one of them knows this node, by another disk.
func (s *Server) tryJoin(ctx context.Context, calls caller, id identity) (joined, wiped bool, err error) {
	err = errNobody
	for _, seed := range s.n.Seeds {
		if seed.ID == s.n.ID {
			continue
		}
		g := s.askAddress(ctx, calls, seed.Address)
		if g == nil || !g.Formed || !g.Settled || !id.newcomer() && !g.knows(id) {
			continue
		}
		if err := id.givenUp(*g); err != nil {
			return false, false, err
		}
		wiped = !id.newcomer()
		if err = s.apply(ctx, calls, seed.Address, id); err == nil {
			return true, wiped, nil
		}
		err = fmt.Errorf("node %d: %w", g.Node, err)
	}
	return false, wiped, err
}

// apply asks one node for a place, and notes what it is given.
func (s *Server) apply(ctx context.Context, calls caller, address string, id identity) error {
	n, err := s.registration()
	if err != nil {
		return err
	}
	a := application{Node: n}
	if !id.newcomer() {
		a.Deployment = id.Deployment
	}
	a.Node.ID, a.Node.Disk, a.Node.Birth, a.Renew = id.Node, id.Disk, id.Birth, id.Formed
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, registerWait)
	defer cancel()
	b, err := calls.CallAddress(ctx, address, raft.MethodJoin, body)
	if err != nil {
		return err
	}
	var in admission
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("read an admission: %w", err)
	}
	if !id.newcomer() && !id.Formed {
		s.log.Warn("the disk of this node was lost or replaced: it comes back with new replicas", "node", in.Node, "birth", in.Birth)
	}
	id.Node, id.Birth, id.Cluster, id.Deployment, id.Founders = in.Node, in.Birth, in.Cluster, in.Deployment, in.Founders
	return s.become(id)
}

// renewController is for a node whose log of the cluster's metadata is lost, or damaged:
// what it gave its word for is not known any more, and it begins that replica anew.
func (s *Server) renewController(ctx context.Context, id identity, why error) error {
	s.log.Warn("the log of the cluster's metadata begins anew, from other nodes", "why", why)
	for {
		joined, _, err := s.tryJoin(ctx, s.raft, id)
		switch {
		case joined && s.raft.HasLog(raft.ControllerShard):
			return s.raft.Remove(raft.ControllerShard)
		case joined:
			return nil
		}
		s.log.Warn("no other replica of it yet", "err", err)
		if !pause(ctx, renewPause) {
			return ctx.Err()
		}
	}
}

// renewPause lies between two tries.
const renewPause = 2 * time.Second

// become makes id this node's, for good.
func (s *Server) become(id identity) error {
	if _, err := writeIdentity(s.n.DataDir, id); err != nil {
		return err
	}
	if s.n.ID != id.Node { // it was assigned just now: nothing that reads it runs yet
		s.n.ID = id.Node
	}
	s.identity.Store(&id)
	return nil
}

// askAddress gives nil for a node that does not answer.
func (s *Server) askAddress(ctx context.Context, calls caller, address string) *greeting {
	ctx, cancel := context.WithTimeout(ctx, meetWait)
	defer cancel()
	b, err := calls.CallAddress(ctx, address, raft.MethodIdentity, nil)
	return s.greeted(b, err)
}
