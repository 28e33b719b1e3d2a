package raft

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// A node is addressed by its id, never by host and port: addresses may change
// between two starts (port 0, a moved pod), and dragonboat writes targets into
// its log for ever. It insists on UUIDs, so a node's id is written as one.
const targetPrefix = "00000000-0000-4000-8000-"

// target gives the name that dragonboat's log knows node by.
func target(node model.NodeID) string { return fmt.Sprintf("%s%012x", targetPrefix, uint32(node)) }

func targetNode(t string) (model.NodeID, error) {
	hex, ok := strings.CutPrefix(t, targetPrefix)
	if !ok {
		return 0, fmt.Errorf("raft target %q: not one of ours", t)
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("raft target %q: %w", t, err)
	}
	return model.NodeID(int32(n)), nil
}

// checkPeer refuses a node whose name is none of ours: dragonboat adds who sends
// to the registry, which insists.
func checkPeer(name string) error {
	_, err := targetNode(name)
	return err
}

// birthShift parts a replica id: the birth above, the node plus one below.
const birthShift = 32

// replicaID is the Raft replica id of a node's replica of any shard: that of birth 0 is
// what all replicas had before they could move.
func replicaID(node model.NodeID, birth model.Birth) uint64 {
	return uint64(birth)<<birthShift | uint64(uint32(node)+1)
}

// replicaNode gives the node of a replica id: NoNode of the library's "none".
func replicaNode(id uint64) model.NodeID { return model.NodeID(int32(uint32(id)) - 1) }

func replicaBirth(id uint64) model.Birth { return model.Birth(id >> birthShift) }

// member is the node of a replica, and its name: formatting one costs more than
// the message it is for.
type member struct {
	node   model.NodeID
	target string
}

// registry resolves replicas to the addresses that nodes have now. It is shared
// by dragonboat's transport goroutines; mu guards all of it.
type registry struct {
	mu        sync.RWMutex
	targets   map[uint64]map[uint64]member // by shard and replica
	addresses map[model.NodeID]string
}

func newRegistry() *registry {
	return &registry{targets: map[uint64]map[uint64]member{}, addresses: map[model.NodeID]string{}}
}

// Create makes registry a config.NodeRegistryFactory of itself.
func (r *registry) Create(string, uint64, config.TargetValidator) (raftio.INodeRegistry, error) {
	return r, nil
}

func (r *registry) setAddress(node model.NodeID, address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addresses[node] = address
}

// address gives where node can be reached now.
func (r *registry) address(node model.NodeID) (string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	a, ok := r.addresses[node]
	return a, ok
}

// Add is called by dragonboat for every member that its log names, and for the
// sender of every message that comes: nearly always it is known.
func (r *registry) Add(shard, replica uint64, t string) {
	if r.known(shard, replica, t) {
		return
	}
	node, err := targetNode(t)
	must(err == nil, "add replica %d of shard %d: %v", replica, shard, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.targets[shard] == nil {
		r.targets[shard] = map[uint64]member{}
	}
	r.targets[shard][replica] = member{node, t}
}

// newest gives the replica id of a node's newest replica of a shard that is known.
func (r *registry) newest(shard uint64, node model.NodeID) (id uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for replica, m := range r.targets[shard] {
		if m.node == node {
			id, ok = max(id, replica), true
		}
	}
	return id, ok
}

// others counts the replicas of a shard that are known besides one.
func (r *registry) others(shard, replica uint64) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := len(r.targets[shard])
	if _, ok := r.targets[shard][replica]; ok {
		n--
	}
	return n
}

func (r *registry) known(shard, replica uint64, t string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok := r.targets[shard][replica]
	return ok && m.target == t
}

// Remove forgets one replica.
func (r *registry) Remove(shard, replica uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.targets[shard], replica)
}

// RemoveShard forgets all replicas of a shard.
func (r *registry) RemoveShard(shard uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.targets, shard)
}

// Resolve gives a replica's node and address, as transport takes them, and the
// connection that its messages share: the same, so that a node that moved gets a
// new one, and no node ever that of another.
func (r *registry) Resolve(shard, replica uint64) (string, string, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok := r.targets[shard][replica]
	if !ok {
		return "", "", fmt.Errorf("resolve replica %d of shard %d: unknown replica", replica, shard)
	}
	a, ok := r.addresses[m.node]
	if !ok {
		return "", "", fmt.Errorf("resolve replica %d of shard %d: node %d has no address yet", replica, shard, m.node)
	}
	at := transport.Target(m.target, a)
	return at, at, nil
}

// Close has nothing to free.
func (r *registry) Close() error { return nil }

// must stops the process on a broken invariant.
func must(holds bool, format string, args ...any) {
	if !holds {
		panic("raft: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
