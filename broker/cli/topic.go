package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func (a *app) topicCommand() *cobra.Command {
	return group("topic", "Create, change and delete topics; produce and consume records",
		a.topicCreate(), a.topicList(), a.topicDescribe(), a.topicDelete(), a.topicAlterConfig(),
		a.topicAddPartitions(), a.topicTrimPrefix(), a.topicProduce(), a.topicConsume())
}

// statusRow is what the commands that change topics say of each.
type statusRow struct {
	Topic  string `json:"topic"`
	Status string `json:"status"`
}

// printStatus prints a row for each topic, and fails when one failed.
func (a *app) printStatus(rows []statusRow, verb string) error {
	failed := 0
	slices.SortFunc(rows, func(x, y statusRow) int { return strings.Compare(x.Topic, y.Topic) })
	err := a.print(rows, func(w *sheet) {
		var cells [][]any
		for _, r := range rows {
			cells = append(cells, []any{r.Topic, r.Status})
		}
		w.table([]string{"TOPIC", "STATUS"}, cells)
	})
	for _, r := range rows {
		if r.Status != "OK" {
			failed++
		}
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%s: %d of %d topics failed", verb, failed, len(rows))
	}
	return err
}

func (a *app) topicCreate() *cobra.Command {
	var partitions int32
	var replicas int16
	var configs []string
	var dry bool
	c := &cobra.Command{
		Use: "create TOPIC...", Short: "Create topics", Args: cobra.MinimumNArgs(1),
		Long: `Create topics. All of them get the same number of partitions, replicas and the same
configs; what is not given is the cluster's default.`,
		Example: "  millrace topic create orders -p 8 -c cleanup.policy=compact",
		RunE: func(cmd *cobra.Command, args []string) error {
			set := map[string]*string{}
			for _, kv := range configs {
				k, v, found := strings.Cut(kv, "=")
				if !found || k == "" {
					return fmt.Errorf("-c %s: want key=value, for example -c retention.ms=3600000", kv)
				}
				set[k] = &v
			}
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			create := cl.CreateTopics
			if dry {
				create = cl.ValidateCreateTopics
			}
			made, err := create(cmd.Context(), partitions, replicas, set, args...)
			if err != nil {
				return fmt.Errorf("create topics: %w", err)
			}
			var rows []statusRow
			for _, t := range made.Sorted() {
				rows = append(rows, statusRow{t.Topic, status(t.Err, t.ErrMessage)})
			}
			return a.printStatus(rows, "create")
		},
	}
	f := c.Flags()
	f.Int32VarP(&partitions, "partitions", "p", -1, "partitions of each topic; -1: the cluster's default")
	f.Int16VarP(&replicas, "replicas", "r", -1, "replicas of each partition; -1: the cluster's default")
	f.StringArrayVarP(&configs, "topic-config", "c", nil, "topic config, key=value (repeatable)")
	f.BoolVarP(&dry, "dry", "d", false, "only check whether it could be done")
	return c
}

// topicItem is a topic in lists.
type topicItem struct {
	Name       string          `json:"name"`
	Internal   bool            `json:"internal"`
	Partitions int             `json:"partitions"`
	Replicas   int             `json:"replicas"`
	Detail     []partitionItem `json:"partition_details,omitempty"`
}

