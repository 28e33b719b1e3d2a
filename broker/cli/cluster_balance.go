package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
)

func (a *app) balanceCommand() *cobra.Command {
	c := group("balance", "Show, pause and resume how the cluster balances on its own",
		a.balanceStatus("status"), a.balancePause(), a.balanceResume())
	c.Long = `The cluster moves replicas and preferred leaders on its own: away from nodes that are gone for
millrace.balance.gone.ms, apart where they share a rack, off disks beyond
millrace.balance.disk.percent, and to where there are fewer, as when a node has come. At most
millrace.balance.moves.max partitions are under way at a time, and recovery_rate bounds their bytes.`
	c.Example = `  millrace cluster balance --dry-run
  millrace cluster balance pause`
	help := c.RunE
	dry := false
	c.Flags().BoolVar(&dry, "dry-run", false, "print what would move, how many bytes, and why; move nothing")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if !dry {
			return help(cmd, args)
		}
		b, err := a.askBalance(cmd)
		if err != nil {
			return err
		}
		return a.print(b, func(w *sheet) { printPlan(w, b) })
	}
	return c
}

func (a *app) askBalance(cmd *cobra.Command) (b api.Balance, err error) {
	cl, err := a.adminClient()
	if err != nil {
		return b, err
	}
	b, err = cl.Balance(cmd.Context())
	return b, a.adminError("ask for the balance", err)
}

func (a *app) balanceStatus(use string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: "Show what the cluster's balance does, and what nodes have", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := a.askBalance(cmd)
			if err != nil {
				return err
			}
			return a.print(b, func(w *sheet) { printBalance(w, b) })
		},
	}
}

func (a *app) balancePause() *cobra.Command {
	return &cobra.Command{
		Use: "pause", Short: "Begin no more moves; those under way go on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			if err := cl.PauseBalance(cmd.Context()); err != nil {
				return a.adminError("pause the balance", err)
			}
			fmt.Fprintln(a.out, "the balance is paused; `millrace cluster balance resume` has it go on")
			return nil
		},
	}
}

func (a *app) balanceResume() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Have the cluster balance on its own again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			if err := cl.ResumeBalance(cmd.Context()); err != nil {
				return a.adminError("resume the balance", err)
			}
			fmt.Fprintln(a.out, "the cluster balances on its own")
			return nil
		},
	}
}

func printBalance(w *sheet, b api.Balance) {
	w.section("BALANCE")
	pairs := []any{"State:", b.State}
	if b.Reason != "" {
		pairs = append(pairs, "Reason:", b.Reason)
	}
	w.pairs(append(pairs, "Under way:", len(b.UnderWay), "Planned:", len(b.Planned), "Planned bytes:", b.Bytes, "At a time:", b.MovesMax)...)
	w.section("NODES")
	var rows [][]any
	for _, n := range b.Nodes {
		disk := "?"
		if n.DiskTotal > 0 {
			disk = fmt.Sprintf("%.0f%%", 100*float64(n.DiskUsed)/float64(n.DiskTotal))
		}
		rows = append(rows, []any{n.ID, n.Rack, n.State, n.Replicas, n.Leaders, disk})
	}
	w.table([]string{"ID", "RACK", "STATE", "REPLICAS", "PREFERRED", "DISK"}, rows)
	if len(b.UnderWay) > 0 {
		w.section("UNDER WAY")
		printBalanceMoves(w, b.UnderWay)
	}
	printStuck(w, b)
}

func printPlan(w *sheet, b api.Balance) {
	if b.State == api.BalancePaused {
		w.line("the balance is paused: nothing of this is done before `millrace cluster balance resume`")
	}
	if b.Reason != "" {
		w.line("%s", b.Reason)
	}
	if len(b.Planned) == 0 {
		w.line("nothing would move")
	} else {
		printBalanceMoves(w, b.Planned)
		w.line("%d partitions, %d bytes", len(b.Planned), b.Bytes)
	}
	printStuck(w, b)
}

func printBalanceMoves(w *sheet, moves []api.BalanceMove) {
	var rows [][]any
	for _, m := range moves {
		bytes := fmt.Sprint(m.Bytes)
		if m.Bytes < 0 {
			bytes = "-"
		}
		rows = append(rows, []any{fmt.Sprintf("%s/%d", m.Topic, m.Partition), list(m.From), list(m.To), bytes, m.Why})
	}
	w.table([]string{"PARTITION", "FROM", "TO", "BYTES", "WHY"}, rows)
}

func printStuck(w *sheet, b api.Balance) {
	for i, s := range b.Stuck {
		if i == partitionsShown {
			w.line("! and %d more: --format json has them", len(b.Stuck)-i)
			return
		}
		if s.Topic == "" {
			w.line("! %s", s.Why)
		} else {
			w.line("! %s/%d: %s", s.Topic, s.Partition, s.Why)
		}
	}
}
