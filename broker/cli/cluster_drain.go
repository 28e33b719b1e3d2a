package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
	"github.com/millrace-io/millrace/broker/model"
)

func nodeArg(text string) (model.NodeID, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no node id; `millrace cluster info` lists them", text)
	}
	return model.NodeID(n), nil
}

// onNode makes a command that asks the admin API about one node; doing is what fails.
func (a *app) onNode(c cobra.Command, doing string, do func(cmd *cobra.Command, cl *client.Client, id model.NodeID) error) *cobra.Command {
	c.Args = cobra.ExactArgs(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := nodeArg(args[0])
		if err != nil {
			return err
		}
		cl, err := a.adminClient()
		if err != nil {
			return err
		}
		if err := do(cmd, cl, id); err != nil {
			return a.adminError(doing+" node "+args[0], err)
		}
		return nil
	}
	return &c
}

func (a *app) decommission() *cobra.Command {
	return a.onNode(cobra.Command{
		Use: "decommission ID", Short: "Bring a node's replicas elsewhere, so that it can go",
		Long: `Bring a node's replicas to the other nodes, each to the one that has the fewest, and give it no
more. The command returns at once; ` + "`millrace cluster decommission-status ID`" + ` shows how far it is,
and what keeps a partition there. A node that holds nothing any more leaves the cluster, and its
process ends; its id is not assigned again. Until then ` + "`recommission`" + ` takes it back.`,
	}, "decommission", func(cmd *cobra.Command, cl *client.Client, id model.NodeID) error {
		if err := cl.Decommission(cmd.Context(), id); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "node %d is being decommissioned; `millrace cluster decommission-status %d` shows how far it is\n", id, id)
		return nil
	})
}

func (a *app) recommission() *cobra.Command {
	return a.onNode(cobra.Command{
		Use: "recommission ID", Short: "End a node's decommissioning; what has not left it stays",
	}, "recommission", func(cmd *cobra.Command, cl *client.Client, id model.NodeID) error {
		if err := cl.Recommission(cmd.Context(), id); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "node %d is active\n", id)
		return nil
	})
}

func (a *app) decommissionStatus() *cobra.Command {
	return a.onNode(cobra.Command{
		Use: "decommission-status ID", Short: "Show what a node still holds, why, and what is done next",
	}, "ask for the decommissioning of", func(cmd *cobra.Command, cl *client.Client, id model.NodeID) error {
		d, err := cl.DecommissionStatus(cmd.Context(), id)
		if err != nil {
			return err
		}
		return a.print(d, func(w *sheet) { printDecommission(w, d) })
	})
}

func printDecommission(w *sheet, d api.Decommission) {
	switch {
	case d.Finished:
		w.line("node %d is no part of the cluster any more: its data directory may be deleted", d.Node)
		return
	case len(d.Partitions) == 0:
		w.line("node %d is %s", d.Node, d.State)
		return
	}
	w.section("DECOMMISSION PROGRESS")
	w.pairs("Node:", d.Node, "State:", d.State, "Alive:", d.Alive, "Partitions left:", len(d.Partitions))
	var rows [][]any
	for _, p := range d.Partitions {
		rows = append(rows, []any{fmt.Sprintf("%s/%d", p.Topic, p.Partition), p.Leader, list(p.Replicas), list(p.MovesTo), p.Reason, p.Next})
	}
	w.line("")
	w.table([]string{"PARTITION", "LEADER", "REPLICAS", "MOVES-TO", "REASON", "NEXT"}, rows)
}
