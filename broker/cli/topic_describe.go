package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicDescription is one topic, whole.
type topicDescription struct {
	Summary    topicSummary           `json:"summary"`
	Configs    []topicConfig          `json:"configs"`
	Partitions []partitionDescription `json:"partitions"`
}

type topicSummary struct {
	Name       string `json:"name"`
	ID         string `json:"id,omitempty"`
	Internal   bool   `json:"internal"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replicas"`
	Error      string `json:"error,omitempty"`
}

type topicConfig struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

type partitionDescription struct {
	partitionItem
	LogStart      int64  `json:"log_start_offset"`
	HighWatermark int64  `json:"high_watermark"`
	LastStable    int64  `json:"last_stable_offset"`
	Error         string `json:"error,omitempty"`
}

type topicSections struct{ summary, configs, partitions, all, stable bool }

func (a *app) topicDescribe() *cobra.Command {
	var want topicSections
	var regex bool
	c := &cobra.Command{
		Use: "describe TOPIC...", Aliases: []string{"info"}, Short: "Describe topics",
		Long: `Describe topics in up to three sections: summary, configs, partitions. Without a
flag it prints summary and configs. JSON and YAML always hold all three.`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !want.summary && !want.configs && !want.partitions {
				want.summary, want.configs = true, true
			}
			if want.all {
				want.summary, want.configs, want.partitions = true, true, true
			}
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			found, err := a.topics(cmd.Context(), cl, args, regex)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return errors.New("no topic matches; `millrace topic list` shows what there is")
			}
			out, err := describeTopics(cmd, cl, found)
			if err != nil {
				return err
			}
			return a.print(out, func(w *sheet) {
				for i, t := range out {
					if i > 0 {
						w.line("")
						w.sections = 0
					}
					printTopic(w, t, want)
				}
			})
		},
	}
	f := c.Flags()
	f.BoolVarP(&want.summary, "print-summary", "s", false, "print the summary")
	f.BoolVarP(&want.configs, "print-configs", "c", false, "print the configs")
	f.BoolVarP(&want.partitions, "print-partitions", "p", false, "print the partitions")
	f.BoolVarP(&want.all, "print-all", "a", false, "print all three")
	f.BoolVar(&want.stable, "stable", false, "show last stable offsets with the partitions")
	f.BoolVarP(&regex, "regex", "r", false, "take the arguments as regular expressions over the whole name")
	return c
}

func describeTopics(cmd *cobra.Command, cl *kadm.Client, found []kadm.TopicDetail) ([]topicDescription, error) {
	ctx, names := cmd.Context(), topicNames(found)
	configs, err := cl.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe configs: %w", err)
	}
	starts, err := cl.ListStartOffsets(ctx, names...)
	if err != nil && len(starts) == 0 {
		return nil, fmt.Errorf("list start offsets: %w", err)
	}
	ends, err := cl.ListEndOffsets(ctx, names...)
	if err != nil && len(ends) == 0 {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	stable, err := cl.ListCommittedOffsets(ctx, names...)
	if err != nil && len(stable) == 0 {
		return nil, fmt.Errorf("list stable offsets: %w", err)
	}
	var out []topicDescription
	for _, t := range found {
		d := topicDescription{Summary: topicSummary{
			Name: t.Topic, Internal: t.IsInternal, Partitions: len(t.Partitions), Replicas: t.Partitions.NumReplicas(),
		}}
		if t.ID != (kadm.TopicID{}) {
			d.Summary.ID = t.ID.String()
		}
		if rc, err := configs.On(t.Topic, nil); err == nil && rc.Err == nil {
			d.Configs = topicConfigs(rc.Configs)
		} else if err == nil {
			d.Summary.Error = rc.Err.Error()
		}
		for _, p := range t.Partitions.Sorted() {
			d.Partitions = append(d.Partitions, describePartition(p, starts, ends, stable))
		}
		out = append(out, d)
	}
	return out, nil
}

func topicConfigs(in []kadm.Config) (out []topicConfig) {
	for _, c := range in {
		out = append(out, topicConfig{c.Key, c.MaybeValue(), strings.TrimSuffix(sourceName(c.Source), "_CONFIG")})
	}
	slices.SortFunc(out, func(x, y topicConfig) int { return strings.Compare(x.Key, y.Key) })
	return out
}

func sourceName(s kmsg.ConfigSource) string { return s.String() }

func describePartition(p kadm.PartitionDetail, starts, ends, stable kadm.ListedOffsets) partitionDescription {
	d := partitionDescription{partitionItem: partitionItem{p.Partition, p.Leader, p.LeaderEpoch, p.Replicas}}
	err := p.Err
	take := func(l kadm.ListedOffsets, at *int64) {
		o, found := l.Lookup(p.Topic, p.Partition)
		*at = o.Offset
		if !found {
			*at = -1
		}
		if err == nil {
			err = o.Err
		}
	}
	take(starts, &d.LogStart)
	take(ends, &d.HighWatermark)
	take(stable, &d.LastStable)
	if err != nil {
		d.Error = status(err, "")
	}
	return d
}

func printTopic(w *sheet, t topicDescription, want topicSections) {
	one := !want.all && btoi(want.summary)+btoi(want.configs)+btoi(want.partitions) == 1
	section := func(title string) {
		if !one {
			w.section(title)
		}
	}
	if want.summary {
		section("SUMMARY")
		kv := []any{"NAME", t.Summary.Name}
		if t.Summary.Internal {
			kv = append(kv, "INTERNAL", true)
		}
		if w.wide {
			kv = append(kv, "ID", t.Summary.ID)
		}
		kv = append(kv, "PARTITIONS", t.Summary.Partitions, "REPLICAS", t.Summary.Replicas)
		if t.Summary.Error != "" {
			kv = append(kv, "ERROR", t.Summary.Error)
		}
		w.pairs(kv...)
	}
	if want.configs {
		section("CONFIGS")
		var rows [][]any
		for _, c := range t.Configs {
			rows = append(rows, []any{c.Key, c.Value, c.Source})
		}
		w.table([]string{"KEY", "VALUE", "SOURCE"}, rows)
	}
	if want.partitions {
		section("PARTITIONS")
		heads := []string{"PARTITION", "LEADER", "EPOCH", "REPLICAS", "LOG-START-OFFSET", "HIGH-WATERMARK", "+LAST-STABLE-OFFSET", "ERROR"}
		if want.stable {
			heads[6] = "LAST-STABLE-OFFSET"
		}
		var rows [][]any
		failed := false
		for _, p := range t.Partitions {
			failed = failed || p.Error != ""
			rows = append(rows, []any{p.Partition, p.Leader, p.Epoch, p.Replicas, p.LogStart, p.HighWatermark, p.LastStable, p.Error})
		}
		if !failed {
			heads[7] = ""
		}
		w.table(heads, rows)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
