package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/host"
)

// script is a loaded module and its pool of instances. It is immutable but for
// its counters and the pool.
type script struct {
	control.Module
	engine *Engine
	code   *host.Module
	log    *logger
	places chan struct{} // one for each instance that may run at a time

	mu     sync.Mutex
	idle   []*instance // the one used last comes last
	closed bool        // by Unload or the session's end: instances are closed as they come back
	users  int         // instances alive; the code is closed behind the last
	failed string

	works sync.Pool // of *syncWork

	instances atomic.Int64
	held      atomic.Int64 // bytes
	fibers    atomic.Int64
	cpu       atomic.Int64
	in        atomic.Int64
	out       atomic.Int64
	bad       atomic.Int64
	dropped   atomic.Int64
}

// instance is a guest and what was counted of it. It belongs to who borrowed it.
type instance struct {
	guest  host.Guest
	script *script
	memory int64         // as accounted
	cpu    time.Duration // as counted
	used   time.Time
}

func newScript(e *Engine, m control.Module, code *host.Module) *script {
	m.Wasm = nil // the code is compiled; the bytes are the broker's to keep
	s := &script{
		Module: m, engine: e, code: code, places: make(chan struct{}, e.options.Workers),
		log: &logger{ring: e.logs, script: m.Name, digest: m.Digest},
	}
	if s.MemoryBytesMax == 0 {
		s.MemoryBytesMax = min(InstanceBytesDefault, e.options.InstanceBytesMax)
	}
	if s.BatchTimeMax == 0 {
		s.BatchTimeMax = BatchTimeDefault
	}
	return s
}

// perFiber tells whether instances stay with their fibers.
func (s *script) perFiber() bool { return s.code.ABI != host.ABIMillrace }

// borrow takes an instance from the pool, or makes one. It waits while all
// places are taken. Errors wrap control.ErrMemory, ErrModule or ErrUnknownScript
// (the script was unloaded), or are ctx's.
func (s *script) borrow(ctx context.Context) (*instance, error) {
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if i, err := s.pop(); i != nil || err != nil {
		if err != nil {
			<-s.places
		}
		return i, err
	}
	i, err := s.make()
	if err != nil {
		<-s.places
	}
	return i, err
}

// giveBack ends a borrow. An instance that is dead must have been closed; then
// i is nil.
func (s *script) giveBack(i *instance) {
	if i != nil {
		s.push(i)
	}
	<-s.places
}

func (s *script) pop() (*instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, control.ErrUnknownScript
	}
	if len(s.idle) == 0 {
		return nil, nil
	}
	i := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	return i, nil
}

func (s *script) push(i *instance) {
	i.used = time.Now()
	s.mu.Lock()
	keep := !s.closed && !s.engine.memory.over()
	if keep {
		s.idle = append(s.idle, i)
	}
	s.mu.Unlock()
	if !keep {
		i.close()
	}
}

// make starts a new instance.
func (s *script) make() (*instance, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	begin := s.code.MemoryBytes
	if err := s.reserve(begin); err != nil {
		s.leave()
		return nil, err
	}
	guest, err := s.code.New(host.Setup{
		Name: s.Name, Env: s.Env, Inputs: s.Inputs, Outputs: s.Outputs, MemoryBytesMax: s.MemoryBytesMax, Log: s.log.log,
	})
	if err != nil {
		s.engine.memory.change(-begin)
		s.leave()
		s.fail(err.Error())
		return nil, fmt.Errorf("%w: it does not start: %w", control.ErrModule, err)
	}
	s.instances.Add(1)
	s.held.Add(begin)
	i := &instance{guest: guest, script: s, memory: begin, used: time.Now()}
	i.count()
	return i, nil
}

// reserve takes memory for an instance, from idle ones if it must be.
func (s *script) reserve(bytes int64) error {
	err := s.engine.memory.take(bytes)
	if errors.Is(err, control.ErrMemory) {
		s.engine.dropIdle(time.Now())
		err = s.engine.memory.take(bytes)
	}
	return err
}

// enter and leave enclose the life of an instance: the code outlives it.
func (s *script) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return control.ErrUnknownScript
	}
	s.users++
	return nil
}

func (s *script) leave() {
	s.mu.Lock()
	s.users--
	last := s.closed && s.users == 0
	s.mu.Unlock()
	if last {
		s.code.Close()
	}
}

// run gives a batch to the instance. A fault that killed it closes it and
// answers alive = false; it must not be used any more.
func (i *instance) run(b *host.Batch) (frame []byte, cpu time.Duration, fault *host.Fault) {
	frame, err := i.guest.Run(b)
	cpu = i.count()
	if err == nil {
		return frame, cpu, nil
	}
	if !errors.As(err, &fault) {
		fault = host.Garbage(err)
	}
	return nil, cpu, fault
}

// count brings the counters up to the guest's state.
func (i *instance) count() time.Duration {
	s := i.script
	spent, memory := i.guest.CPU()-i.cpu, i.guest.MemoryBytes()
	i.cpu += spent
	s.cpu.Add(int64(spent))
	if grown := memory - i.memory; grown != 0 {
		i.memory = memory
		s.held.Add(grown)
		if s.engine.memory.change(grown) && grown > 0 {
			s.engine.relieve()
		}
	}
	return spent
}

// close ends the instance.
func (i *instance) close() {
	s := i.script
	i.guest.Close()
	s.engine.memory.change(-i.memory)
	s.held.Add(-i.memory)
	s.instances.Add(-1)
	s.leave()
}

// drop closes an instance that died.
func (i *instance) drop(fault *host.Fault) {
	i.script.dropped.Add(1)
	i.close()
}

func (s *script) fail(text string) {
	s.mu.Lock()
	s.failed = text
	s.mu.Unlock()
}

// dropIdle closes pooled instances used last before that time.
func (s *script) dropIdle(before time.Time) {
	s.mu.Lock()
	n := 0
	for n < len(s.idle) && s.idle[n].used.Before(before) {
		n++
	}
	old := append([]*instance(nil), s.idle[:n]...)
	s.idle = append(s.idle[:0], s.idle[n:]...)
	s.mu.Unlock()
	for _, i := range old {
		i.close()
	}
}

// close forgets the script: what is idle now, what is lent when it comes back.
func (s *script) close() {
	s.mu.Lock()
	idle := s.idle
	s.idle, s.closed = nil, true
	unused := s.users == 0
	s.mu.Unlock()
	if unused {
		s.code.Close()
	}
	for _, i := range idle {
		i.close()
	}
}

func (s *script) state() control.ScriptState {
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	return control.ScriptState{
		Digest: s.Digest, Name: s.Name, Mode: s.Mode, ABI: string(s.code.ABI),
		Instances: int(s.instances.Load()), Fibers: int(s.fibers.Load()), MemoryBytes: s.held.Load(),
		CPU: time.Duration(s.cpu.Load()), RecordsIn: s.in.Load(), RecordsOut: s.out.Load(), RecordsFailed: s.bad.Load(),
		InstancesDropped: s.dropped.Load(), LastError: failed,
	}
}
