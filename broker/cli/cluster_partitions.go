package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/admin/api"
)

func (a *app) partitionsCommand() *cobra.Command {
	return group("partitions", "Move partitions between nodes",
		a.partitionsMove(), a.partitionsMoveStatus(), a.partitionsMoveCancel(), a.partitionsTransfer(), a.balanceStatus("balancer-status"))
}

// place is TOPIC/PARTITION, or PARTITION of a topic named before.
func place(text, topic string) (string, int32, error) {
	name, index := topic, text
	if i := strings.LastIndexByte(text, '/'); i >= 0 {
		name, index = text[:i], text[i+1:]
	}
	n, err := strconv.ParseInt(index, 10, 32)
	switch {
	case err != nil || n < 0:
		return "", 0, fmt.Errorf("%q is no partition; write TOPIC/PARTITION, as orders/0", text)
	case name == "":
		return "", 0, fmt.Errorf("%q names no topic; write TOPIC/PARTITION, as orders/%d", text, n)
	}
	return name, int32(n), nil
}

// movesAsked reads TOPIC/PARTITION:NODE,NODE..., of arguments and of the flag; a lone
// argument without them is the topic of the flag's.
func movesAsked(args, flags []string) (req kadm.AlterPartitionAssignmentsReq, err error) {
	topic := ""
	if len(args) == 1 && !strings.Contains(args[0], ":") {
		topic, args = args[0], nil
	}
	for _, text := range slices.Concat(args, flags) {
		where, nodes, ok := strings.Cut(text, ":")
		if !ok {
			return nil, fmt.Errorf("%q says not where to; write PARTITION:NODE,NODE..., as 0:1,2,3", text)
		}
		name, index, err := place(where, topic)
		if err != nil {
			return nil, err
		}
		var ids []int32
		for _, n := range strings.Split(nodes, ",") {
			id, err := nodeArg(strings.TrimSpace(n))
			if err != nil {
				return nil, err
			}
			ids = append(ids, int32(id))
		}
		if _, twice := req[name][index]; twice {
			return nil, fmt.Errorf("%s/%d is named twice", name, index)
		}
		req.Assign(name, index, ids)
	}
	if len(req) == 0 {
		return nil, errors.New("name what is to move; for example `millrace cluster partitions move orders/0:1,2,3`")
	}
	return req, nil
}

type moveResult struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Status    string `json:"status"`
}

func (a *app) partitionsMove() *cobra.Command {
	var partitions []string
	c := &cobra.Command{
		Use: "move [TOPIC | TOPIC/PARTITION:NODE,NODE...]...", Short: "Bring partitions to other nodes",
		Long: `Bring the replicas of partitions to these nodes, the first of which is preferred to lead. The
command returns when the cluster knows; ` + "`millrace cluster partitions move-status`" + ` shows what is under way.`,
		Example: `  millrace cluster partitions move orders/0:1,2,3 orders/1:2,3,1
  millrace cluster partitions move orders -p 0:1,2,3 -p 1:2,3,1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := movesAsked(args, partitions)
			if err != nil {
				return err
			}
			return a.alterMoves(cmd.Context(), req)
		},
	}
	// Not a slice of the flag package's: the commas are the nodes'.
	c.Flags().StringArrayVarP(&partitions, "partition", "p", nil, "PARTITION:NODE,NODE... of the topic, or TOPIC/PARTITION:NODE,NODE...; may be repeated")
	return c
}

// alterMoves asks for moves, or cancels, and prints what comes of each.
func (a *app) alterMoves(ctx context.Context, req kadm.AlterPartitionAssignmentsReq) error {
	cl, err := a.kadm(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	answers, err := cl.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return fmt.Errorf("ask for reassignments: %w", err)
	}
	var results []moveResult
	failed := 0
	for _, r := range answers.Sorted() {
		m := moveResult{r.Topic, r.Partition, "OK"}
		if r.Err != nil {
			failed++
			if m.Status = r.ErrMessage; m.Status == "" {
				m.Status = r.Err.Error()
			}
		}
		results = append(results, m)
	}
	err = a.print(results, func(w *sheet) {
		var rows [][]any
		for _, m := range results {
			rows = append(rows, []any{m.Topic, m.Partition, m.Status})
		}
		w.table([]string{"TOPIC", "PARTITION", "STATUS"}, rows)
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d partitions were refused", failed, len(results))
	}
	return err
}

// underWay gives the cancels of the moves of a topic, of all without one.
func underWay(ctx context.Context, cl *kgo.Client, topic string) (req kadm.AlterPartitionAssignmentsReq, err error) {
	r, err := kmsg.NewPtrListPartitionReassignmentsRequest().RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("ask for reassignments: %w", err)
	}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			if topic == "" || t.Topic == topic {
				req.CancelAssign(t.Topic, p.Partition)
			}
		}
	}
	return req, nil
}

func (a *app) partitionsMoveStatus() *cobra.Command {
	return &cobra.Command{
		Use: "move-status [TOPIC...]", Short: "Show the partitions that are on their way", ValidArgsFunction: a.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			moves, err := cl.Moves(cmd.Context())
			if err != nil {
				return a.adminError("ask for moves", err)
			}
			moves = slices.DeleteFunc(moves, func(m api.Move) bool { return len(args) > 0 && !slices.Contains(args, m.Topic) })
			return a.print(moves, func(w *sheet) {
				if len(moves) == 0 {
					w.line("no partition is on its way")
					return
				}
				var rows [][]any
				for _, m := range moves {
					rows = append(rows, []any{m.Topic, m.Partition, list(m.Replicas), list(m.Adding), list(m.Removing), m.Reason})
				}
				w.table([]string{"TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING", "REASON"}, rows)
			})
		},
	}
}

func (a *app) partitionsMoveCancel() *cobra.Command {
	var partitions []string
	var sure bool
	c := &cobra.Command{
		Use: "move-cancel [TOPIC | TOPIC/PARTITION]...", Short: "Leave partitions where they were",
		Long: `Take back moves that are under way: of the partitions named, or of all. What has come to its
new nodes already, and has but to leave the old ones, is not taken back.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := a.cancelsAsked(cmd.Context(), args, partitions)
			if err != nil || len(req) == 0 {
				return err
			}
			n := 0
			for _, of := range req {
				n += len(of)
			}
			if err := a.confirm(cmd.Context(), sure, "--no-confirm", "Leave %d partitions where they were?", n); err != nil {
				return err
			}
			return a.alterMoves(cmd.Context(), req)
		},
	}
	c.Flags().StringArrayVarP(&partitions, "partition", "p", nil, "PARTITION of the topic, or TOPIC/PARTITION; may be repeated")
	c.Flags().BoolVar(&sure, "no-confirm", false, "do not ask")
	return c
}

// cancelsAsked gives what is named, or all that is under way of a topic, or of all.
func (a *app) cancelsAsked(ctx context.Context, args, flags []string) (req kadm.AlterPartitionAssignmentsReq, err error) {
	topic := ""
	if len(args) == 1 && !strings.Contains(args[0], "/") {
		topic, args = args[0], nil
	}
	for _, text := range slices.Concat(args, flags) {
		name, index, err := place(text, topic)
		if err != nil {
			return nil, err
		}
		req.CancelAssign(name, index)
	}
	if len(req) > 0 {
		return req, nil
	}
	cl, err := a.kafka(ctx)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	req, err = underWay(ctx, cl, topic)
	if err == nil && len(req) == 0 {
		fmt.Fprintln(a.out, "no partition is on its way")
	}
	return req, err
}
