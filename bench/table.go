package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/bench/load"
)

// table collects values per row and side; a cell is printed as the median with
// its range.
type table struct {
	sides []string
	rows  []string
	cells map[[2]string][]float64
}

func newTable(sides []string) *table {
	return &table{sides: sides, cells: map[[2]string][]float64{}}
}

func (t *table) add(row, side string, v float64) {
	if !slices.Contains(t.rows, row) {
		t.rows = append(t.rows, row)
	}
	k := [2]string{row, side}
	t.cells[k] = append(t.cells[k], v)
}

// latency adds a row for each quantile that is kept.
func (t *table) latency(row, side string, q load.Quantiles) {
	t.add(row+"p50 ms", side, q.P50)
	t.add(row+"p99 ms", side, q.P99)
	t.add(row+"p99.9 ms", side, q.P999)
	t.add(row+"max ms", side, q.Max)
}

// quiet adds what others used during a window: one row for each kind of
// measurement, with a value for each of its windows.
func (t *table) quiet(kind, side string, u used) {
	t.add(kind+": cores that others used", side, u.OtherCores)
}

// syncs adds the syncs for each of records, where the side counts them.
func (t *table) syncs(row, side string, u used, records int) {
	if u.SyncsKnown && records > 0 {
		t.add(row+"syncs per record", side, u.Syncs/float64(records))
	}
}

func (t *table) cell(row, side string) string {
	vs := slices.Clone(t.cells[[2]string{row, side}])
	if len(vs) == 0 {
		return "-"
	}
	slices.Sort(vs)
	med := vs[len(vs)/2]
	if len(vs) == 1 {
		return number(med)
	}
	return fmt.Sprintf("%s (%s-%s)", number(med), number(vs[0]), number(vs[len(vs)-1]))
}

func number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// write prints Markdown, which reads as a table on a terminal too.
func (t *table) write(w io.Writer) {
	width := 0
	for _, r := range t.rows {
		width = max(width, len(r))
	}
	line := func(head string, cells []string) {
		fmt.Fprintf(w, "| %-*s |", width, head)
		for _, c := range cells {
			fmt.Fprintf(w, " %-24s |", c)
		}
		fmt.Fprintln(w)
	}
	line("", t.sides)
	fmt.Fprintf(w, "|%s|%s\n", strings.Repeat("-", width+2), strings.Repeat(strings.Repeat("-", 26)+"|", len(t.sides)))
	for _, r := range t.rows {
		cells := make([]string, len(t.sides))
		for i, s := range t.sides {
			cells[i] = t.cell(r, s)
		}
		line(r, cells)
	}
}
