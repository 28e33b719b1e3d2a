package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
	"github.com/millrace-io/millrace/sidecar/host"
)

// scriptsMax bounds what one session loads; each is native code in memory.
const scriptsMax = 1024

// Session is what one broker process has here. It implements control.Control,
// sync.Transformer and async.Opener.
type Session struct {
	engine *Engine
	token  string
	ended  chan struct{}

	mu      sync.Mutex
	closed  bool
	scripts map[model.Digest]*script
	fibers  []*fiber // in the order of opening
}

func newSession(e *Engine, s control.Session) *Session {
	return &Session{engine: e, token: token(), ended: make(chan struct{}), scripts: map[model.Digest]*script{}}
}

// Hello implements control.Control; it goes to the engine, as a new session.
func (s *Session) Hello(_ context.Context, ask control.Session) (control.Hello, error) {
	hello, _, err := s.engine.Open(ask)
	return hello, err
}

// Load implements control.Control.
func (s *Session) Load(ctx context.Context, m control.Module) (control.Report, error) {
	if known, err := s.script(m.Digest); err == nil {
		return report(known.code), nil
	}
	loaded, err := s.prepare(ctx, m)
	if err != nil {
		return control.Report{}, err
	}
	answer := report(loaded.code)
	s.mu.Lock()
	known := s.scripts[m.Digest]
	switch {
	case s.closed:
		err = control.ErrSession
	case known == nil && len(s.scripts) >= scriptsMax:
		err = fmt.Errorf("%w: %d scripts are loaded, the limit is %d", control.ErrMemory, len(s.scripts), scriptsMax)
	case known == nil:
		s.scripts[m.Digest] = loaded
	}
	s.mu.Unlock()
	if err != nil || known != nil {
		loaded.close()
		return answer, err
	}
	s.engine.options.Log.Info("script loaded", "script", m.Name, "digest", m.Digest, "abi", loaded.code.ABI, "cached", answer.Cached)
	return answer, nil
}

// Check implements control.Control.
func (s *Session) Check(ctx context.Context, m control.Module) (control.Report, error) {
	loaded, err := s.prepare(ctx, m)
	if err != nil {
		return control.Report{}, err
	}
	defer loaded.close()
	return report(loaded.code), nil
}

// prepare compiles a module, checks it, and starts it once, so that one that
// cannot start is refused now and not when its first record comes.
func (s *Session) prepare(ctx context.Context, m control.Module) (*script, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.engine.checkManifest(m); err != nil {
		return nil, err
	}
	code, err := s.engine.host.Compile(m.Wasm)
	if errors.Is(err, host.ErrModule) {
		return nil, fmt.Errorf("%w: %s", control.ErrModule, strings.TrimPrefix(err.Error(), host.ErrModule.Error()+": "))
	}
	if err != nil {
		return nil, err
	}
	loaded := newScript(s.engine, m, code)
	first, err := loaded.make()
	if err == nil {
		loaded.push(first)
	} else if !errors.Is(err, control.ErrMemory) {
		loaded.close()
		return nil, err
	}
	return loaded, nil
}

func (e *Engine) checkManifest(m control.Module) error {
	refuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", control.ErrModule, fmt.Sprintf(format, a...))
	}
	switch {
	case len(m.Wasm) > control.ModuleBytesMax:
		return refuse("it has %d bytes, the limit is %d", len(m.Wasm), control.ModuleBytesMax)
	case m.Mode != control.Async && m.Mode != control.Sync:
		return refuse("mode %q is neither %q nor %q", m.Mode, control.Async, control.Sync)
	case m.MemoryBytesMax != 0 && (m.MemoryBytesMax < InstanceBytesMin || m.MemoryBytesMax > e.options.InstanceBytesMax):
		return refuse("a memory limit of %d bytes is not between %d and %d", m.MemoryBytesMax, InstanceBytesMin, e.options.InstanceBytesMax)
	case m.BatchTimeMax < 0 || m.BatchTimeMax > BatchTimeMax:
		return refuse("a time limit of %v is not between 0 and %v", m.BatchTimeMax, BatchTimeMax)
	case len(m.Outputs) > outputsMax || len(m.Inputs) > outputsMax:
		return refuse("%d inputs and %d outputs, the limit is %d each", len(m.Inputs), len(m.Outputs), outputsMax)
	}
	for name := range m.Env {
		if strings.HasPrefix(name, abi.EnvPrefix) {
			return refuse("the variable %s is Millrace's own; names must not begin with %s", name, abi.EnvPrefix)
		}
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(m.Env[name], 0) {
			return refuse("the variable %q has no valid name or value", name)
		}
	}
	return nil
}

