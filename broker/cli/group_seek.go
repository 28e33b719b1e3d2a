package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// seeker is one run of `group seek`.
type seeker struct {
	a                   *app
	group               string
	to, toGroup, toFile string
	topics              []string
	allowNew            bool
}

func (a *app) groupSeek() *cobra.Command {
	k := &seeker{a: a}
	c := &cobra.Command{
		Use: "seek GROUP", Short: "Move a group's committed offsets", Args: cobra.ExactArgs(1),
		Long: `Move a group's committed offsets: --to start, end, or a point in time (as of topic consume;
the first record at or after it); --to-group what another group has committed; --to-file lines of
"TOPIC PARTITION OFFSET". Only topics that the group has committed move, unless
--allow-new-topics (implied by --to-group and --to-file). The group must have no members.`,
		Example: `  millrace group seek g --to start
  millrace group seek g --to 1622505600 --topics foo,bar
  millrace group seek g --to-group other`,
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			k.group = args[0]
			return k.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&k.to, "to", "", "start, end, or a point in time")
	f.StringVar(&k.toGroup, "to-group", "", "another group, whose commits are taken over")
	f.StringVar(&k.toFile, "to-file", "", "file of topics, partitions and offsets")
	f.StringSliceVar(&k.topics, "topics", nil, "only these topics, comma separated")
	f.BoolVar(&k.allowNew, "allow-new-topics", false, "with --to: move topics too that the group has not committed")
	c.MarkFlagsMutuallyExclusive("to", "to-group", "to-file")
	c.MarkFlagsOneRequired("to", "to-group", "to-file")
	return c
}

func (k *seeker) run(ctx context.Context) error {
	cl, err := k.a.kadm(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := mustBeEmpty(ctx, cl, k.group); err != nil {
		return err
	}
	had, err := cl.FetchOffsets(ctx, k.group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // a commit makes the group
		return explain("commits of group", k.group, err)
	}
	to, err := k.targets(ctx, cl, had)
	if err != nil {
		return err
	}
	if len(to) == 0 {
		return fmt.Errorf("nothing to move: group %q has committed none of these topics; give --topics with --allow-new-topics to begin", k.group)
	}
	done, err := cl.CommitOffsets(ctx, k.group, to)
	if err != nil {
		return explain("commit offsets of group", k.group, err)
	}
	return k.print(had, done)
}

func mustBeEmpty(ctx context.Context, cl *kadm.Client, name string) error {
	found, err := cl.DescribeGroups(ctx, name)
	if err != nil {
		return explain("describe group", name, err)
	}
	if g := found[name]; g.Err == nil && g.State != "Empty" && g.State != "Dead" && g.State != "" {
		return fmt.Errorf("group %q is %s with %d members; stop its consumers first, they would commit over the new offsets", name, g.State, len(g.Members))
	}
	return nil
}

func (k *seeker) wants(topic string) bool {
	return len(k.topics) == 0 || slices.Contains(k.topics, topic)
}

func (k *seeker) targets(ctx context.Context, cl *kadm.Client, had kadm.OffsetResponses) (kadm.Offsets, error) {
	switch {
	case k.toGroup != "":
		other, err := cl.FetchOffsets(ctx, k.toGroup)
		if err != nil {
			return nil, explain("commits of group", k.toGroup, err)
		}
		other.KeepFunc(func(o kadm.OffsetResponse) bool { return k.wants(o.Topic) })
		out := other.Offsets()
		if len(out) == 0 {
			return nil, fmt.Errorf("group %q has committed nothing that would be taken over", k.toGroup)
		}
		return out, nil
	case k.toFile != "":
		return readOffsetFile(k.toFile, k.topics)
	}
	b, err := seekBound(k.to)
	if err != nil {
		return nil, err
	}
	topics := k.pick(had)
	if len(topics) == 0 {
		return nil, nil
	}
	found, err := k.a.topics(ctx, cl, topics, false)
	if err != nil {
		return nil, err
	}
	r, err := newResolver(ctx, cl, topics, span{from: b})
	if err != nil {
		return nil, err
	}
	out := kadm.Offsets{}
	for _, t := range found {
		for _, p := range t.Partitions.Sorted() {
			at, err := r.at(b, partitionKey{t.Topic, p.Partition})
			if err != nil {
				return nil, err
			}
			out.AddOffset(t.Topic, p.Partition, at, p.LeaderEpoch)
		}
	}
	return out, nil
}

// pick gives the topics that move.
func (k *seeker) pick(had kadm.OffsetResponses) (topics []string) {
	for topic := range had {
		if k.wants(topic) {
			topics = append(topics, topic)
		}
	}
	if k.allowNew {
		for _, topic := range k.topics {
			if _, known := had[topic]; !known {
				topics = append(topics, topic)
			}
		}
	}
	slices.Sort(topics)
	return topics
}

func seekBound(text string) (bound, error) {
	switch text {
	case "start":
		return bound{kind: atStart}, nil
	case "end":
		return bound{kind: atEnd}, nil
	case "":
		return bound{}, errors.New("--to is empty: want start, end or a point in time")
	}
	if text[0] == '@' {
		text = text[1:]
	}
	at, err := parseTime(text, time.Now())
	if err != nil {
		return bound{}, fmt.Errorf("--to: want start, end or a point in time: %w", err)
	}
	return bound{kind: atTime, n: at.UnixMilli()}, nil
}

func (k *seeker) print(had, done kadm.OffsetResponses) error {
	type row struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		Prior     int64  `json:"prior_offset"` // -1: none
		Current   int64  `json:"current_offset"`
		Error     string `json:"error,omitempty"`
	}
	rows, failed := []row{}, 0
	for _, o := range done.Sorted() {
		r := row{Topic: o.Topic, Partition: o.Partition, Prior: -1, Current: o.At}
		if prior, found := had.Lookup(o.Topic, o.Partition); found {
			r.Prior = prior.At
		}
		if o.Err != nil {
			r.Error, r.Current = status(o.Err, ""), r.Prior
			failed++
		}
		rows = append(rows, r)
	}
	err := k.a.print(rows, func(w *sheet) {
		var cells [][]any
		for _, r := range rows {
			prior := "-"
			if r.Prior >= 0 {
				prior = fmt.Sprint(r.Prior)
			}
			cells = append(cells, []any{r.Topic, r.Partition, prior, r.Current, r.Error})
		}
		w.table([]string{"TOPIC", "PARTITION", "PRIOR-OFFSET", "CURRENT-OFFSET", "ERROR"}, cells)
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("seek: %d of %d partitions failed", failed, len(rows))
	}
	return err
}
