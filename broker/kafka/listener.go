package kafka

import (
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
)

// What names a broker names it by the listener that the asker came in by: a client
// that got through one door must never be sent to another network's. A broker without
// such a listener is left out; partitions that it leads are LISTENER_NOT_FOUND.

// listenerNotFoundSince is the version of Metadata from which on clients know
// LISTENER_NOT_FOUND; older ones are told LEADER_NOT_AVAILABLE, as in Kafka.
const listenerNotFoundSince = 6

// seen gives n with the address that the request's client is to be told; ok is false
// when there is none.
func (r *request) seen(n cluster.Node) (_ cluster.Node, ok bool) {
	n.Host, n.Port, ok = n.At(r.conn.listener)
	return n, ok
}

// seenOf gives those of nodes, which it overwrites, that the client can be told.
func (r *request) seenOf(nodes []cluster.Node) []cluster.Node {
	told := nodes[:0]
	for _, n := range nodes {
		if n, ok := r.seen(n); ok {
			told = append(told, n)
		}
	}
	return told
}

// sees tells whether a node can be told. Of the listener without a name that is not
// asked: who leads is said although the node may not have registered yet.
func (r *request) sees(m *cluster.Metadata, id model.NodeID) bool {
	if r.conn.listener == "" {
		return true
	}
	n, ok := m.Node(id)
	if ok {
		_, ok = r.seen(n)
	}
	return ok
}

// leading gives a partition's leader as the client is to be told it, and the code that
// goes with it.
func (r *request) leading(m *cluster.Metadata, leader model.NodeID) (model.NodeID, int16) {
	switch {
	case leader == model.NoNode:
		return leader, codeLeaderNotAvailable
	case r.sees(m, leader):
		return leader, codeNone
	case r.key == keyMetadata && r.version < listenerNotFoundSince:
		return model.NoNode, codeLeaderNotAvailable
	}
	return model.NoNode, codeListenerNotFound
}

// unseen gives those of a partition's replicas that the client cannot reach.
func (r *request) unseen(m *cluster.Metadata, replicas []model.NodeID) []int32 {
	out := []int32{}
	for _, id := range replicas {
		if !r.sees(m, id) {
			out = append(out, int32(id))
		}
	}
	return out
}

// controllerID names who takes changes of the cluster: any node does, so that
// this one stands in while nobody leads, and for who cannot be told.
func (r *request) controllerID(m *cluster.Metadata) int32 {
	if m.Controller == model.NoNode || !r.sees(m, m.Controller) {
		return int32(r.conn.server.o.Node)
	}
	return int32(m.Controller)
}
