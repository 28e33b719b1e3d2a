package script

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/plugins/control"
)

// heldPause is how long a stream may be silent until what it held is taken as
// told: the sidecar does not say where held lines end and new ones begin.
const heldPause = 200 * time.Millisecond

// heldMax bounds the lines that are kept to find the last of them.
const heldMax = 100_000

// Logs gives what a script printed on this node: see api.LogsAsk.
func (s *Service) Logs(ctx context.Context, ask api.LogsAsk, emit func(api.LogLine) error) error {
	if _, err := s.find(ask.Name); err != nil {
		return err
	}
	l, err := s.sidecars.current()
	if err != nil {
		return explain(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.Control.Logs(ctx, control.LogAsk{Script: ask.Name})
	if err != nil {
		return explain(fmt.Errorf("read the log of script %q: %w", ask.Name, err))
	}
	lines := make(chan api.LogLine)
	end := make(chan error, 1)
	go func() { end <- s.pump(ctx, stream, ask.Since, lines) }()
	held, err := gather(lines, end)
	if ask.Tail >= 0 && len(held) > ask.Tail {
		held = held[len(held)-ask.Tail:]
	}
	for _, line := range held {
		if err := emit(line); err != nil {
			return err
		}
	}
	if err != nil || !ask.Follow {
		return explain(err)
	}
	for {
		select {
		case line := <-lines:
			if err := emit(line); err != nil {
				return err
			}
		case err := <-end:
			if ctx.Err() != nil {
				return nil
			}
			return explain(err)
		}
	}
}

// gather takes lines until there is silence.
func gather(lines <-chan api.LogLine, end <-chan error) (held []api.LogLine, err error) {
	quiet := time.NewTimer(heldPause)
	defer quiet.Stop()
	for {
		select {
		case line := <-lines:
			if held = append(held, line); len(held) > heldMax {
				held = held[1:]
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
