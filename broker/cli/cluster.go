package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace-io/millrace/broker/admin/api"
)

func (a *app) clusterCommand() *cobra.Command {
	return group("cluster", "Look at the cluster; change its settings",
		a.clusterInfo(), a.clusterHealth(), a.clusterCerts(), a.configCommand(), a.partitionsCommand(), a.balanceCommand(),
		a.decommission(), a.recommission(), a.decommissionStatus(), a.maintenanceCommand(), a.featuresCommand(), a.selfTestCommand(),
		a.recoverLostMajority())
}

type clusterDescription struct {
	ID         string       `json:"cluster_id"`
	Controller int32        `json:"controller_id"`
	Brokers    []brokerItem `json:"brokers"`
	Topics     []topicItem  `json:"topics,omitempty"`
}

type brokerItem struct {
	ID   int32  `json:"id"`
	Host string `json:"host"`
	Port int32  `json:"port"`
	Rack string `json:"rack,omitempty"`
}

func (a *app) clusterInfo() *cobra.Command {
	var id, brokers, topics, internal, detailed bool
	c := &cobra.Command{
		Use: "info [TOPIC...]", Aliases: []string{"status", "metadata"}, Short: "Show the cluster's id, brokers and topics",
		Long:              "Show the cluster's id, brokers and topics: all of them without a flag, internal topics too, or only the topics named.",
		ValidArgsFunction: a.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			m, err := cl.Metadata(cmd.Context(), args...)
			if err != nil {
				return fmt.Errorf("ask for metadata: %w", err)
			}
			for _, t := range m.Topics.Sorted() {
				if t.Err != nil {
					return explain("ask for topic", t.Topic, t.Err)
				}
			}
			internal = internal || len(args) > 0
			topics = topics || internal || detailed
			if !id && !brokers && !topics {
				id, brokers, topics, internal = true, true, true, true
			}
			d := newClusterDescription(m, topics || a.flags.format == "json" || a.flags.format == "yaml", internal, detailed)
			return a.print(d, func(w *sheet) { printCluster(w, d, id, brokers, topics, detailed) })
		},
	}
	f := c.Flags()
	f.BoolVarP(&id, "print-cluster", "c", false, "print the cluster's id")
	f.BoolVarP(&brokers, "print-brokers", "b", false, "print the brokers")
	f.BoolVarP(&topics, "print-topics", "t", false, "print the topics")
	f.BoolVarP(&internal, "print-internal-topics", "i", false, "print the topics, internal ones too")
	f.BoolVarP(&detailed, "print-detailed-topics", "d", false, "print every partition of the topics")
	return c
}

func newClusterDescription(m kadm.Metadata, topics, internal, detailed bool) clusterDescription {
	d := clusterDescription{ID: m.Cluster, Controller: m.Controller}
	for _, b := range m.Brokers {
		item := brokerItem{ID: b.NodeID, Host: b.Host, Port: b.Port}
		if b.Rack != nil {
			item.Rack = *b.Rack
		}
		d.Brokers = append(d.Brokers, item)
	}
	if topics {
		for _, t := range m.Topics.Sorted() {
			if internal || !t.IsInternal {
				d.Topics = append(d.Topics, newTopicItem(t, detailed))
			}
		}
	}
	return d
}

func printCluster(w *sheet, d clusterDescription, id, brokers, topics, detailed bool) {
	if id {
		w.section("CLUSTER")
		w.line("%s", d.ID)
	}
	if brokers {
		w.section("BROKERS")
		heads := []string{"ID", "HOST", "PORT", "+RACK"}
		var rows [][]any
		for _, b := range d.Brokers {
			name := fmt.Sprint(b.ID)
			if b.ID == d.Controller {
				name += "*"
			}
			if b.Rack != "" {
				heads[3] = "RACK"
			}
			rows = append(rows, []any{name, b.Host, b.Port, b.Rack})
		}
		w.table(heads, rows)
	}
	if topics && len(d.Topics) > 0 {
		w.section("TOPICS")
		printTopics(w, d.Topics, detailed)
	}
}

// healthPoll is how often --watch asks.
const healthPoll = time.Second

func (a *app) clusterHealth() *cobra.Command {
	var watch, exit bool
	c := &cobra.Command{
		Use: "health", Short: "Say whether everything is served; exit code 1 if not", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			tick := time.NewTicker(healthPoll)
			defer tick.Stop()
			last := ""
			for {
				h, err := cl.Health(ctx)
				if err != nil && !(exit && watchable(err)) {
					return a.adminError("ask for health", err)
				}
				if now := fmt.Sprint(h); err == nil && now != last {
					last = now
					if err := a.print(h, func(w *sheet) { printHealth(w, h) }); err != nil {
						return err
					}
				}
				switch {
				case err == nil && h.Healthy && (exit || !watch):
					return nil
				case !watch && !exit:
					return errors.New("the cluster is not healthy")
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and print each change")
	c.Flags().BoolVarP(&exit, "exit-when-healthy", "e", false, "wait until it is healthy")
	return c
}

// watchable says whether waiting may help.
func watchable(err error) bool { return !errors.Is(err, api.ErrInvalid) }

func printHealth(w *sheet, h api.Health) {
	w.section("CLUSTER HEALTH OVERVIEW")
	w.pairs("Healthy:", h.Healthy, "Controller ID:", h.Controller, "Controller voters:", list(h.Voters), "All nodes:", list(h.Nodes), "Nodes down:", list(h.NodesDown),
		"Leaderless partitions:", partitions(h.Leaderless), "Under-replicated partitions:", partitions(h.UnderReplicated), "Under min.insync.replicas:", partitions(h.UnderMinInsync),
		"Damaged partitions:", partitions(h.Damaged), "Stopped scripts:", list(h.ScriptsStopped), "Sidecar:", h.Sidecar, "Low space:", h.LowSpace)
	for _, p := range h.Problems {
		w.line("! %s", p)
	}
}

func list[T any](in []T) string {
	return "[" + strings.Trim(fmt.Sprint(in), "[]") + "]"
}

// partitionsShown bounds a line; the rest is a count.
const partitionsShown = 20

func partitions(in []api.TopicPartition) string {
	var out []string
	for i, p := range in {
		if i == partitionsShown {
			out = append(out, fmt.Sprintf("and %d more", len(in)-i))
			break
		}
		out = append(out, fmt.Sprintf("%s/%d", p.Topic, p.Partition))
	}
	return "[" + strings.Join(out, " ") + "]"
}
