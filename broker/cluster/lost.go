package cluster

import (
	"context"

	"github.com/millrace-io/millrace/broker/controller"
)

// ForgetLost strikes out nodes that are gone for ever: see controller.ForgetLost. It may
// be repeated.
func (c *Cluster) ForgetLost(ctx context.Context, ask controller.ForgetLost) (controller.Forgotten, error) {
	r, err := c.propose(ctx, controller.Command{ForgetLost: &ask})
	if err != nil || r.Forgotten == nil {
		return controller.Forgotten{}, err
	}
	return *r.Forgotten, nil
}
