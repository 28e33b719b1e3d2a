package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

func (a *app) wasmList() *cobra.Command {
	var detailed bool
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List what is deployed, against what runs", Args: cobra.NoArgs,
		Long: `List what is deployed, against what runs: NODES is how many brokers run the deployed digest, of
those that have to; PARTITIONS how many input partitions have a running fiber, of all. --detailed shows
each of them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			found, err := cl.Scripts(cmd.Context())
			if err != nil {
				return a.adminError("list scripts", err)
			}
			if found == nil {
				found = []api.ScriptStatus{}
			}
			return a.print(found, func(w *sheet) {
				if detailed {
					for _, s := range found {
						w.section(s.Name)
						printRunning(w, s)
					}
					return
				}
				printScripts(w, found)
			})
		},
	}
	c.Flags().BoolVarP(&detailed, "detailed", "d", false, "show every node and partition")
	return c
}

func printScripts(w *sheet, found []api.ScriptStatus) {
	var rows [][]any
	for _, s := range found {
		var lag int64
		running := 0
		for _, p := range s.Partitions {
			lag += p.LagRecords
			if p.State == api.StateRunning {
				running++
			}
		}
		nodes := 0
		for _, n := range s.Nodes {
			if n.Digest == s.Digest && n.State == api.StateRunning {
				nodes++
			}
		}
		rows = append(rows, []any{
			s.Name, s.Mode, s.State, strings.Join(s.Inputs, ","), strings.Join(s.Outputs, ","),
			fmt.Sprintf("%d/%d", nodes, len(s.Nodes)), fmt.Sprintf("%d/%d", running, len(s.Partitions)), lag, s.RecordsFailed,
			s.Activation, s.Digest.String()[:12], s.RecordsIn, s.RecordsOut, seconds(s.CPUSeconds),
		})
	}
	w.table([]string{"NAME", "MODE", "STATE", "INPUTS", "OUTPUTS", "NODES", "PARTITIONS", "LAG", "FAILED",
		"+ACTIVATION", "+DIGEST", "+IN", "+OUT", "+CPU"}, rows)
}

func seconds(s float64) string { return fmt.Sprintf("%.2fs", s) }

// printRunning shows nodes and partitions.
func printRunning(w *sheet, s api.ScriptStatus) {
	var nodes [][]any
	for _, n := range s.Nodes {
		digest := n.Digest.String()[:12]
		if n.Digest == (model.Digest{}) {
			digest = "-"
		} else if n.Digest != s.Digest {
			digest += " (old)"
		}
		nodes = append(nodes, []any{n.Node, n.State, digest, n.Reason})
	}
	w.table([]string{"NODE", "STATE", "DIGEST", "REASON"}, nodes)
	if len(s.Partitions) == 0 {
		return
	}
	w.line("")
	var parts [][]any
	for _, p := range s.Partitions {
		parts = append(parts, []any{p.Topic, p.Partition, p.Node, p.State, p.SourceOffset, p.EndOffset, p.LagRecords,
			time.Duration(p.LagMs) * time.Millisecond, p.RecordsIn, p.RecordsOut, p.RecordsFailed, p.RecordsDropped, p.GapRecords, seconds(p.CPUSeconds)})
	}
	w.table([]string{"TOPIC", "PARTITION", "NODE", "STATE", "SOURCE-OFFSET", "END-OFFSET", "LAG", "LAG-TIME", "IN", "OUT", "FAILED", "+DROPPED", "+GAP", "+CPU"}, parts)
}

func (a *app) wasmDescribe() *cobra.Command {
	return &cobra.Command{
		Use: "describe NAME", Short: "Show a script: state, lag, counters, last errors", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeScripts,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			s, err := cl.Script(cmd.Context(), args[0])
			if err != nil {
				return a.adminError(fmt.Sprintf("describe script %q", args[0]), err)
			}
			return a.print(s, func(w *sheet) { printScript(w, s) })
		},
	}
}

func printScript(w *sheet, s api.ScriptStatus) {
	state := s.State
	if s.Reason != "" {
		state += ": " + s.Reason
	}
	kv := []any{"NAME", s.Name}
	if s.Description != "" {
		kv = append(kv, "DESCRIPTION", s.Description)
	}
	kv = append(kv, "MODE", s.Mode, "STATE", state, "INPUTS", strings.Join(s.Inputs, ", "))
	if len(s.Outputs) > 0 {
		kv = append(kv, "OUTPUTS", strings.Join(s.Outputs, ", "))
	}
	if s.OnError != "" {
		kv = append(kv, "ON-ERROR", s.OnError)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		kv = append(kv, "ENV", k+"="+s.Env[k])
	}
	kv = append(kv, "ACTIVATION", s.Activation, "DIGEST", s.Digest,
		"CREATED", moment(s.Created), "UPDATED", moment(s.Updated),
		"RECORDS", fmt.Sprintf("%d in, %d out, %d failed, %d dropped", s.RecordsIn, s.RecordsOut, s.RecordsFailed, s.RecordsDropped),
		"CPU", seconds(s.CPUSeconds))
	w.section("SUMMARY")
	w.pairs(kv...)
	w.section("RUNNING")
	printRunning(w, s)
	printErrors(w, s)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func printErrors(w *sheet, s api.ScriptStatus) {
	if e := s.LastError; e != nil { // a sync script's: it refused a batch before that had an offset
		w.section("LAST ERROR")
		w.line("%s  %s", moment(e.Time), e.Text)
	}
	var rows [][]any
	for _, p := range s.Partitions {
		if e := p.LastError; e != nil {
			offset := "-"
			if e.Offset >= 0 {
				offset = fmt.Sprint(e.Offset)
			}
			rows = append(rows, []any{p.Topic, p.Partition, offset, moment(e.Time), e.Text})
		}
	}
	if len(rows) > 0 {
		w.section("LAST ERRORS")
		w.table([]string{"TOPIC", "PARTITION", "OFFSET", "TIME", "ERROR"}, rows)
	}
}

func (a *app) wasmLogs() *cobra.Command {
	ask := api.LogsAsk{}
	var since string
	c := &cobra.Command{
		Use: "logs NAME", Short: "Print what a script printed", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeScripts,
		Long: `Print what a script printed on all brokers, in order of time; --format wide shows on which. With
--follow it is what it prints on the broker that answers.`,
		Example: "  millrace wasm logs scrub -f\n  millrace wasm logs scrub --since -10m --tail 100",
		RunE: func(cmd *cobra.Command, args []string) error {
			ask.Name = args[0]
			if since != "" {
				at, err := parseTime(strings.TrimPrefix(since, "@"), time.Now())
				if err != nil {
					return fmt.Errorf("--since: %w", err)
				}
				ask.Since = at
			}
			cl, err := a.adminClient()
			if err != nil {
				return err
			}
			err = cl.Logs(cmd.Context(), ask, a.logLine)
			return a.adminError(fmt.Sprintf("logs of script %q", ask.Name), err)
		},
	}
	f := c.Flags()
	f.BoolVarP(&ask.Follow, "follow", "f", false, "go on with new lines")
	f.IntVarP(&ask.Tail, "tail", "n", -1, "only the last so many lines")
	f.StringVar(&since, "since", "", "only lines after a point in time (as of topic consume; -10m: ten minutes ago)")
	return c
}

func (a *app) logLine(l api.LogLine) error {
	switch a.flags.format {
	case "json":
		return writeJSON(a.out, l, "")
	case "yaml":
		return writeYAML(a.out, []api.LogLine{l})
	case "wide":
		_, err := fmt.Fprintf(a.out, "%s node=%d %-5s %s: %s\n", l.Time.UTC().Format(time.RFC3339Nano), l.Node, l.Level, l.Script, cell(l.Text))
		return err
	}
	_, err := fmt.Fprintf(a.out, "%s %-5s %s\n", l.Time.UTC().Format("2006-01-02T15:04:05.000Z"), l.Level, cell(l.Text))
	return err
}
