package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/peer"
	"github.com/millrace-io/millrace/broker/raft"
)

// answer is asked what other nodes call. It may be called before all rooms are there.
func (s *Server) answer(ctx context.Context, from model.NodeID, m raft.Method, body []byte) ([]byte, error) {
	switch m {
	case raft.MethodIdentity:
		return s.greet()
	case raft.MethodJoin:
		return s.admit(ctx, body)
	}
	c := s.shared.Load()
	if c == nil {
		return nil, s.starting()
	}
	switch m {
	case raft.MethodLeaders:
		return nil, s.hear(c, from, body)
	case raft.MethodVerb:
		if verbs := s.verbs.Load(); verbs != nil {
			return verbs.Answer(ctx, from, body)
		}
		return nil, s.starting()
	case raft.MethodMoves:
		if mover := s.moves.Load(); mover != nil {
			return json.Marshal(waits(mover))
		}
		return nil, s.starting()
	case raft.MethodConfigured:
		return json.Marshal(s.configured(c))
	case raft.MethodWeights:
		if s.held.Load() != nil {
			return s.answerWeight(ctx)
		}
		return nil, s.starting()
	case raft.MethodElect:
		if s.held.Load() != nil {
			return nil, s.answerElect(body)
		}
		return nil, s.starting()
	case raft.MethodApplied:
		return s.answerApplied(ctx, body)
	case raft.MethodSelfTest:
		return s.tests.answer(ctx, body)
	}
	return s.give(ctx, from, m, body)
}

// deposeAfter is what Raft has to tell a node that another leads what it led, so that
// what was on its way is answered as it went. A log that cannot be written tells nothing.
const deposeAfter = 500 * time.Millisecond

// hear takes what another node announces.
func (s *Server) hear(c *cluster.Cluster, from model.NodeID, body []byte) error {
	a, err := cluster.DecodeAnnouncement(body)
	if err != nil {
		return err
	}
	if a.Node != from {
		return fmt.Errorf("%w: node %d announces for node %d", cluster.ErrAnnouncement, from, a.Node)
	}
	c.Hear(a)
	for _, led := range a.Served {
		h, ok := s.cores.Handle(led.Partition)
		if !ok {
			continue
		}
		if epoch, serving := h.Serving(); serving && epoch < led.Epoch {
			time.AfterFunc(deposeAfter, func() { h.Depose(led.Epoch) })
		}
	}
	return nil
}

func (s *Server) starting() error {
	return &raft.Refusal{Code: refusedStarting, Text: fmt.Sprintf("node %d is starting", s.n.ID)}
}

// reach gives the verbs of scripts for any partition of the cluster.
func (s *Server) reach() *peer.Service {
	return peer.New(peer.Options{
		Node: s.n.ID, Local: scriptLog{s.produce, s.fetch}, Leader: s.cluster.Leader,
		Exists:       func(id model.PartitionID) bool { _, ok := s.cluster.Metadata().Partition(id); return ok },
		Call:         s.callVerb,
		BodyBytesMax: raft.CallBytesMax, Log: s.log,
	})
}

// callVerb has another node do what body says.
func (s *Server) callVerb(ctx context.Context, node model.NodeID, body []byte) ([]byte, error) {
	b, err := s.raft.Call(ctx, node, raft.MethodVerb, body)
	if r := (*raft.Refusal)(nil); errors.As(err, &r) {
		return nil, &peer.Refusal{Code: r.Code, Text: r.Text}
	}
	return b, err
}

// refusedStarting is the code of a node that will answer a little later.
const refusedStarting = move.RefusedStarting

