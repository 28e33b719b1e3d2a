package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func (a *app) groupCommand() *cobra.Command {
	return group("group", "List, describe, move and delete consumer groups",
		a.groupList(), a.groupDescribe(), a.groupSeek(), a.groupDelete())
}

type groupItem struct {
	Broker int32  `json:"broker"`
	Group  string `json:"group"`
	State  string `json:"state"`
	Type   string `json:"protocol_type,omitempty"`
}

func (a *app) groupList() *cobra.Command {
	var states []string
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List groups, with the broker that coordinates them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			found, err := cl.ListGroups(cmd.Context(), states...)
			if err != nil {
				return fmt.Errorf("list groups: %w", err)
			}
			items := []groupItem{}
			for _, g := range found.Sorted() {
				items = append(items, groupItem{g.Coordinator, g.Group, g.State, g.ProtocolType})
			}
			return a.print(items, func(w *sheet) {
				var rows [][]any
				for _, g := range items {
					rows = append(rows, []any{g.Broker, g.Group, g.State, g.Type})
				}
				w.table([]string{"BROKER", "GROUP", "STATE", "+PROTOCOL-TYPE"}, rows)
			})
		},
	}
	c.Flags().StringSliceVarP(&states, "states", "s", nil, "only groups in these states, comma separated (Empty, Stable, ...)")
	return c
}

// groupDescription is one group, whole.
type groupDescription struct {
	Group       string        `json:"group"`
	Coordinator int32         `json:"coordinator"`
	State       string        `json:"state"`
	Balancer    string        `json:"balancer"`
	Members     int           `json:"members"`
	TotalLag    int64         `json:"total_lag"`
	Error       string        `json:"error,omitempty"`
	Partitions  []groupCommit `json:"partitions"`
}

type groupCommit struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Current    *int64 `json:"current_offset"` // null: nothing is committed
	LogStart   int64  `json:"log_start_offset"`
	LogEnd     int64  `json:"log_end_offset"`
	Lag        int64  `json:"lag"`
	MemberID   string `json:"member_id,omitempty"`
	InstanceID string `json:"instance_id,omitempty"`
	ClientID   string `json:"client_id,omitempty"`
	Host       string `json:"host,omitempty"`
	Error      string `json:"error,omitempty"`
}

