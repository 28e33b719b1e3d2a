package pacemaker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/peer"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/script"
)

// peers puts the children behind package peer: each is led by one of a few nodes,
// leaders move, who asks may not know yet, and calls get lost on either way or are
// done long after their caller was told that they are lost.
type peers struct {
	log   *memLog
	stray sync.WaitGroup // calls that nobody waits for

	mu                                                 sync.Mutex // guards all below
	rand                                               *rand.Rand
	members                                            map[model.NodeID]*peer.Service
	next                                               model.NodeID
	led                                                map[model.PartitionID]model.NodeID
	calmed                                             bool
	calls, callsLost, answersLost, late, misled, moved int
}

var errNetwork = errors.New("connection reset by peer")

// peersOf are the nodes that lead children; pacemakers come and go on them.
const peersOf = 3

func newPeers(log *memLog, seed uint64) *peers {
	return &peers{
		log: log, rand: rand.New(rand.NewPCG(seed, 4)),
		members: map[model.NodeID]*peer.Service{}, led: map[model.PartitionID]model.NodeID{},
	}
}

// join gives the doors of the next node, which takes the place of one before it.
func (p *peers) join() Children {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill()
	node := p.next % peersOf
	p.next++
	return p.members[node]
}

// fill makes the nodes, once.
func (p *peers) fill() {
	for node := model.NodeID(0); len(p.members) < peersOf; node++ {
		p.members[node] = peer.New(peer.Options{
			Node: node, Local: &member{p: p, node: node}, Call: p.call(node),
			Leader: func(id model.PartitionID) (model.NodeID, model.LeaderEpoch) { return p.leader(id), 1 },
			Exists: func(id model.PartitionID) bool {
				p.log.mu.Lock()
				defer p.log.mu.Unlock()
				return p.log.parts[id] != nil
			},
			Log: slog.New(slog.DiscardHandler),
		})
	}
}

func (p *peers) chance(of float64) bool { return !p.calmed && p.rand.Float64() < of }

// truth gives the node that serves a partition.
func (p *peers) truth(id model.PartitionID) model.NodeID {
	node, ok := p.led[id]
	if !ok || p.chance(0.01) { // another is elected
		node = model.NodeID(p.rand.IntN(peersOf))
		p.led[id] = node
		p.moved++
	}
	return node
}

// leader is what a node has heard.
func (p *peers) leader(id model.PartitionID) model.NodeID {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.chance(0.02):
		p.misled++
		return model.NodeID(p.rand.IntN(peersOf))
	case p.chance(0.01):
		return model.NoNode
	}
	return p.truth(id)
}

// call is the network.
func (p *peers) call(from model.NodeID) peer.Caller {
	return func(ctx context.Context, to model.NodeID, body []byte) ([]byte, error) {
		p.mu.Lock()
		lost, late, answerLost := p.fate()
		way := time.Duration(p.rand.Int64N(int64(2 * time.Millisecond)))
		after := time.Duration(p.rand.Int64N(int64(100 * time.Millisecond)))
		at := p.members[to]
		p.mu.Unlock()
		body = slices.Clone(body)
		pass(way)
		switch {
		case lost:
			return nil, errNetwork
		case late:
			go func() {
				defer p.stray.Done()
				pass(after)
				_, _ = at.Answer(context.Background(), from, body) // nobody hears it
			}()
			return nil, errNetwork
		}
		out, err := at.Answer(ctx, from, body)
		if err != nil {
			return nil, &peer.Refusal{Text: err.Error()}
		}
		if answerLost {
			return nil, errNetwork
		}
		return out, nil
	}
}

// fate draws what becomes of a call: one of the three, or none.
func (p *peers) fate() (lost, late, answerLost bool) {
	p.calls++
	switch {
	case p.chance(0.03):
		p.callsLost++
		return true, false, false
	case p.chance(0.03):
		p.late++
		p.stray.Add(1)
		return false, true, false
	case p.chance(0.04):
		p.answersLost++
		return false, false, true
	}
	return false, false, false
}

// calm ends all faults and waits for what is under way.
func (p *peers) calm() {
	p.mu.Lock()
	p.calmed = true
	p.mu.Unlock()
	p.stray.Wait()
}

// member is one node's own verbs.
type member struct {
	script.Log // its Append is of no use to fibers
	p          *peers
	node       model.NodeID
}

// serves refuses what another node leads; without a replica, by another name.
func (m *member) serves(id model.PartitionID) error {
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	switch m.p.truth(id) {
	case m.node:
		return nil
	case (m.node + 1) % peersOf:
		return produce.ErrUnknownPartition
	}
	return produce.ErrNotLeader
}

func (m *member) AppendSource(ctx context.Context, id model.PartitionID, src partition.Source, batches [][]byte) (partition.SourceState, error) {
	if err := m.serves(id); err != nil {
		return partition.SourceState{}, err
	}
	return m.p.log.AppendSource(ctx, id, src, batches)
}

func (m *member) Activate(ctx context.Context, id model.PartitionID, a partition.Activate) (partition.SourceState, error) {
	if err := m.serves(id); err != nil {
		return partition.SourceState{}, err
	}
	return m.p.log.Activate(ctx, id, a)
}

func (m *member) Source(ctx context.Context, id model.PartitionID, key model.SourceKey) (partition.SourceState, error) {
	if err := m.serves(id); err != nil {
		return partition.SourceState{}, err
	}
	return m.p.log.Source(ctx, id, key)
}

func (m *member) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int, wait time.Duration) (script.ReadAnswer, error) {
	if err := m.serves(id); err != nil {
		return script.ReadAnswer{}, err
	}
	return m.p.log.Read(ctx, id, from, bytesMax, wait)
}

func (m *member) Offset(ctx context.Context, id model.PartitionID, timestamp int64) (model.Offset, error) {
	if err := m.serves(id); err != nil {
		return model.NoOffset, err
	}
	return m.p.log.Offset(ctx, id, timestamp)
}

// TestExactlyOnceAcrossNodes plays TestExactlyOnce's histories with children that
// other nodes lead.
func TestExactlyOnceAcrossNodes(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			for seed := range (seeds() + 1) / 2 {
				t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, s, seed)
						p := newPeers(w.log, seed)
						w.peers = p
						history(t, w)
						p.mu.Lock()
						defer p.mu.Unlock()
						t.Logf("%d calls, %d lost, %d answers lost, %d done late, %d to the wrong node, leaders moved %d times",
							p.calls, p.callsLost, p.answersLost, p.late, p.misled, p.moved)
						if min(p.callsLost, p.answersLost, p.late, p.misled, p.moved) == 0 {
							t.Error("one of the faults did not happen")
						}
					})
				})
			}
		})
	}
}