// outputsMax bounds inputs and outputs of a script; an entry has 16 bits for it.
const outputsMax = 1024

func report(code *host.Module) control.Report {
	return control.Report{
		ABI: string(code.ABI), Cached: code.Cached, CompileTime: code.CompileTime,
		MemoryBytes: code.MemoryBytes, Imports: slices.Clone(code.Imports),
	}
}

// script finds a loaded script.
func (s *Session) script(digest model.Digest) (*script, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, control.ErrSession
	}
	if found := s.scripts[digest]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("%w: %s", control.ErrUnknownScript, digest)
}

// Unload implements control.Control.
func (s *Session) Unload(_ context.Context, digest model.Digest) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return control.ErrSession
	}
	found := s.scripts[digest]
	delete(s.scripts, digest)
	s.mu.Unlock()
	if found != nil {
		found.close()
	}
	return nil
}

// Inspect implements control.Control.
func (s *Session) Inspect(context.Context) ([]control.ScriptState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, control.ErrSession
	}
	parked := map[model.Digest][]string{}
	for _, f := range s.fibers {
		if reason := f.parkedFor(); reason != "" {
			parked[f.script.Digest] = append(parked[f.script.Digest], fmt.Sprintf("%s/%d: %s", f.spec.Topic, f.spec.Parent.Index, reason))
		}
	}
	states := make([]control.ScriptState, 0, len(s.scripts))
	for _, script := range s.scripts {
		state := script.state()
		state.Parked = parked[script.Digest]
		states = append(states, state)
	}
	control.SortStates(states)
	return states, nil
}

// Health implements control.Control.
func (s *Session) Health(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return control.ErrSession
	}
	return nil
}

// Logs implements control.Control.
func (s *Session) Logs(ctx context.Context, ask control.LogAsk) (control.LogStream, error) {
	if err := s.Health(ctx); err != nil {
		return nil, err
	}
	return &stream{ctx: ctx, ended: s.ended, ring: s.engine.logs, ask: ask}, nil
}

// end drops all that the session has. It does not wait for batches under way,
// which may take as long as their scripts' limits: a new session begins at once.
func (s *Session) end() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	scripts, fibers := s.scripts, s.fibers
	s.closed, s.scripts, s.fibers = true, nil, nil
	close(s.ended)
	s.mu.Unlock()
	go func() {
		for _, f := range fibers {
			f.Close()
		}
	}()
	for _, script := range scripts {
		script.close()
	}
}

func (s *Session) dropIdle(before time.Time) {
	s.mu.Lock()
	fibers := slices.Clone(s.fibers)
	var scripts []*script
	for _, script := range s.scripts {
		scripts = append(scripts, script)
	}
	s.mu.Unlock()
	for _, f := range fibers {
		f.dropIdle(before)
	}
	for _, script := range scripts {
		script.dropIdle(before)
	}
}

// relieve makes room when guests grew beyond the limit: idle instances go
// first, then the newest fiber is parked.
func (e *Engine) relieve() {
	e.dropIdle(time.Now())
	if !e.memory.over() {
		return
	}
	e.mu.Lock()
	session := e.session
	e.mu.Unlock()
	if session == nil {
		return
	}
	session.mu.Lock()
	defer session.mu.Unlock()
	for i := len(session.fibers) - 1; i >= 0; i-- {
		if f := session.fibers[i]; f.park("the guests' memory limit was exceeded, and this fiber is the newest") {
			e.options.Log.Warn("fiber parked", "script", f.script.Name, "topic", f.spec.Topic, "partition", f.spec.Parent.Index)
			return
		}
	}
}
