package host

// #include "glue.h"
import "C"

import (
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// EngineName names the engine and, with its version and the settings below, what
// a compiled module was compiled for.
const (
	EngineName     = "wasmtime 39.0.1"
	engineSettings = "1" // raise it with any change of newConfig
)

const (
	tick         = time.Millisecond // how often a running guest's clocks are read
	ticksIdleMax = 64               // ticks without a running guest after which ticking stops
	stackBytes   = 1 << 20          // of a guest's native stack
)

// Options are an Engine's.
type Options struct {
	// CacheDir keeps compiled modules; it is made with mode 0700. Empty =
	// nothing is kept.
	CacheDir string
}

// Engine compiles modules and tells running guests the time.
type Engine struct {
	engine  *wasmtime.Engine
	cache   *cache
	running atomic.Int32
	wake    chan struct{}
	done    chan struct{}
	ended   chan struct{}
}

// NewEngine starts an engine. It fails if the cache directory cannot be used.
func NewEngine(o Options) (*Engine, error) {
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		engine: wasmtime.NewEngineWithConfig(newConfig()),
		cache:  c,
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
	go e.tick()
	return e, nil
}

// newConfig is what all guests run under. What a guest computes must not depend
// on the machine: hence canonical NaNs, deterministic SIMD, no threads.
func newConfig() *wasmtime.Config {
	c := wasmtime.NewConfig()
	c.SetStrategy(wasmtime.StrategyCranelift)
	c.SetCraneliftOptLevel(wasmtime.OptLevelSpeed)
	c.SetEpochInterruption(true)
	c.SetCraneliftNanCanonicalization(true)
	c.SetWasmRelaxedSIMDDeterministic(true)
	c.SetWasmThreads(false)
	c.SetWasmMemory64(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmFunctionReferences(false)
	c.SetWasmGC(false)
	c.SetMaxWasmStack(stackBytes)
	return c
}

// Close ends the engine. All guests and modules must be closed before.
func (e *Engine) Close() {
	close(e.done)
	<-e.ended
	e.engine.Close()
}

// raw is wasmtime-go's engine as the glue knows it: the first and only field.
func (e *Engine) raw() *C.wasm_engine_t {
	return *(**C.wasm_engine_t)(unsafe.Pointer(e.engine))
}

// enter and leave enclose the time in which a guest may run.
func (e *Engine) enter() {
	if e.running.Add(1) == 1 {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

func (e *Engine) leave() { e.running.Add(-1) }

// tick ends the epoch every millisecond while guests run; an idle sidecar does
// not wake up.
func (e *Engine) tick() {
	defer close(e.ended)
	for {
		select {
		case <-e.done:
			return
		case <-e.wake:
		}
		if !e.tickWhileRunning() {
			return
		}
	}
}

func (e *Engine) tickWhileRunning() bool {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for idle := 0; idle < ticksIdleMax; idle++ {
		select {
		case <-e.done:
			return false
		case <-ticker.C:
		}
		if e.running.Load() > 0 {
			C.mr_tick(e.raw())
			idle = 0
		}
	}
	return true
}
