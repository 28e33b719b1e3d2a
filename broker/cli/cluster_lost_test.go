package cli

import (
	"slices"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/rescue"
)

// fakeRescue is on node 0 of five. It wants node 1's report unless nodes 1 and 2 are lost.
func fakeRescue(ask rescue.Ask) (*rescue.Outcome, error) {
	o := &rescue.Outcome{Node: 0, Cluster: "fake", Lost: ask.Lost, Held: 3, Done: !ask.DryRun}
	if !slices.Contains(ask.Lost, 1) && len(ask.Reports) == 0 {
		if o.Unreported = "a node is neither lost nor has it reported: node 1"; ask.DryRun {
			return o, nil
		}
		return nil, rescue.ErrUnreported
	}
	members := func(nodes ...model.NodeID) (all []raft.Member) {
		for _, n := range nodes {
			all = append(all, raft.Member{Node: n})
		}
		return all
	}
	o.Plan = &rescue.Plan{Node: 0, Lost: ask.Lost, Groups: []rescue.Decision{
		{Shard: 1, Fate: rescue.GoesOn, By: 0, Term: 4, Stay: members(0), Gone: members(ask.Lost...), LastTerm: 3, LastIndex: 120, Undecided: 2},
		{Shard: 100, Fate: rescue.Keeps, By: model.NoNode, LastTerm: 2, LastIndex: 7},
		{Shard: 101, Fate: rescue.Ends, By: model.NoNode, Why: "the log of node 0 is damaged: a torn file"},
	}}
	return o, nil
}
