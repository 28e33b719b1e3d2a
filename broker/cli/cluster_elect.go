package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func (a *app) partitionsTransfer() *cobra.Command {
	var partitions []string
	c := &cobra.Command{
		Use: "transfer-leadership [TOPIC | TOPIC/PARTITION]...", Short: "Have partitions led by whom they are meant for", ValidArgsFunction: a.completeTopics,
		Long: `Have the first replica lead now, of the partitions named or of all; by itself it would do so
once it has been back for ten seconds. Another is preferred once it is first: for example
` + "`millrace cluster partitions move orders/0:2,0,1`" + ` has node 2 lead orders/0.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			set, err := electionsAsked(cmd.Context(), cl, args, partitions)
			if err != nil {
				return err
			}
			answers, err := cl.ElectLeaders(cmd.Context(), kadm.ElectPreferredReplica, set)
			if err != nil {
				return fmt.Errorf("ask for elections: %w", err)
			}
			return a.printElections(answers)
		},
	}
	c.Flags().StringArrayVarP(&partitions, "partition", "p", nil, "PARTITION of the topic, or TOPIC/PARTITION; may be repeated")
	return c
}

// electionsAsked gives what is named; nil: all.
func electionsAsked(ctx context.Context, cl *kadm.Client, args, flags []string) (set kadm.TopicsSet, err error) {
	topic := ""
	if len(args) == 1 && len(flags) > 0 && !strings.Contains(args[0], "/") {
		topic, args = args[0], nil
	}
	for _, text := range append(args[:len(args):len(args)], flags...) {
		if strings.Contains(text, ":") {
			return nil, fmt.Errorf("%q names a node, and the first replica is meant to lead; `millrace cluster partitions move` makes another the first, as orders/0:2,0,1", text)
		}
		if len(flags) == 0 && !strings.Contains(text, "/") { // a whole topic
			topics, err := cl.ListTopics(ctx, text)
			if err != nil {
				return nil, fmt.Errorf("ask for metadata: %w", err)
			}
			if err := topics.Error(); err != nil {
				return nil, explain("ask for topic", text, err)
			}
			topics.EachPartition(func(p kadm.PartitionDetail) { set.Add(p.Topic, p.Partition) })
			continue
		}
		name, index, err := place(text, topic)
		if err != nil {
			return nil, err
		}
		set.Add(name, index)
	}
	return set, nil
}

// printElections prints what came of each; that none was needed is as good as one.
func (a *app) printElections(answers kadm.ElectLeadersResults) error {
	results, failed := []moveResult{}, 0
	for _, topic := range slices.Sorted(maps.Keys(answers)) {
		for _, index := range slices.Sorted(maps.Keys(answers[topic])) {
			r := answers[topic][index]
			m := moveResult{topic, index, "OK"}
			switch {
			case errors.Is(r.Err, kerr.ElectionNotNeeded):
				m.Status = "OK, as it was"
			case r.Err != nil:
				failed++
				if m.Status = r.ErrMessage; m.Status == "" {
					m.Status = r.Err.Error()
				}
			}
			results = append(results, m)
		}
	}
	err := a.print(results, func(w *sheet) {
		if len(results) == 0 {
			w.line("every partition is led by whom it is meant for")
			return
		}
		var rows [][]any
		for _, m := range results {
			rows = append(rows, []any{m.Topic, m.Partition, m.Status})
		}
		w.table([]string{"TOPIC", "PARTITION", "STATUS"}, rows)
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d partitions are not led by whom they are meant for", failed, len(results))
	}
	return err
}
