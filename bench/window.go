package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-io/millrace/bench/load"
)

// window is the time that one measurement takes.
type window struct {
	side  *side
	began time.Time
	usage load.Usage
	busy  float64 // CPU seconds of the machine so far
	own   float64 // of the loader
	syncs float64
	known bool // syncs is
}

// used is what was used between a window's edges.
type used struct {
	CPUSeconds  float64 // by the broker and its children
	LoaderCores float64 // by this process and its children
	OtherCores  float64 // by anybody else, other sides included: how quiet it was
	Syncs       float64 // of the journal
	SyncsKnown  bool
}

// open begins a window. What cannot be read is told once and counts as nothing.
func (s *side) open(ctx context.Context) window {
	w := window{side: s}
	w.syncs, w.known = s.syncs(ctx)
	var err error
	if w.own, err = load.OwnCPU(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: CPU of the loader:", err)
	}
	if w.busy, err = load.MachineCPU(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: CPU of the machine:", err)
	}
	w.usage, w.began = s.usage(), time.Now()
	return w
}

// close ends it.
func (w window) close(ctx context.Context) used {
	now := window{usage: w.side.usage()}
	took := time.Since(w.began).Seconds()
	now.busy, _ = load.MachineCPU() // open has told
	now.own, _ = load.OwnCPU()
	now.syncs, now.known = w.side.syncs(ctx)
	u := used{
		CPUSeconds: now.usage.CPUSeconds - w.usage.CPUSeconds, LoaderCores: (now.own - w.own) / took,
		Syncs: now.syncs - w.syncs, SyncsKnown: w.known && now.known,
	}
	// The machine's clock ticks by samples, a process's is exact: a little below
	// nothing is nothing.
	u.OtherCores = max(0, (now.busy-w.busy-u.CPUSeconds)/took-u.LoaderCores)
	return u
}

// syncsMetric counts the syncs that acknowledgements wait for.
const syncsMetric = "millrace_journal_syncs_total"

// syncs asks a broker for its count of syncs; not known of a peer.
func (s *side) syncs(ctx context.Context) (sum float64, known bool) {
	if s.admin == "" {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/metrics", nil)
	if err != nil {
		return 0, false
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return 0, false
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if v, ok := sample(lines.Text(), syncsMetric); ok {
			sum, known = sum+v, true
		}
	}
	return sum, known && lines.Err() == nil
}

// sample reads a line of a scrape: the value of name, whatever its labels.
func sample(line, name string) (float64, bool) {
	rest, ok := strings.CutPrefix(line, name)
	if !ok {
		return 0, false
	}
	if strings.HasPrefix(rest, "{") {
		rest = rest[strings.LastIndexByte(rest, '}')+1:]
	}
	text, ok := strings.CutPrefix(rest, " ")
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
	return v, err == nil
}
