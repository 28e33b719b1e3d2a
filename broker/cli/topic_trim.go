package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.yaml.in/yaml/v3"
)

// offsetLine is one line of the files that trim-prefix and group seek read.
type offsetLine struct {
	Topic     string `json:"topic" yaml:"topic"`
	Partition int32  `json:"partition" yaml:"partition"`
	Offset    int64  `json:"offset" yaml:"offset"`
}

func (a *app) topicTrimPrefix() *cobra.Command {
	var offset, file string
	var partitions []int32
	var sure bool
	c := &cobra.Command{
		Use: "trim-prefix [TOPIC]", Aliases: []string{"trim"}, Short: "Delete a topic's records below an offset",
		Long: `Delete records below an offset or a point in time; they cannot be read any more. Offsets
come from --offset, or from a file of lines "TOPIC PARTITION OFFSET" (or a JSON or YAML list of
objects with these keys).`,
		Example: `  millrace topic trim-prefix orders --offset 120 --partitions 1
  millrace topic trim-prefix orders -o @2026-01-31
  millrace topic trim-prefix orders -o end --no-confirm`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (file == "") == (offset == "") {
				return errors.New("give either --offset or --from-file")
			}
			if file == "" && len(args) == 0 {
				return errors.New("--offset needs a topic; for example `millrace topic trim-prefix orders --offset 120`")
			}
			cl, err := a.kadm(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			var to kadm.Offsets
			if file != "" {
				to, err = readOffsetFile(file, args)
			} else {
				to, err = a.trimTargets(cmd.Context(), cl, args[0], offset, partitions)
			}
			if err != nil {
				return err
			}
			return a.trim(cmd.Context(), cl, to, sure)
		},
	}
	f := c.Flags()
	f.StringVarP(&offset, "offset", "o", "", "new start: N, end, or @TIME as of topic consume")
	f.StringVarP(&file, "from-file", "f", "", "file of topics, partitions and offsets")
	f.Int32SliceVarP(&partitions, "partitions", "p", nil, "only these partitions, comma separated")
	f.BoolVar(&sure, "no-confirm", false, "do not ask")
	return c
}

func (a *app) trimTargets(ctx context.Context, cl *kadm.Client, topic, offset string, partitions []int32) (kadm.Offsets, error) {
	s, err := parseSpan(offset, time.Now())
	if err != nil {
		return nil, err
	}
	if s.to.kind != unbounded {
		return nil, fmt.Errorf("--offset %s: a range has no meaning here; give its end", offset)
	}
	found, err := a.topics(ctx, cl, []string{topic}, false)
	if err != nil {
		return nil, err
	}
	r, err := newResolver(ctx, cl, []string{topic}, s)
	if err != nil {
		return nil, err
	}
	to := kadm.Offsets{}
	for _, p := range found[0].Partitions.Sorted() {
		if len(partitions) > 0 && !slices.Contains(partitions, p.Partition) {
			continue
		}
		at, err := r.at(s.from, partitionKey{topic, p.Partition})
		if err != nil {
			return nil, err
		}
		to.AddOffset(topic, p.Partition, at, -1)
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("topic %q has none of the partitions %v; `millrace topic describe %s -p` lists them", topic, partitions, topic)
	}
	return to, nil
}

func (a *app) trim(ctx context.Context, cl *kadm.Client, to kadm.Offsets, sure bool) error {
	n := 0
	to.Each(func(kadm.Offset) { n++ })
	if err := a.confirm(ctx, sure, "--no-confirm", "Delete all records below the given offsets in %d partitions?", n); err != nil {
		return err
	}
	done, err := cl.DeleteRecords(ctx, to)
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	type row struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		LogStart  int64  `json:"new_start_offset"`
		Error     string `json:"error,omitempty"`
	}
	rows, failed := []row{}, 0
	for _, d := range done.Sorted() {
		r := row{Topic: d.Topic, Partition: d.Partition, LogStart: d.LowWatermark}
		if d.Err != nil {
			r.Error = status(d.Err, "")
			failed++
		}
		rows = append(rows, r)
	}
	err = a.print(rows, func(w *sheet) {
		var cells [][]any
		for _, r := range rows {
			cells = append(cells, []any{r.Topic, r.Partition, r.LogStart, r.Error})
		}
		w.table([]string{"TOPIC", "PARTITION", "NEW-START-OFFSET", "ERROR"}, cells)
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("trim: %d of %d partitions failed", failed, len(rows))
	}
	return err
}

// offsetFileMax bounds a file of offsets: some 100,000 partitions.
const offsetFileMax = 16 << 20

// readOffsetFile reads lines, or a JSON or YAML list; topics, if any, select.
func readOffsetFile(path string, topics []string) (kadm.Offsets, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > offsetFileMax {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, st.Size(), offsetFileMax)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines, err := parseOffsetLines(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := kadm.Offsets{}
	for _, l := range lines {
		if l.Offset < 0 || l.Partition < 0 || l.Topic == "" {
			return nil, fmt.Errorf("%s: topic %q partition %d offset %d: want a name and numbers from 0 on", path, l.Topic, l.Partition, l.Offset)
		}
		if len(topics) == 0 || slices.Contains(topics, l.Topic) {
			out.AddOffset(l.Topic, l.Partition, l.Offset, -1)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no partition", path)
	}
	return out, nil
}

func parseOffsetLines(raw []byte) ([]offsetLine, error) {
	if t := bytes.TrimSpace(raw); len(t) > 0 && (t[0] == '[' || t[0] == '-') {
		var out []offsetLine
		err := yaml.Unmarshal(raw, &out)
		return out, err
	}
	var out []offsetLine
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		bad := fmt.Errorf("line %d: want TOPIC PARTITION OFFSET, got %q", n, lines.Text())
		if len(fields) != 3 {
			return nil, bad
		}
		p, err1 := strconv.ParseInt(fields[1], 10, 32)
		o, err2 := strconv.ParseInt(fields[2], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, bad
		}
		out = append(out, offsetLine{fields[0], int32(p), o})
	}
	return out, lines.Err()
}
