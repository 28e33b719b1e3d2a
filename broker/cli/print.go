package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
)

// formats are what --format takes.
var formats = []string{"text", "wide", "json", "yaml"}

// print shows data: as JSON or YAML whole, else by text, which fills tables.
func (a *app) print(data any, text func(w *sheet)) error {
	switch a.flags.format {
	case "json":
		return writeJSON(a.out, data, "")
	case "yaml":
		return writeYAML(a.out, data)
	}
	w := &sheet{w: a.out, wide: a.flags.format == "wide"}
	text(w)
	return w.err
}

func writeJSON(w io.Writer, data any, indent string) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(data)
}

// writeYAML goes by way of JSON, so that both have the same names and order.
func writeYAML(w io.Writer, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(raw, &n); err != nil {
		return err
	}
	plain(&n)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return err
	}
	return e.Close()
}

func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}

// sheet writes tables and sections of text.
type sheet struct {
	w        io.Writer
	wide     bool
	sections int
	err      error
}

// section begins a titled part, as rpk prints them.
func (s *sheet) section(title string) {
	if s.sections > 0 {
		s.line("")
	}
	s.sections++
	s.line("%s", title)
	s.line("%s", strings.Repeat("=", len(title)))
}

func (s *sheet) line(format string, args ...any) {
	if _, err := fmt.Fprintf(s.w, format+"\n", args...); err != nil && s.err == nil {
		s.err = err
	}
}

// table writes rows under heads. A column whose head begins with "+" is shown
// by --format wide only.
func (s *sheet) table(heads []string, rows [][]any) {
	var names []string
	for _, h := range heads {
		if name, wide := strings.CutPrefix(h, "+"); !wide || s.wide {
			names = append(names, name)
		}
	}
	lines := [][]string{names}
	for _, row := range rows {
		var cells []string
		for i, v := range row {
			if !strings.HasPrefix(heads[i], "+") || s.wide {
				cells = append(cells, cell(v))
			}
		}
		lines = append(lines, cells)
	}
	s.align(lines)
}

// pairs writes a name and a value a line, aligned.
func (s *sheet) pairs(kv ...any) {
	var lines [][]string
	for i := 0; i+1 < len(kv); i += 2 {
		lines = append(lines, []string{fmt.Sprint(kv[i]), cell(kv[i+1])})
	}
	s.align(lines)
}

// align writes lines of cells in columns, without blanks at their ends.
func (s *sheet) align(lines [][]string) {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, cells := range lines {
		fmt.Fprintln(t, strings.Join(cells, "\t")) // into memory: no error
	}
	t.Flush()
	for line := range strings.Lines(b.String()) {
		s.line("%s", strings.TrimRight(line, " \n"))
	}
}

// cell keeps a value on its line.
func cell(v any) string {
	text := fmt.Sprint(v)
	return strings.NewReplacer("\n", `\n`, "\t", " ", "\r", `\r`).Replace(text)
}

// confirm asks on stderr and reads the answer from stdin.
func (a *app) confirm(ctx context.Context, skip bool, flag, format string, args ...any) error {
	if skip {
		return nil
	}
	fmt.Fprintf(a.err, format+" [y/N] ", args...)
	var answer string
	fmt.Fscanln(a.stdin(ctx), &answer)
	if s := strings.ToLower(answer); s == "y" || s == "yes" {
		return nil
	}
	return fmt.Errorf("not confirmed, nothing was done; answer y, or give %s", flag)
}