func (a *app) groupDescribe() *cobra.Command {
	var summary, commits, regex, instance bool
	c := &cobra.Command{
		Use: "describe GROUP...", Short: "Describe groups: members, commits, lag", Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			if args, err = matchGroups(cmd.Context(), cl, args, regex); err != nil {
				return err
			}
			found, err := describeGroups(cmd.Context(), cl, args)
			if err != nil {
				return err
			}
			err = a.print(found, func(w *sheet) {
				for i, g := range found {
					if i > 0 {
						w.line("")
					}
					printGroup(w, g, !commits, !summary, instance)
				}
			})
			for _, g := range found {
				if err == nil && g.Error != "" {
					err = errors.New(g.Error)
				}
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVarP(&summary, "print-summary", "s", false, "print the summary only")
	f.BoolVarP(&commits, "print-commits", "c", false, "print the commits only")
	f.BoolVarP(&regex, "regex", "r", false, "take the arguments as regular expressions over the whole name")
	f.BoolVarP(&instance, "instance-ID", "i", false, "show members' instance ids")
	c.MarkFlagsMutuallyExclusive("print-summary", "print-commits")
	return c
}

func matchGroups(ctx context.Context, cl *kadm.Client, args []string, regex bool) ([]string, error) {
	if !regex {
		return args, nil
	}
	match, err := matcher(args)
	if err != nil {
		return nil, err
	}
	all, err := cl.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	var out []string
	for _, name := range all.Groups() {
		if match(name) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no group matches; `millrace group list` shows what there is")
	}
	slices.Sort(out)
	return out, nil
}

func describeGroups(ctx context.Context, cl *kadm.Client, names []string) ([]groupDescription, error) {
	lags, err := cl.Lag(ctx, names...)
	if err != nil && len(lags) == 0 {
		return nil, fmt.Errorf("describe groups: %w", err)
	}
	var out []groupDescription
	for _, name := range names {
		l, found := lags[name]
		if !found {
			out = append(out, groupDescription{Group: name, Error: fmt.Sprintf("group %q: the broker gave no answer", name)})
			continue
		}
		d := groupDescription{
			Group: name, Coordinator: l.Coordinator.NodeID, State: l.State, Balancer: l.Protocol,
			Members: len(l.Members), TotalLag: l.Lag.Total(), Partitions: []groupCommit{},
		}
		switch e := l.Error(); {
		case e != nil:
			d.Error = explain("describe group", name, e).Error()
		case l.State == "Dead" && len(l.Lag) == 0:
			d.Error = explain("", name, kerr.GroupIDNotFound).Error()
		}
		for _, p := range l.Lag.Sorted() {
			d.Partitions = append(d.Partitions, newGroupCommit(p))
		}
		out = append(out, d)
	}
	return out, nil
}

func newGroupCommit(p kadm.GroupMemberLag) groupCommit {
	c := groupCommit{Topic: p.Topic, Partition: p.Partition, LogStart: p.Start.Offset, LogEnd: p.End.Offset, Lag: p.Lag}
	if p.Commit.At >= 0 {
		c.Current = &p.Commit.At
	}
	if m := p.Member; m != nil {
		c.MemberID, c.ClientID, c.Host = m.MemberID, m.ClientID, m.ClientHost
		if m.InstanceID != nil {
			c.InstanceID = *m.InstanceID
		}
	}
	if p.Err != nil {
		c.Error = status(p.Err, "")
	}
	return c
}

func printGroup(w *sheet, g groupDescription, summary, commits, instance bool) {
	if summary {
		kv := []any{"GROUP", g.Group, "COORDINATOR", g.Coordinator, "STATE", g.State, "BALANCER", g.Balancer, "MEMBERS", g.Members, "TOTAL-LAG", g.TotalLag}
		w.pairs(kv...)
		if commits && len(g.Partitions) > 0 {
			w.line("")
		}
	}
	if !commits || len(g.Partitions) == 0 {
		return
	}
	heads := []string{"TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-START-OFFSET", "LOG-END-OFFSET", "LAG", "MEMBER-ID", "+INSTANCE-ID", "CLIENT-ID", "HOST", "ERROR"}
	if instance {
		heads[7] = "INSTANCE-ID"
	}
	if !slices.ContainsFunc(g.Partitions, func(c groupCommit) bool { return c.Error != "" }) {
		heads[10] = ""
	}
	var rows [][]any
	for _, c := range g.Partitions {
		current := "-"
		if c.Current != nil {
			current = fmt.Sprint(*c.Current)
		}
		rows = append(rows, []any{c.Topic, c.Partition, current, c.LogStart, c.LogEnd, c.Lag, c.MemberID, c.InstanceID, c.ClientID, c.Host, c.Error})
	}
	w.table(heads, rows)
}

func (a *app) groupDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete GROUP...", Short: "Delete groups that have no members", Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			done, err := cl.DeleteGroups(cmd.Context(), args...)
			if err != nil && len(done) == 0 {
				return fmt.Errorf("delete groups: %w", err)
			}
			type row struct {
				Group  string `json:"group"`
				Status string `json:"status"`
			}
			rows, failed := []row{}, []string{}
			for _, g := range done.Sorted() {
				r := row{g.Group, "OK"}
				if g.Err != nil {
					r.Status = status(g.Err, g.ErrMessage)
					failed = append(failed, explain("delete group", g.Group, g.Err).Error())
				}
				rows = append(rows, r)
			}
			err = a.print(rows, func(w *sheet) {
				var cells [][]any
				for _, r := range rows {
					cells = append(cells, []any{r.Group, r.Status})
				}
				w.table([]string{"GROUP", "STATUS"}, cells)
			})
			if err == nil && len(failed) > 0 {
				err = errors.New(strings.Join(failed, "; "))
			}
			return err
		},
	}
}