// followNodes tells raft where nodes live now. Others know that better where this node's
// metadata is behind: who leads the controller and is no seed, or has moved, cannot be
// answered before, and so never brings the metadata that says where it is.
func (s *Server) followNodes(ctx context.Context) {
	changed, cancel := s.cluster.Watch()
	defer cancel()
	greetings := make(chan greeting)
	s.run(func(ctx context.Context) { s.askAround(ctx, greetings) })
	known := map[model.NodeID]string{}
	at := func(node model.NodeID, address string) {
		if node != s.n.ID && address != "" && address != known[node] {
			known[node] = address
			s.raft.SetAddress(node, address)
		}
	}
	for {
		m := s.cluster.Metadata()
		for _, n := range m.Nodes {
			at(n.ID, n.RPC)
		}
		if birth, gone := m.Gone[s.n.ID]; gone && birth >= s.identity.Load().Birth {
			s.end(fmt.Errorf("%w: node %d was decommissioned", ErrGone, s.n.ID))
		}
		select {
		case <-changed:
		case g := <-greetings:
			id := s.identity.Load()
			for node, address := range g.At {
				if g.sameSeeds(*id) && g.Metadata > m.Version && !slices.Contains(id.lost(), node) {
					at(node, address)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// askAround gives what the other nodes answer to who asks whom it meets, again and again.
func (s *Server) askAround(ctx context.Context, greetings chan<- greeting) {
	for {
		var nodes []model.NodeID
		for _, seed := range s.n.Seeds {
			nodes = append(nodes, seed.ID)
		}
		for _, n := range s.cluster.Metadata().Nodes {
			if !slices.Contains(nodes, n.ID) {
				nodes = append(nodes, n.ID)
			}
		}
		for _, g := range s.ask(ctx, nodes) {
			select {
			case greetings <- g:
			case <-ctx.Done():
				return
			}
		}
		if !pause(ctx, cluster.AnnounceEvery) {
			return
		}
	}
}

// announcePause gathers what changes together: an election of many partitions is told
// in a few announcements.
// announceAgain is the pause before one that was not heard is told once more.
const announcePause, announceAgain = 5 * time.Millisecond, 50 * time.Millisecond

// announce tells the other nodes what this one serves: changes at once, everything
// every few seconds.
func (s *Server) announce(ctx context.Context) {
	peers := map[model.NodeID]chan []byte{}
	whole := time.NewTicker(cluster.AnnounceEvery)
	defer whole.Stop()
	for all := true; ; { // the first says that it is there: it may have left before
		if a, ok := s.cluster.Announce(all); ok {
			body := a.Encode()
			for _, n := range s.cluster.Metadata().Nodes {
				if n.ID != s.n.ID && n.RPC != "" {
					s.tell(peers, n.ID, body)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-whole.C:
			all = true
		case <-s.led:
			all = false
			if !pause(ctx, announcePause) {
				return
			}
		}
	}
}

// tellLeaders has what changed announced soon. It does not block.
func (s *Server) tellLeaders() {
	select {
	case s.led <- struct{}{}:
	default:
	}
}

// announcementsWaiting is how many announcements wait for a peer; beyond it they are
// lost, and the next whole one mends it.
const announcementsWaiting = 16

// tell hands an announcement to who sends to a peer. It does not wait: a node that is
// gone keeps nobody else from hearing.
func (s *Server) tell(peers map[model.NodeID]chan []byte, node model.NodeID, body []byte) {
	to, ok := peers[node]
	if !ok {
		to = make(chan []byte, announcementsWaiting)
		peers[node] = to
		s.run(func(ctx context.Context) { s.tellAll(ctx, node, to) })
	}
	select {
	case to <- body:
	default:
	}
}

func (s *Server) tellAll(ctx context.Context, node model.NodeID, announcements <-chan []byte) {
	for {
		select {
		case <-ctx.Done():
			return
		case body := <-announcements:
			limited, cancel := context.WithTimeout(ctx, cluster.AnnounceEvery)
			_, err := s.raft.Call(limited, node, raft.MethodLeaders, body)
			if err != nil && pause(limited, announceAgain) { // the connection may be that of a node that has restarted
				_, err = s.raft.Call(limited, node, raft.MethodLeaders, unlessRefused(body, err))
			}
			cancel()
			if err != nil {
				s.log.Debug("leaders not announced", "node", node, "err", err)
			}
		}
	}
}

// unlessRefused gives an announcement as it is to be told again: plainly to a node that
// answered that it does not take it, as an older build does.
func unlessRefused(body []byte, err error) []byte {
	if r := (*raft.Refusal)(nil); errors.As(err, &r) {
		if plain, ok := cluster.Plain(body); ok {
			return plain
		}
	}
	return body
}

// rpcAddresses are where this node hears others, and what they are told.
func (s *Server) rpcAddresses() (listen, advertise string, err error) {
	listen, err = s.rpcAddress()
	if err != nil {
		return "", "", err
	}
	advertise = listen
	if a := s.n.AdvertiseRPC; a.Host != "" {
		if a.Port == 0 {
			_, port, err := net.SplitHostPort(listen)
			if err != nil {
				return "", "", err
			}
			return listen, net.JoinHostPort(a.Host, port), nil
		}
		advertise = a.String()
	}
	return listen, advertise, nil
}
