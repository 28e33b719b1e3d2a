package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
	"github.com/millrace-io/millrace/broker/model"
)

// maintenancePoll is how often --wait asks.
const maintenancePoll = 200 * time.Millisecond

func (a *app) maintenanceCommand() *cobra.Command {
	return group("maintenance", "Keep a node from leading, for work on it", a.maintenanceEnable(), a.maintenanceDisable(), a.maintenanceStatus())
}

func (a *app) maintenanceEnable() *cobra.Command {
	var wait bool
	c := a.onNode(cobra.Command{
		Use: "enable ID", Short: "Have a node give away all that it leads",
		Long: `Have a node give away all that it leads, and lead nothing until ` + "`millrace cluster maintenance disable ID`" + `,
over restarts too. It keeps its replicas, which vote. A partition that has no other replica stays.
One node at a time may be in maintenance. The command returns at once unless --wait is given.`,
	}, "enable maintenance of", func(cmd *cobra.Command, cl *client.Client, id model.NodeID) error {
		if err := cl.SetMaintenance(cmd.Context(), id, true); err != nil {
			return err
		}
		if wait {
			return a.awaitMaintenance(cmd.Context(), cl, id)
		}
		fmt.Fprintf(a.out, "node %d gives its leadership away; `millrace cluster maintenance status` shows how far it is\n", id)
		return nil
	})
	c.Flags().BoolVarP(&wait, "wait", "w", false, "wait until it leads nothing that another node could lead")
	return c
}

// awaitMaintenance waits until a node has given away what it can.
func (a *app) awaitMaintenance(ctx context.Context, cl *client.Client, id model.NodeID) error {
	tick := time.NewTicker(maintenancePoll)
	defer tick.Stop()
	for {
		m, err := cl.Maintenance(ctx, id)
		switch {
		case err != nil:
			return err
		case !m.Enabled:
			return fmt.Errorf("the maintenance of node %d was disabled meanwhile", id)
		case m.Finished:
			return a.print(m, func(w *sheet) { printMaintenance(w, []api.Maintenance{m}) })
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *app) maintenanceDisable() *cobra.Command {
	return a.onNode(cobra.Command{
		Use: "disable ID", Short: "Let a node lead again",
	}, "disable maintenance of", func(cmd *cobra.Command, cl *client.Client, id model.NodeID) error {
		if err := cl.SetMaintenance(cmd.Context(), id, false); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "node %d may lead; it is given back what it is preferred for\n", id)
		return nil
	})
}

func (a *app) maintenanceStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status [ID]", Short: "Show which node is in maintenance, and what it still leads", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			var ids []model.NodeID
			if len(args) == 1 {
				id, err := nodeArg(args[0])
				if err != nil {
					return err
				}
				ids = append(ids, id)
			} else {
				info, err := cl.ClusterInfo(cmd.Context())
				if err != nil {
					return a.adminError("ask for the nodes", err)
				}
				for _, n := range info.Nodes {
					ids = append(ids, n.ID)
				}
			}
			all := make([]api.Maintenance, 0, len(ids))
			for _, id := range ids {
				m, err := cl.Maintenance(cmd.Context(), id)
				if err != nil {
					return a.adminError(fmt.Sprintf("ask for the maintenance of node %d", id), err)
				}
				all = append(all, m)
			}
			return a.print(all, func(w *sheet) { printMaintenance(w, all) })
		},
	}
}

func printMaintenance(w *sheet, all []api.Maintenance) {
	var nodes, stay [][]any
	for _, m := range all {
		nodes = append(nodes, []any{m.Node, m.Enabled, m.Finished, m.Alive, len(m.Partitions), m.Controller})
		for _, p := range m.Partitions {
			if m.Enabled {
				stay = append(stay, []any{fmt.Sprintf("%s/%d", p.Topic, p.Partition), m.Node, p.Reason})
			}
		}
	}
	w.table([]string{"NODE", "MAINTENANCE", "FINISHED", "ALIVE", "LEADS", "CONTROLLER"}, nodes)
	if len(stay) > 0 {
		w.line("")
		w.table([]string{"PARTITION", "LEADER", "REASON"}, stay)
	}
}
