package raft

import (
	"fmt"
	"slices"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// A node that was given up with its disk may come back with it all the same. It still
// takes itself for a member of groups that go on without it, and two such nodes may make
// a majority of what the group once was: their leader's word would overwrite what was
// decided since.

// isLost tells whether a node was given up.
func (h *Host) isLost(node model.NodeID) bool { return slices.Contains(h.options.Lost, node) }

// withoutLost leaves the messages that may be taken; mostly all.
func (h *Host) withoutLost(all []pb.Message) []pb.Message {
	if len(h.options.Lost) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(m pb.Message) bool { return h.isLost(replicaNode(m.From)) })
}

func errGivenUp(node model.NodeID) error {
	return fmt.Errorf("node %d was given up: start it with an empty directory and an id that no node has had", node)
}
