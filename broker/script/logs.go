package script

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
)

// heldPause is how long a stream may be silent until what it held is taken as
// told: the sidecar does not say where held lines end and new ones begin.
const heldPause = 200 * time.Millisecond

// heldMax bounds the lines that are kept to find the last of them.
const heldMax = 100_000

// LinesAsk asks a node for what a script printed there. As JSON it goes between nodes.
type LinesAsk struct {
	Script string    `json:"script"`
	Since  time.Time `json:"since"`
	Tail   int       `json:"tail"` // the last so many lines; below 0: all that is kept
}

// Lines are a node's, oldest first: the last of those that were asked for.
type Lines struct {
	Lines []api.LogLine `json:"lines,omitempty"`
	// Left is how many older ones were left out: together they are too large.
	Left int `json:"left,omitempty"`
}

// linesBytesMax bounds the texts that one node gives another.
const linesBytesMax = 8 << 20

// Logs gives what a script printed on all nodes, in order of time; with Follow what it
// printed, and goes on to print, on this one: see api.LogsAsk.
func (s *Service) Logs(ctx context.Context, ask api.LogsAsk, emit func(api.LogLine) error) error {
	if _, err := s.find(ask.Name); err != nil {
		return err
	}
	if !ask.Follow {
		return s.printed(ctx, LinesAsk{Script: ask.Name, Since: ask.Since, Tail: ask.Tail}, emit)
	}
	r, err := s.open(ctx, ask.Name, ask.Since)
	if err != nil {
		return explain(err)
	}
	defer r.cancel()
	held, err := r.held(ask.Tail)
	for _, line := range held {
		if err := emit(line); err != nil {
			return err
		}
	}
	if err != nil {
		return explain(err)
	}
	for {
		select {
		case line := <-r.lines:
			if err := emit(line); err != nil {
				return err
			}
		case err := <-r.end:
			if ctx.Err() != nil {
				return nil
			}
			return explain(err)
		}
	}
}

// printed gives what all nodes hold. One that cannot tell is a line that says so, but
// for a node that is alone.
func (s *Service) printed(ctx context.Context, ask LinesAsk, emit func(api.LogLine) error) error {
	nodes := append(s.others(), s.o.Node)
	found, failed := make([]Lines, len(nodes)), make([]error, len(nodes))
	var own sync.WaitGroup
	last := len(nodes) - 1
	own.Go(func() { found[last], failed[last] = s.Lines(ctx, ask) })
	s.each(ctx, nodes[:last], func(ctx context.Context, i int, alive bool) {
		if alive { // one that is down has lost what its scripts printed
			found[i], failed[i] = s.o.Nodes.Lines(ctx, nodes[i], ask)
		}
	})
	own.Wait()
	var all []api.LogLine
	for i, l := range found {
		all = append(all, l.Lines...)
		if l.Left > 0 && len(l.Lines) > 0 {
			all = append(all, s.remark(nodes[i], ask.Script, l.Lines[0].Time, fmt.Sprintf("%d older lines are left out", l.Left)))
		}
	}
	slices.SortStableFunc(all, func(a, b api.LogLine) int { return a.Time.Compare(b.Time) })
	if ask.Tail >= 0 && len(all) > ask.Tail {
		all = all[len(all)-ask.Tail:]
	}
	for i, err := range failed {
		if err != nil && last > 0 {
			all = append(all, s.remark(nodes[i], ask.Script, time.Now(), "what was printed here is not known: "+err.Error()))
		}
	}
	for _, line := range all {
		if err := emit(line); err != nil {
			return err
		}
	}
	if last == 0 {
		return explain(failed[0])
	}
	return nil
}

func (s *Service) remark(node model.NodeID, script string, at time.Time, text string) api.LogLine {
	return api.LogLine{Time: at.UTC(), Node: node, Script: script, Level: "warn", Text: text}
}

// Lines gives what a script printed on this node.
func (s *Service) Lines(ctx context.Context, ask LinesAsk) (Lines, error) {
	r, err := s.open(ctx, ask.Script, ask.Since)
	if err != nil {
		return Lines{}, err
	}
	defer r.cancel()
	held, err := r.held(ask.Tail)
	first, size := len(held), 0
	for first > 0 && size+len(held[first-1].Text) <= linesBytesMax {
		first--
		size += len(held[first].Text)
	}
	if first == len(held) {
		return Lines{}, err
	}
	return Lines{Lines: held[first:], Left: first}, err
}

// reading is a stream of the sidecar's being read.
type reading struct {
	lines  chan api.LogLine
	end    chan error
	cancel context.CancelFunc
}

func (s *Service) open(ctx context.Context, script string, since time.Time) (*reading, error) {
	l, err := s.sidecars.current()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := l.Control.Logs(ctx, control.LogAsk{Script: script})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("read the log of script %q: %w", script, err)
	}
	r := &reading{lines: make(chan api.LogLine), end: make(chan error, 1), cancel: cancel}
	go func() { r.end <- s.pump(ctx, stream, since, r.lines) }()
	return r, nil
}

// held gives the last lines of those that the sidecar has kept.
func (r *reading) held(tail int) ([]api.LogLine, error) {
	held, err := gather(r.lines, r.end, time.Now())
	if tail >= 0 && len(held) > tail {
		held = held[len(held)-tail:]
	}
	return held, err
}

// gather takes lines until there is silence, or one that was printed after it began.
func gather(lines <-chan api.LogLine, end <-chan error, began time.Time) (held []api.LogLine, err error) {
	quiet := time.NewTimer(heldPause)
	defer quiet.Stop()
	for {
		select {
		case line := <-lines:
			if held = append(held, line); len(held) > heldMax {
				held = held[1:]
			}
			if line.Time.After(began) {
				return held, nil
			}
			quiet.Reset(heldPause)
		case err := <-end:
			return held, err
		case <-quiet.C:
			return held, nil
		}
	}
}

// pump gives a stream's lines until it or ctx ends.
func (s *Service) pump(ctx context.Context, stream control.LogStream, since time.Time, out chan<- api.LogLine) error {
	for {
		line, err := stream.Next()
		if err != nil {
			return err
		}
		if line.Time.Before(since) {
			continue
		}
		if line.Lost > 0 {
			lost := api.LogLine{Time: line.Time, Node: s.o.Node, Script: line.Script, Level: "warn", Text: fmt.Sprintf("%d lines were dropped", line.Lost)}
			select {
			case out <- lost:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case out <- api.LogLine{Time: line.Time, Node: s.o.Node, Script: line.Script, Level: line.Level, Text: line.Text}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
