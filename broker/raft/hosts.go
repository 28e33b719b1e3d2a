package raft

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// The library steps all replicas of a NodeHost at each of its ticks, 7 us of CPU
// each, and what is proposed meanwhile waits: 15 ms for 4,096 of them on two cores.
// Shards are therefore spread over several NodeHosts whose ticks drift apart. Each
// has runs of hostShards, so that a node of few partitions has one, whose messages
// share a connection. The first owns the journal and hears the peers. Which has a
// shard is part of the format.
const (
	hostShards = 512
	hostsMax   = 8
)

// tickMilliseconds is the unit of timeouts, and the first NodeHost's tick.
const tickMilliseconds = 400

// tickOf is each NodeHost's tick, in milliseconds: no two pairs have the same
// difference, so that no more than two keep step for long.
var tickOf = [hostsMax]uint64{tickMilliseconds, 401, 403, 407, 412, 420, 430, 444}

func hostOf(shard model.ShardID) int { return int(uint64(shard) / hostShards % hostsMax) }

// of gives the NodeHost of a shard; the library's ErrShardNotFound if it is not open.
func (h *Host) of(shard model.ShardID) (*dragonboat.NodeHost, error) {
	n := h.hosts[hostOf(shard)].Load()
	if n == nil {
		return nil, dragonboat.ErrShardNotFound
	}
	return n, nil
}

// home is like of, and opens the NodeHost if it is the first of its shards.
func (h *Host) home(shard model.ShardID) (*dragonboat.NodeHost, error) {
	k := hostOf(shard)
	if n := h.hosts[k].Load(); n != nil {
		return n, nil
	}
	h.openMu.Lock()
	defer h.openMu.Unlock()
	if n := h.hosts[k].Load(); n != nil {
		return n, nil
	}
	if h.closed {
		return nil, ErrStopped
	}
	return h.openHost(k)
}

// hostDir is where the library keeps the k-th NodeHost's own; dir is Options.Dir.
func hostDir(dir string, k int) string {
	if k == 0 {
		return dir
	}
	return filepath.Join(dir, "host"+strconv.Itoa(k))
}

// openHost opens the k-th NodeHost: the first before all others.
func (h *Host) openHost(k int) (*dragonboat.NodeHost, error) {
	o, dir := &h.options, hostDir(h.options.Dir, k)
	n, err := dragonboat.NewNodeHost(config.NodeHostConfig{
		NodeHostDir:       dir,
		NodeHostID:        target(o.Node),
		DeploymentID:      o.Deployment,
		RTTMillisecond:    tickOf[k],
		RaftAddress:       o.Advertise,
		ListenAddress:     o.Listen,
		RaftEventListener: listener{h},
		Expert: config.ExpertConfig{
			Engine:              engine(),
			LogDB:               config.GetTinyMemLogDBConfig(), // its numbers are checked; nothing uses them
			LogDBFactory:        &journalFactory{h: h, first: k == 0},
			NodeRegistryFactory: h.registry,
			TransportFactory: &mouth{h: h, k: k, Factory: transport.NewFactory(transport.Options{
				Network: o.Network, TLS: o.TLS, Peer: checkPeer, Answer: h.answers(), Traffic: h.traffic, Log: o.Log,
			})},
		},
	})
	if err != nil {
		if strings.Contains(err.Error(), otherLog) {
			err = ErrOtherLog
		}
		return nil, fmt.Errorf("open raft log in %s: %w", dir, err)
	}
	h.hosts[k].Store(n)
	return n, nil
}

func engine() config.EngineConfig {
	e := config.GetDefaultEngineConfig()
	e.ExecShards, e.ApplyShards = engineShards, engineShards
	return e
}

// sharedLog is the journal as all NodeHosts but the first have it: not theirs to close.
type sharedLog struct{ raftio.ILogDB }

// Close is part of raftio.ILogDB.
func (sharedLog) Close() error { return nil }

// mouth is our transport, and keeps what the library takes messages by: the first
// NodeHost's hears the peers, gives each message to whose shard it is about, and
// is whom calls go by.
type mouth struct {
	*transport.Factory
	h *Host
	k int
}

// ear is what a NodeHost takes messages and snapshots by.
type ear struct {
	deployment uint64
	messages   raftio.MessageHandler
	chunks     raftio.ChunkHandler
}

// Create is part of config.TransportFactory.
func (m *mouth) Create(c config.NodeHostConfig, messages raftio.MessageHandler, chunks raftio.ChunkHandler) raftio.ITransport {
	m.h.ears[m.k].Store(&ear{c.GetDeploymentID(), messages, chunks})
	t := m.Factory.Create(c, m.h.hear, m.h.hearChunk)
	if m.k > 0 {
		return deaf{t}
	}
	m.h.caller.Store(t.(*transport.Transport))
	return t
}

// deaf is a transport that only speaks.
type deaf struct{ raftio.ITransport }

// Start is part of raftio.ITransport.
func (deaf) Start() error { return nil }

// hear hands on what a peer sent. One NodeHost's connection carries nothing of
// another's, but a batch that does is not refused.
func (h *Host) hear(b pb.MessageBatch) {
	h.openMu.RLock() // the library does not stand a message when it is closed
	defer h.openMu.RUnlock()
	b.Requests = h.recovering.sift(h.withoutLost(b.Requests))
	h.acks.note(b.Requests)
	h.doubts.hear(b.Requests, h.doubt)
	for all := b.Requests; len(all) > 0 && !h.closed; {
		k, n := hostOf(model.ShardID(all[0].ShardID)), 1
		for n < len(all) && hostOf(model.ShardID(all[n].ShardID)) == k {
			n++
		}
		b.Requests, all = all[:n:n], all[n:]
		if e := h.ears[k].Load(); e != nil {
			e.messages(b)
		}
	}
}

func (h *Host) hearChunk(c pb.Chunk) bool {
	h.openMu.RLock()
	defer h.openMu.RUnlock()
	e := h.ears[hostOf(model.ShardID(c.ShardID))].Load()
	return !h.closed && e != nil && !h.isLost(replicaNode(c.From)) && e.chunks(c)
}

// closeHosts closes all NodeHosts, the journal's last.
func (h *Host) closeHosts() {
	for k := hostsMax - 1; k >= 0; k-- {
		if n := h.hosts[k].Load(); n != nil {
			n.Close()
		}
	}
}
