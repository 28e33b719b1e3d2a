package cli

import (
	"context"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

// Balance has something to move until it was paused and resumed, then nothing but what is
// stuck.
func (f *fakeAdmin) Balance(context.Context) (api.Balance, error) {
	b := api.Balance{State: api.BalanceInProgress, MovesMax: 8, UnderWay: []api.BalanceMove{}, Planned: []api.BalanceMove{}, Stuck: []api.BalanceProblem{}}
	b.Nodes = []api.BalanceNode{
		{ID: 0, Rack: "east", State: "active", Replicas: 3, Leaders: 2, DiskUsed: 860, DiskTotal: 1000},
		{ID: 1, Rack: "west", State: "gone", SilentSeconds: 1000, Replicas: 1, Leaders: 1, DiskUsed: -1, DiskTotal: -1},
	}
	switch paused, changed := f.configs["balance.paused"]; {
	case !changed:
		b.UnderWay = []api.BalanceMove{{Topic: "orders", Partition: 1, From: []model.NodeID{0}, To: []model.NodeID{2}, Bytes: -1, Why: "a node is being decommissioned"}}
		b.Planned = []api.BalanceMove{
			{Topic: "orders", Partition: 0, From: []model.NodeID{0, 1}, To: []model.NodeID{0, 2}, Bytes: 1234, Why: "node 1 has been gone for 15m0s"},
			{Topic: "paid", Partition: 3, From: []model.NodeID{0, 2}, To: []model.NodeID{2, 0}, Why: "node 0 is preferred to lead 4 partitions, node 2 1"},
		}
		b.Bytes = 1234
	case paused == "true":
		b.State, b.Reason = api.BalancePaused, "node 1 is down: replicas and leaders are evened out when it is back, or has been gone for 15m0s"
	default:
		b.State = api.BalanceStalled
		b.Stuck = []api.BalanceProblem{{Topic: "orders", Partition: 0, Why: "node 1 has been gone for 15m0s, and no node can take its replica"},
			{Why: "the disk of node 0 is 86 % full, 80 % are the limit, and no other has room for a partition of it"}}
	}
	return b, nil
}

func (f *fakeAdmin) PauseBalance(_ context.Context, paused bool) error {
	f.configs["balance.paused"] = map[bool]string{true: "true", false: "false"}[paused]
	return nil
}
