package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// Fake is a sidecar's control in memory, for tests. The zero value is ready.
// Unlike a real one it compiles nothing: CheckModule, if set, judges modules.
type Fake struct {
	CheckModule func(Module) (Report, error)

	mu      sync.Mutex
	node    *Session
	open    bool
	down    error
	scripts map[model.Digest]Module
	lines   []LogLine
	grown   chan struct{}
}

// Hello implements Control. A later session of the same node starts empty.
func (f *Fake) Hello(ctx context.Context, s Session) (Hello, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.able(ctx); err != nil {
		return Hello{}, err
	}
	if f.node != nil && (f.node.Cluster != s.Cluster || f.node.Node != s.Node) {
		return Hello{}, fmt.Errorf("%w: node %d of cluster %s", ErrOtherNode, f.node.Node, f.node.Cluster)
	}
	f.node, f.open, f.scripts = &s, true, map[model.Digest]Module{}
	return Hello{Protocol: Protocol, Build: "fake", Engine: "fake", Boot: "fake", Limits: Limits{
		ModuleBytesMax: ModuleBytesMax, MemoryBytesMax: 1 << 30, InstanceBytesMax: 1 << 28, BatchTimeMax: time.Minute, Workers: 1,
	}}, nil
}

// Load implements Control.
func (f *Fake) Load(ctx context.Context, m Module) (Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.session(ctx); err != nil {
		return Report{}, err
	}
	report, err := f.check(m)
	if err == nil {
		f.scripts[m.Digest] = m
	}
	return report, err
}

// Check implements Control.
func (f *Fake) Check(ctx context.Context, m Module) (Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.session(ctx); err != nil {
		return Report{}, err
	}
	return f.check(m)
}

// Unload implements Control.
func (f *Fake) Unload(ctx context.Context, digest model.Digest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.session(ctx); err != nil {
		return err
	}
	delete(f.scripts, digest)
	return nil
}

// Inspect implements Control.
func (f *Fake) Inspect(ctx context.Context) ([]ScriptState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.session(ctx); err != nil {
		return nil, err
	}
	states := make([]ScriptState, 0, len(f.scripts))
	for _, m := range f.scripts {
		states = append(states, ScriptState{Digest: m.Digest, Name: m.Name, Mode: m.Mode, ABI: "millrace 1"})
	}
	SortStates(states)
	return states, nil
}

// Health implements Control.
func (f *Fake) Health(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.able(ctx)
}

// Logs implements Control.
func (f *Fake) Logs(ctx context.Context, ask LogAsk) (LogStream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.session(ctx); err != nil {
		return nil, err
	}
	return &fakeLogs{fake: f, ctx: ctx, ask: ask}, nil
}

// Log adds a line, giving it the next Seq.
func (f *Fake) Log(line LogLine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	line.Seq = uint64(len(f.lines)) + 1
	f.lines = append(f.lines, line)
	if f.grown != nil {
		close(f.grown)
		f.grown = nil
	}
}

// Die makes every call fail with ErrDown until Revive, and forgets the session
// and all scripts, as the death of a sidecar does.
func (f *Fake) Die() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.open, f.scripts = ErrDown, false, nil
}

// Revive ends what Die began. The next session must be opened.
func (f *Fake) Revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = nil
}

// Loaded tells whether the digest is loaded; for the fakes of the other kinds.
func (f *Fake) Loaded(digest model.Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.scripts[digest]
	return ok
}

func (f *Fake) able(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.down
}

func (f *Fake) session(ctx context.Context) error {
	if err := f.able(ctx); err != nil {
		return err
	}
	if !f.open {
		return ErrSession
	}
	return nil
}

func (f *Fake) check(m Module) (Report, error) {
	if len(m.Wasm) > ModuleBytesMax {
		return Report{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrModule, len(m.Wasm), ModuleBytesMax)
	}
	if f.CheckModule != nil {
		return f.CheckModule(m)
	}
	return Report{ABI: "millrace 1"}, nil
}

type fakeLogs struct {
	fake *Fake
	ctx  context.Context
	ask  LogAsk
}

// Next implements LogStream.
func (l *fakeLogs) Next() (LogLine, error) {
	for {
		line, ok, grown := l.take()
		if ok {
			return line, nil
		}
		select {
		case <-l.ctx.Done():
			return LogLine{}, l.ctx.Err()
		case <-grown:
		}
	}
}

func (l *fakeLogs) take() (LogLine, bool, <-chan struct{}) {
	f := l.fake
	f.mu.Lock()
	defer f.mu.Unlock()
	for l.ask.After < uint64(len(f.lines)) {
		line := f.lines[l.ask.After]
		l.ask.After++
		if l.ask.Script == "" || l.ask.Script == line.Script {
			return line, true, nil
		}
	}
	if f.grown == nil {
		f.grown = make(chan struct{})
	}
	return LogLine{}, false, f.grown
}

// SortStates orders states as Inspect gives them.
func SortStates(states []ScriptState) {
	slices.SortFunc(states, func(a, b ScriptState) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Digest[:], b.Digest[:]))
	})
}
