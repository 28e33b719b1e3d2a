package cluster

import (
	"context"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// ForgetLost strikes out nodes that are gone for ever: see controller.ForgetLost. It may
// be repeated.
func (c *Cluster) ForgetLost(ctx context.Context, nodes []model.NodeID, beginEmpty bool) (controller.Forgotten, error) {
	r, err := c.propose(ctx, controller.Command{ForgetLost: &controller.ForgetLost{Nodes: nodes, BeginEmpty: beginEmpty}})
	if err != nil || r.Forgotten == nil {
		return controller.Forgotten{}, err
	}
	return *r.Forgotten, nil
}
