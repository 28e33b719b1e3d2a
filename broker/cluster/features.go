package cluster

import (
	"context"
	"fmt"

	"github.com/millrace-io/millrace/broker/controller"
)

// ActivateFeatures raises the cluster to a level, nodes being what each runs. It is
// refused with ErrFeatureLevel unless all that have come are named and have it.
func (c *Cluster) ActivateFeatures(ctx context.Context, level controller.Level, nodes []controller.NodeBuild) error {
	_, err := c.propose(ctx, controller.Command{ActivateFeatures: &controller.ActivateFeatures{Level: level, Nodes: nodes}})
	return err
}

// checkLevel ends this node where the cluster has gone on without it: what comes next
// in the log it might pass over that others carry out. Nothing is applied any more, nor
// kept in a snapshot, so that a newer build goes on from here.
func (c *Cluster) checkLevel(level controller.Level) {
	if level <= controller.LevelBuild {
		return
	}
	err := fmt.Errorf("%w: the cluster is at feature level %d, this build knows %d: start a newer one", ErrOldBuild, level, controller.LevelBuild)
	must(c.o.Fatal != nil, "%v", err)
	c.o.Fatal(err)
	select {}
}
