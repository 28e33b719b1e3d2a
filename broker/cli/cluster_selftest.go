package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

func (a *app) selfTestCommand() *cobra.Command {
	return group("self-test", "Measure the nodes' disks and the network between them", a.selfTestStart(), a.selfTestStatus(), a.selfTestStop())
}

// selfTestMillis is how long each test runs if nothing is said.
const selfTestMillis = 10_000

func (a *app) selfTestStart() *cobra.Command {
	ask := api.SelfTestAsk{}
	var diskOnly, networkOnly, sure bool
	var nodes []int32
	c := &cobra.Command{
		Use: "start", Short: "Start the tests; clients wait longer while they run", Args: cobra.NoArgs,
		Long: `Start the tests and return. ` + "`millrace cluster self-test status`" + ` shows how far they are, and the results.

On each node's disk, one test after the other, in a file of at most 256 MiB that is removed
afterwards: 128 KiB sequential writes, 4 KiB writes that are durable before the next begins (what a
record with acks=all waits for), 128 KiB sequential reads; all past the page cache where the file
system can. Then, between each two nodes, over what their Raft messages take: calls of 64 bytes one after the
other, and 1 MiB four at once, there and back. The nodes begin at the same time.

The tests take what disk and network have: clients wait longer meanwhile.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if diskOnly && networkOnly {
				return errors.New("--only-disk-test and --only-network-test leave nothing to run; give one of them, or none")
			}
			if diskOnly {
				ask.NetworkMillis = 0
			}
			if networkOnly {
				ask.DiskMillis = 0
			}
			for _, n := range nodes {
				ask.Nodes = append(ask.Nodes, model.NodeID(n))
			}
			if err := a.confirm(cmd.Context(), sure, "--no-confirm", "The tests take what disks and network have: clients wait longer meanwhile. Start?"); err != nil {
				return err
			}
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			t, err := cl.StartSelfTest(cmd.Context(), ask)
			if err != nil {
				return a.adminError("start the self-test", err)
			}
			return a.printStarted(t)
		},
	}
	f := c.Flags()
	f.Int64Var(&ask.DiskMillis, "disk-duration-ms", selfTestMillis, "how long each disk test runs, in milliseconds")
	f.Int64Var(&ask.NetworkMillis, "network-duration-ms", selfTestMillis, "how long each network test runs, in milliseconds")
	f.BoolVar(&diskOnly, "only-disk-test", false, "run the disk tests only")
	f.BoolVar(&networkOnly, "only-network-test", false, "run the network tests only")
	f.Int32SliceVar(&nodes, "participant-node-ids", nil, "the nodes that take part (default all)")
	f.BoolVar(&sure, "no-confirm", false, "do not ask")
	return c
}

func (a *app) printStarted(t api.SelfTest) error {
	failed := 0
	for _, n := range t.Nodes {
		if n.Error != "" {
			failed++
			fmt.Fprintf(a.err, "node %d did not start: %s\n", n.Node, n.Error)
		}
	}
	if failed == len(t.Nodes) {
		return errors.New("no node has started the self-test")
	}
	err := a.print(t, func(w *sheet) {
		w.line("self-test %s has started; `millrace cluster self-test status` shows the results", t.ID)
	})
	if failed > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d nodes did not start", failed, len(t.Nodes)))
	}
	return err
}

func (a *app) selfTestStatus() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "status", Short: "Show how far the tests are, and the results", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			tick := time.NewTicker(healthPoll)
			defer tick.Stop()
			for {
				t, err := cl.SelfTest(cmd.Context())
				if err != nil {
					return a.adminError("ask for the self-test", err)
				}
				if !wait || !running(t) {
					return a.print(t, func(w *sheet) { printSelfTest(w, t) })
				}
				select {
				case <-tick.C:
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				}
			}
		},
	}
	c.Flags().BoolVarP(&wait, "wait", "w", false, "wait until no test runs")
	return c
}

func running(t api.SelfTest) bool {
	for _, n := range t.Nodes {
		if n.State == "running" {
			return true
		}
	}
	return false
}

func (a *app) selfTestStop() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "Stop the tests on every node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			t, err := cl.StopSelfTest(cmd.Context())
			if err != nil {
				return a.adminError("stop the self-test", err)
			}
			for _, n := range t.Nodes {
				if n.Error != "" {
					fmt.Fprintf(a.err, "node %d: %s\n", n.Node, n.Error)
				}
			}
			return a.print(t, func(w *sheet) { w.line("no test runs on the nodes that answer") })
		},
	}
}

func printSelfTest(w *sheet, t api.SelfTest) {
	for _, n := range t.Nodes {
		title := fmt.Sprintf("NODE %d IS %s", n.Node, n.State)
		if n.Test != "" {
			title += ": " + n.Test
		}
		w.section(title)
		if n.Error != "" {
			w.line("! %s", n.Error)
		}
		var rows [][]any
		for _, r := range n.Results {
			name := r.Test
			if r.Peer != nil {
				name += fmt.Sprintf(" %d", *r.Peer)
			}
			if r.Requests == 0 {
				rows = append(rows, []any{name, "-", "-", "-", "-", "-", "-", r.Error + r.Note})
				continue
			}
			rows = append(rows, []any{name, micros(r.P50), micros(r.P90), micros(r.P99), micros(r.Max),
				fmt.Sprintf("%.0f", r.PerSecond), fmt.Sprintf("%.1f", r.BytesPerSecond/(1<<20)), r.Error + r.Note})
		}
		if len(rows) > 0 {
			w.table([]string{"TEST", "P50-MS", "P90-MS", "P99-MS", "MAX-MS", "REQUESTS/S", "MIB/S", "REMARK"}, rows)
		}
	}
}

func micros(us float64) string { return fmt.Sprintf("%.3f", us/1000) }
