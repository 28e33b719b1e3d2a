package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/rescue"
)

// errNotAccepted is what is said to who has not said that records may be lost.
var errNotAccepted = errors.New("this gives up records that only the lost nodes had, FOR EVER, although they were acknowledged, and the lost nodes may never " +
	"come back with their disks. See with --dry-run what would be done; then give --i-accept-data-loss")

func (a *app) recoverLostMajority() *cobra.Command {
	var ask rescue.Ask
	var lost string
	var accept bool
	c := &cobra.Command{
		Use: "recover-lost-majority", Short: "GIVE UP nodes whose disks are lost for ever, and go on with what is left", Args: cobra.NoArgs,
		Long: `Go on with what is left where a majority of the nodes is gone FOR EVER, with their disks. It is run
on the stopped nodes that are left, in their data directories. Every partition that has lost its
majority goes on with the longest log that is left. RECORDS THAT ONLY THE LOST NODES HAD ARE LOST,
although they were acknowledged. If a lost node can still be started, or its disk can be put into
another machine, do that instead.

With one node left, look with --dry-run, then run it with --i-accept-data-loss, then start the node.
With several left, stop all of them first. Have each write a --report, by --dry-run; give each the
reports of the others by --reports, and the same --lost; start none before all are done.

A lost node must never come back with its old disk: it is refused by those that know, but it and
another lost one would make a cluster of their own that clients may find. docs/CLUSTER.md has the
steps.`,
		Example: `  millrace cluster recover-lost-majority --data-dir /var/lib/millrace --lost 1,2 --dry-run
  millrace cluster recover-lost-majority --data-dir /var/lib/millrace --lost 1,2 --i-accept-data-loss`,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case a.deps.Rescue == nil:
				return errors.New("this executable holds no broker")
			case ask.DataDir == "":
				return errors.New("which directory? Give --data-dir as to `millrace start`")
			case lost == "":
				return errors.New("which nodes are lost for ever? Give their ids: --lost 1,2")
			case !ask.DryRun && !accept:
				return errNotAccepted
			}
			for _, text := range strings.Split(lost, ",") {
				id, err := nodeArg(strings.TrimSpace(text))
				if err != nil {
					return err
				}
				ask.Lost = append(ask.Lost, id)
			}
			done, err := a.deps.Rescue(ask)
			if err != nil {
				return fmt.Errorf("recover from a lost majority: %w", err)
			}
			return a.print(done, func(w *sheet) { printRescue(w, ask, done) })
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&ask.DataDir, "data-dir", "", "the data directory of this node, which must be stopped")
	f.StringVar(&lost, "lost", "", "ids of the nodes that are gone for ever: 1,2")
	f.BoolVar(&ask.DryRun, "dry-run", false, "change nothing; show what would become of every partition")
	f.StringVar(&ask.ReportTo, "report", "", "file to write what this node holds to, for the other nodes that are left")
	f.StringSliceVar(&ask.Reports, "reports", nil, "files that the other nodes that are left have written")
	f.BoolVar(&ask.BeginEmpty, "begin-empty", false, "partitions of which no replica is left begin anew, empty, instead of having no leader")
	f.BoolVar(&accept, "i-accept-data-loss", false, "records that only the lost nodes had may be lost")
	return c
}

func printRescue(w *sheet, ask rescue.Ask, o *rescue.Outcome) {
	w.section("RECOVERY FROM A LOST MAJORITY")
	w.pairs("Node:", o.Node, "Cluster:", o.Cluster, "Given up:", list(o.Lost), "Replicas here:", o.Held)
	w.line("")
	if o.Plan == nil {
		w.line("nothing is decided yet: %s; give its report with --reports, or give it up with --lost", o.Unreported)
		return
	}
	var rows [][]any
	here := 0
	for _, d := range o.Plan.Groups {
		if d.Fate == rescue.Keeps && !w.wide {
			continue
		}
		by := "-"
		if d.Fate == rescue.GoesOn {
			by = fmt.Sprint(d.By)
		}
		if d.By == o.Node {
			here++
		}
		rows = append(rows, []any{d.Shard, d.Fate, by, len(d.Stay), len(d.Gone), d.LastIndex, d.Undecided, d.Why})
	}
	if len(rows) > 0 {
		w.table([]string{"GROUP", "FATE", "BY", "STAY", "GONE", "LAST-ENTRY", "UNDECIDED", "WHY"}, rows)
		w.line("")
	}
	p := o.Plan
	w.line("%d go on, %d of them by this node; %d keep a majority; %d are lost with all that is in them", p.Count(rescue.GoesOn), here, p.Count(rescue.Keeps), p.Count(rescue.Ends))
	if ask.DryRun {
		w.line("nothing was changed. Without --dry-run, and with --i-accept-data-loss, what only nodes %v had is lost for ever", list(o.Lost))
		return
	}
	w.line("done. Start this node once all that are left are done; nodes %v must never come back with their disks", list(o.Lost))
}