type partitionItem struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"epoch"`
	Replicas  []int32 `json:"replicas"`
}

func (a *app) topicList() *cobra.Command {
	var internal, regex, detailed bool
	c := &cobra.Command{
		Use: "list [TOPIC...]", Aliases: []string{"ls"}, Short: "List topics", ValidArgsFunction: a.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if regex && internal {
				return errors.New("--regex matches no internal topics: give one of -r and -i")
			}
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			var found []kadm.TopicDetail
			if internal && len(args) == 0 {
				all, err := cl.ListTopicsWithInternal(cmd.Context())
				if err != nil {
					return fmt.Errorf("list topics: %w", err)
				}
				found = all.Sorted()
			} else if found, err = a.topics(cmd.Context(), cl, args, regex); err != nil {
				return err
			}
			items := []topicItem{}
			for _, t := range found {
				items = append(items, newTopicItem(t, detailed))
			}
			return a.print(items, func(w *sheet) { printTopics(w, items, detailed) })
		},
	}
	f := c.Flags()
	f.BoolVarP(&detailed, "detailed", "d", false, "show every partition")
	f.BoolVarP(&internal, "internal", "i", false, "show internal topics too")
	f.BoolVarP(&regex, "regex", "r", false, "take the arguments as regular expressions over the whole name")
	return c
}

func newTopicItem(t kadm.TopicDetail, detailed bool) topicItem {
	item := topicItem{Name: t.Topic, Internal: t.IsInternal, Partitions: len(t.Partitions), Replicas: t.Partitions.NumReplicas()}
	if detailed {
		for _, p := range t.Partitions.Sorted() {
			item.Detail = append(item.Detail, partitionItem{p.Partition, p.Leader, p.LeaderEpoch, p.Replicas})
		}
	}
	return item
}

func printTopics(w *sheet, items []topicItem, detailed bool) {
	if !detailed {
		var rows [][]any
		for _, t := range items {
			rows = append(rows, []any{t.Name, t.Partitions, t.Replicas, t.Internal})
		}
		w.table([]string{"NAME", "PARTITIONS", "REPLICAS", "+INTERNAL"}, rows)
		return
	}
	for i, t := range items {
		if i > 0 {
			w.line("")
		}
		w.line("%s, %d partitions, %d replicas", t.Name, t.Partitions, t.Replicas)
		var rows [][]any
		for _, p := range t.Detail {
			rows = append(rows, []any{"", p.Partition, p.Leader, p.Epoch, p.Replicas})
		}
		w.table([]string{"", "PARTITION", "LEADER", "EPOCH", "REPLICAS"}, rows)
	}
}

func (a *app) topicDelete() *cobra.Command {
	var regex bool
	c := &cobra.Command{
		Use: "delete TOPIC...", Short: "Delete topics", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			if regex {
				found, err := a.topics(cmd.Context(), cl, args, true)
				if err != nil {
					return err
				}
				if args = topicNames(found); len(args) == 0 {
					return errors.New("no topic matches; `millrace topic list -r EXPRESSION` shows what would")
				}
			}
			gone, err := cl.DeleteTopics(cmd.Context(), args...)
			if err != nil {
				return fmt.Errorf("delete topics: %w", err)
			}
			var rows []statusRow
			for _, t := range gone.Sorted() {
				rows = append(rows, statusRow{t.Topic, status(t.Err, t.ErrMessage)})
			}
			return a.printStatus(rows, "delete")
		},
	}
	c.Flags().BoolVarP(&regex, "regex", "r", false, "take the arguments as regular expressions over the whole name")
	return c
}

func (a *app) topicAddPartitions() *cobra.Command {
	var add int
	c := &cobra.Command{
		Use: "add-partitions TOPIC... --num N", Short: "Add partitions to topics", Args: cobra.MinimumNArgs(1),
		Long: `Add partitions to topics. Child topics that a script made grow with their parent.
Records of one key may go to another partition afterwards.`,
		Example: "  millrace topic add-partitions orders --num 4", ValidArgsFunction: a.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if add < 1 {
				return errors.New("--num: how many partitions to add is missing, for example --num 4")
			}
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			done, err := cl.CreatePartitions(cmd.Context(), add, args...)
			if err != nil {
				return fmt.Errorf("add partitions: %w", err)
			}
			var rows []statusRow
			for _, t := range done.Sorted() {
				rows = append(rows, statusRow{t.Topic, status(t.Err, t.ErrMessage)})
			}
			return a.printStatus(rows, "add-partitions")
		},
	}
	c.Flags().IntVarP(&add, "num", "n", 0, "how many partitions to add to each topic")
	return c
}

func (a *app) topicAlterConfig() *cobra.Command {
	var set, del, add, sub []string
	var dry bool
	c := &cobra.Command{
		Use: "alter-config TOPIC... [--set key=value] [--delete key]", Short: "Set and remove topic configs",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeTopics,
		Example: "  millrace topic alter-config orders --set retention.ms=3600000 --delete cleanup.policy",
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := alterations(set, del, add, sub)
			if err != nil {
				return err
			}
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			alter := cl.AlterTopicConfigs
			if dry {
				alter = cl.ValidateAlterTopicConfigs
			}
			done, err := alter(cmd.Context(), changes, args...)
			if err != nil {
				return fmt.Errorf("alter configs: %w", err)
			}
			var rows []statusRow
			for _, name := range args {
				t, err := done.On(name, nil)
				if err == nil {
					err = t.Err
				}
				rows = append(rows, statusRow{name, status(err, t.ErrMessage)})
			}
			return a.printStatus(rows, "alter-config")
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&set, "set", "s", nil, "set key=value (repeatable)")
	f.StringSliceVarP(&del, "delete", "d", nil, "remove the override of key (repeatable)")
	f.StringArrayVar(&add, "append", nil, "add a value to a list, key=value (repeatable)")
	f.StringArrayVar(&sub, "subtract", nil, "take a value out of a list, key=value (repeatable)")
	f.BoolVar(&dry, "dry", false, "only check whether it could be done")
	return c
}

func alterations(set, del, add, sub []string) ([]kadm.AlterConfig, error) {
	var out []kadm.AlterConfig
	for _, k := range del {
		out = append(out, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
	}
	for _, part := range []struct {
		flag  string
		op    kadm.IncrementalOp
		pairs []string
	}{{"--set", kadm.SetConfig, set}, {"--append", kadm.AppendConfig, add}, {"--subtract", kadm.SubtractConfig, sub}} {
		for _, kv := range part.pairs {
			k, v, found := strings.Cut(kv, "=")
			if !found || k == "" {
				return nil, fmt.Errorf("%s %s: want key=value", part.flag, kv)
			}
			out = append(out, kadm.AlterConfig{Op: part.op, Name: k, Value: &v})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("nothing to change: give --set, --delete, --append or --subtract")
	}
	return out, nil
}
