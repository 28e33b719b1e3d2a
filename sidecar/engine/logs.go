package engine

import (
	"context"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
)

const (
	linesMax       = 4096 // held for whoever asks later; some MiB at the worst
	linesPerSecond = 100  // of one script; a script that logs each record must not cost its batches
	linesBurst     = 500
)

// ring holds the newest log lines of all scripts. Sequences are never reused.
type ring struct {
	mu    sync.Mutex
	lines []control.LogLine // lines[i] has sequence first+i
	first uint64
	grown chan struct{} // closed at the next line
}

func newRing() *ring { return &ring{first: 1, grown: make(chan struct{})} }

func (r *ring) add(line control.LogLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line.Seq = r.first + uint64(len(r.lines))
	if len(r.lines) == linesMax {
		r.lines = append(r.lines[:0], r.lines[linesMax/4:]...)
		r.first += linesMax / 4
	}
	r.lines = append(r.lines, line)
	close(r.grown)
	r.grown = make(chan struct{})
}

// after returns the first line beyond a sequence, or what to wait for.
func (r *ring) after(seq uint64, script string) (line control.LogLine, lost uint64, grown <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq+1 < r.first && seq > 0 {
		lost = r.first - seq - 1
	}
	start := max(seq+1, r.first)
	for i := start - r.first; i < uint64(len(r.lines)); i++ {
		if script == "" || r.lines[i].Script == script {
			return r.lines[i], lost, nil
		}
	}
	return control.LogLine{}, 0, r.grown
}

// stream is a control.LogStream over the ring.
type stream struct {
	ctx   context.Context
	ended <-chan struct{} // with the session
	ring  *ring
	ask   control.LogAsk
}

// Next implements control.LogStream.
func (s *stream) Next() (control.LogLine, error) {
	for {
		line, lost, grown := s.ring.after(s.ask.After, s.ask.Script)
		if grown == nil {
			s.ask.After = line.Seq
			line.Lost += lost
			return line, nil
		}
		select {
		case <-s.ctx.Done():
			return control.LogLine{}, s.ctx.Err()
		case <-s.ended:
			return control.LogLine{}, control.ErrSession
		case <-grown:
		}
	}
}

// logger writes one script's lines, so many a second.
type logger struct {
	ring   *ring
	script string
	digest model.Digest

	mu     sync.Mutex
	credit float64
	filled time.Time
	lost   uint64
}

var levelNames = map[abi.Level]string{abi.LevelDebug: "debug", abi.LevelInfo: "info", abi.LevelWarn: "warn", abi.LevelError: "error"}

// log takes a line of a guest; any goroutine.
func (l *logger) log(level abi.Level, text string) {
	now := time.Now()
	lost, ok := l.admit(now)
	if !ok {
		return
	}
	l.ring.add(control.LogLine{Time: now, Script: l.script, Digest: l.digest, Level: levelNames[level], Text: text, Lost: lost})
}

func (l *logger) admit(now time.Time) (lost uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.filled.IsZero() {
		l.credit = linesBurst
	}
	l.credit = min(linesBurst, l.credit+now.Sub(l.filled).Seconds()*linesPerSecond)
	l.filled = now
	if l.credit < 1 {
		l.lost++
		return 0, false
	}
	l.credit--
	lost, l.lost = l.lost, 0
	return lost, true
}
