package raft

import (
	"strconv"

	"github.com/millrace-io/millrace/broker/model"
)

// PeerTraffic is what went between this node and another since the start: see
// transport.PeerTraffic.
type PeerTraffic struct {
	Node                           model.NodeID
	SentBytes, ReceivedBytes       uint64
	SentMessages, ReceivedMessages uint64
	LostMessages                   uint64
	Connections                    int64
}

// Traffic gives the counts of every node that was ever connected.
func (h *Host) Traffic() []PeerTraffic {
	var all []PeerTraffic
	for _, p := range h.traffic.Peers() {
		node, err := targetNode(p.Name)
		if err != nil {
			continue // checkPeer lets none in
		}
		all = append(all, PeerTraffic{
			Node: node, SentBytes: p.SentBytes, ReceivedBytes: p.ReceivedBytes, SentMessages: p.SentMessages,
			ReceivedMessages: p.ReceivedMessages, LostMessages: p.LostMessages, Connections: p.Connections,
		})
	}
	return all
}

// methodNames are for people and metrics.
var methodNames = [...]string{
	MethodIdentity: "identity", MethodLeaders: "leaders", MethodLease: "lease", MethodPiece: "piece", MethodRelease: "release", MethodVerb: "verb",
	methodTakeOver: "take-over", MethodApplied: "applied", MethodMoves: "moves", MethodJoin: "join", MethodSelfTest: "self-test",
	MethodElect: "elect", MethodWeights: "weights", MethodConfigured: "configured",
}

// String names a method.
func (m Method) String() string {
	if int(m) < len(methodNames) && methodNames[m] != "" {
		return methodNames[m]
	}
	return "method-" + strconv.Itoa(int(m))
}
