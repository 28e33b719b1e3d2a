package cluster

import (
	"context"
	"fmt"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// Deploy is a script to deploy. Of Script, the controller assigns ID,
// Activation, KeepFrom, Created, Updated and Output.Partitions; Keep asks that
// a redeploy carry on where the children stand.
type Deploy struct {
	Script       controller.Script
	Expect       model.Activation // of the deployed one; 0: none is deployed
	ValidateOnly bool
}

// Deployed is the outcome of a change of a script. Reactivated names other
// scripts that took a new activation, because their topics grew with it.
type Deployed struct {
	Script      *controller.Script
	Reactivated []string
}

// DeployScript deploys or redeploys, and makes its child topics, all in one
// command. ErrConflict: it is at another activation than expected.
func (c *Cluster) DeployScript(ctx context.Context, d Deploy) (Deployed, error) {
	m := c.Metadata()
	if _, known := m.Script(d.Script.Name); !known && len(m.scripts) >= m.Cluster.ScriptsMax {
		return Deployed{}, fmt.Errorf("%w: %d are deployed, the limit is %d (millrace.scripts.max)", ErrTooManyScripts, len(m.scripts), m.Cluster.ScriptsMax)
	}
	for _, o := range d.Script.Outputs {
		if IsInternal(o.Topic) {
			return Deployed{}, fmt.Errorf("%w: %q cannot be an output of script %q", ErrInternalTopic, o.Topic, d.Script.Name)
		}
		if err := config.CheckTopicTogether(o.Overrides, m.effective); err != nil {
			return Deployed{}, fmt.Errorf("output topic %q of script %q: %w", o.Topic, d.Script.Name, err)
		}
	}
	return c.script(ctx, controller.Command{DeployScript: &controller.DeployScript{Script: d.Script, Expect: d.Expect, DryRun: d.ValidateOnly}})
}

// PauseScript pauses a script, or resumes it.
func (c *Cluster) PauseScript(ctx context.Context, name string, paused bool) (Deployed, error) {
	return c.script(ctx, controller.Command{PauseScript: &controller.PauseScript{Name: name, Paused: paused}})
}

// SeekScript begins a new activation at starts; partitions not listed begin at
// 0. ErrConflict: it is at another activation than expected.
func (c *Cluster) SeekScript(ctx context.Context, name string, expect model.Activation, starts []controller.Start) (Deployed, error) {
	return c.script(ctx, controller.Command{SeekScript: &controller.SeekScript{Name: name, Expect: expect, Starts: starts}})
}

// RemoveScript begins a removal: the script is Removing under the activation
// that its children have to take. A repeat gives the removal that runs.
func (c *Cluster) RemoveScript(ctx context.Context, name string) (Deployed, error) {
	return c.script(ctx, controller.Command{RemoveScript: &controller.RemoveScript{Name: name}})
}

// DropScript ends a removal that all children have taken. activation is the
// removal's.
func (c *Cluster) DropScript(ctx context.Context, name string, activation model.Activation) error {
	_, err := c.script(ctx, controller.Command{DropScript: &controller.DropScript{Name: name, Activation: activation}})
	return err
}

func (c *Cluster) script(ctx context.Context, cmd controller.Command) (Deployed, error) {
	r, err := c.propose(ctx, cmd)
	if err != nil {
		return Deployed{}, err
	}
	return Deployed{Script: r.Script, Reactivated: r.Reactivated}, nil
}
