package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
)

func (a *app) featuresCommand() *cobra.Command {
	return group("features", "See what newer versions bring, and have it used", a.featuresList(), a.featuresActivate())
}

func (a *app) featuresList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the nodes' versions, and what of each version is used", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			f, err := cl.Features(cmd.Context())
			if err != nil {
				return a.adminError("ask for features", err)
			}
			return a.print(f, func(w *sheet) { printFeatures(w, f) })
		},
	}
}

func (a *app) featuresActivate() *cobra.Command {
	return &cobra.Command{
		Use: "activate [LEVEL]", Short: "Use what all nodes have; none can go back to an older version then", Args: cobra.MaximumNArgs(1),
		Long: `Raise the cluster to a feature level, the highest that all nodes have if none is given. It is
done without being asked unless the cluster's setting millrace.features.auto.activate is false.
From then on a node of a version that does not have the level is refused: a level is never lowered.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			level := 0
			if len(args) > 0 {
				n, err := strconv.Atoi(args[0])
				if err != nil || n < 1 {
					return fmt.Errorf("%q is no feature level; `millrace cluster features list` shows them", args[0])
				}
				level = n
			}
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			f, err := cl.ActivateFeatures(cmd.Context(), level)
			if err != nil {
				return a.adminError("activate features", err)
			}
			return a.print(f, func(w *sheet) { w.line("the cluster is at feature level %d", f.Active) })
		},
	}
}

func printFeatures(w *sheet, f api.Features) {
	w.section("LEVELS")
	w.pairs("Active:", f.Active, "All nodes have:", f.Common, "This node has:", f.Build, "Activated by itself:", f.Auto)
	w.section("NODES")
	var rows [][]any
	for _, n := range f.Nodes {
		level := fmt.Sprint(n.Level)
		if n.Level == 0 {
			level = "?"
		}
		rows = append(rows, []any{n.Node, n.Version, level, n.Reason})
	}
	w.table([]string{"NODE", "VERSION", "LEVEL", "REASON"}, rows)
	w.section("FEATURES")
	rows = nil
	for _, x := range f.Features {
		rows = append(rows, []any{x.Name, x.Level, x.State, x.Doc})
	}
	w.table([]string{"NAME", "LEVEL", "STATE", "BRINGS"}, rows)
}
