package script

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sdk/manifest"
)

const (
	// attachMin and attachMax bound the pause between attempts to attach: a
	// sidecar that came back is in use again within 2 s.
	attachMin = 20 * time.Millisecond
	attachMax = time.Second
	// healthEvery and healthTimeout find a sidecar that lives and does not work.
	healthEvery   = 2 * time.Second
	healthTimeout = 10 * time.Second
	// loadTimeout bounds a compilation.
	loadTimeout = 2 * time.Minute
	// loadRetry is the pause after a load that failed for a reason that may pass.
	loadRetry = time.Second
)

// Supervisor keeps one sidecar attached and loaded with what is deployed.
type Supervisor struct {
	connect func(context.Context) (Sidecar, error) // nil: no sidecar
	session control.Session
	store   *Store
	cluster *cluster.Cluster
	log     *slog.Logger

	mu       sync.Mutex // guards all below
	link     *link      // nil while down
	reason   string     // why it is down
	watchers map[chan struct{}]struct{}
}

// link is one life of a sidecar.
type link struct {
	Sidecar
	hello control.Hello
	// Behind the Supervisor's mu:
	loaded  map[model.Digest]string // to its script's name
	failed  map[model.Digest]string // why it was not loaded, the last time
	refused map[model.Digest]string // those of failed that cannot be loaded at all

	loading sync.Mutex // one load at a time: compiling takes every core
}

// State is what is known of the sidecar.
type State struct {
	State  string // up, down or off
	Reason string
	Hello  control.Hello
}

// The states of a sidecar.
const (
	SidecarUp   = "up"
	SidecarDown = "down"
	SidecarOff  = "off"
)

const reasonOff = "this broker was started with --sidecar off"

// State tells how the sidecar is.
func (v *Supervisor) State() State {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.connect == nil:
		return State{State: SidecarOff, Reason: reasonOff}
	case v.link == nil:
		return State{State: SidecarDown, Reason: v.reason}
	}
	return State{State: SidecarUp, Hello: v.link.hello}
}

// Watch ticks when the sidecar went up or down, and when scripts were loaded.
func (v *Supervisor) Watch() (changed <-chan struct{}, cancel func()) {
	w := make(chan struct{}, 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watchers[w] = struct{}{}
	return w, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.watchers, w)
	}
}

// change alters the state and tells the watchers.
func (v *Supervisor) change(do func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	do()
	for w := range v.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// current gives the link, or ErrDown.
func (v *Supervisor) current() (*link, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.link == nil {
		return nil, fmt.Errorf("%w: %s", control.ErrDown, v.reason)
	}
	return v.link, nil
}

// run keeps a sidecar attached until ctx ends.
func (v *Supervisor) run(ctx context.Context) {
	if v.connect == nil {
		return
	}
	for pause := attachMin; ctx.Err() == nil; {
		l, err := v.attach(ctx)
		if err != nil {
			if ctx.Err() == nil && v.down(err.Error()) {
				v.log.Warn("sidecar is down", "err", err)
			}
			if wait(ctx, pause) == nil {
				pause = min(2*pause, attachMax)
			}
			continue
		}
		pause = attachMin
		v.log.Info("sidecar is up", "build", l.hello.Build, "engine", l.hello.Engine, "boot", l.hello.Boot)
		why := v.serve(ctx, l)
		v.down(why)
		if ctx.Err() == nil {
			v.log.Warn("sidecar is down", "err", why)
		}
		if err := l.Close(); err != nil && ctx.Err() == nil {
			v.log.Info("link to the sidecar closed", "err", err)
		}
	}
}

// down notes why; true if that is news.
func (v *Supervisor) down(why string) (news bool) {
	v.change(func() { news, v.link, v.reason = v.reason != why || v.link != nil, nil, why })
	return news
}

func (v *Supervisor) attach(ctx context.Context) (*link, error) {
	side, err := v.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the sidecar: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	hello, err := side.Control.Hello(ctx, v.session)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a session with the sidecar: %w", err), side.Close())
	}
	return &link{Sidecar: side, hello: hello, loaded: map[model.Digest]string{}, failed: map[model.Digest]string{}, refused: map[model.Digest]string{}}, nil
}

// serve publishes l and keeps it loaded until it dies; it tells why it ended.
func (v *Supervisor) serve(ctx context.Context, l *link) string {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	v.change(func() { v.link, v.reason = l, "" })
	work.Add(1)
	go func() {
		defer work.Done()
		v.keepLoaded(ctx, l)
	}()
	ticker := time.NewTicker(healthEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return "the broker stops"
		case <-l.Died:
			return "the sidecar died"
		case <-ticker.C:
			check, cancel := context.WithTimeout(ctx, healthTimeout)
			err := l.Control.Health(check)
			cancel()
			if err != nil && ctx.Err() == nil {
				return "the sidecar is not healthy: " + err.Error()
			}
		}
	}
}

// keepLoaded loads what is deployed and unloads what is gone, until ctx ends.
func (v *Supervisor) keepLoaded(ctx context.Context, l *link) {
	changed, cancel := v.cluster.Watch()
	defer cancel()
	for {
		grown := v.store.watch()
		again := v.reload(ctx, l)
		var retry <-chan time.Time
		if again {
			retry = time.After(loadRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-grown:
		case <-retry:
		}
	}
}

// reload makes l match the metadata; again: some load may succeed later.
func (v *Supervisor) reload(ctx context.Context, l *link) (again bool) {
	scripts := v.cluster.Metadata().Scripts()
	deployedNow := map[string]bool{}
	for _, s := range scripts {
		if s.Removing {
			continue
		}
		deployedNow[s.Name] = true
		id := moduleID{s.Name, s.Digest}
		err := v.load(ctx, l, id)
		if err == nil {
			v.store.ran(id)
		}
		again = again || err != nil && !errors.Is(err, control.ErrModule) && !errors.Is(err, errNotStored)
	}
	v.mu.Lock()
	loaded := maps.Clone(l.loaded)
	v.mu.Unlock()
	for d, name := range loaded {
		if _, _, err := v.store.find(moduleID{name, d}); deployedNow[name] && err == nil {
			continue // it runs, or finishes an older activation
		}
		if current(scripts, name, d) {
			continue
		}
		if err := l.Control.Unload(ctx, d); err == nil {
			v.change(func() { delete(l.loaded, d) })
		}
	}
	return again
}

func current(scripts []*controller.Script, name string, d model.Digest) bool {
	for _, s := range scripts {
		if s.Name == name && s.Digest == d && !s.Removing {
			return true
		}
	}
	return false
}

// load makes a digest run in l, if it does not.
func (v *Supervisor) load(ctx context.Context, l *link, id moduleID) error {
	if done, err := v.isLoaded(l, id.digest); done {
		return err
	}
	l.loading.Lock()
	defer l.loading.Unlock()
	if done, err := v.isLoaded(l, id.digest); done {
		return err
	}
	m, err := v.moduleOf(ctx, id)
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, loadTimeout)
		_, err = l.Control.Load(limited, m)
		cancel()
	}
	switch {
	case err == nil:
		v.change(func() { l.loaded[id.digest] = id.name; delete(l.failed, id.digest) })
		v.log.Info("script loaded", "script", id.name, "digest", id.digest)
		return nil
	case errors.Is(err, errNotStored) || ctx.Err() != nil:
		return err
	}
	v.log.Warn("script not loaded", "script", id.name, "digest", id.digest, "err", err)
	v.change(func() {
		l.failed[id.digest] = err.Error()
		if errors.Is(err, control.ErrModule) || errors.Is(err, ErrDamaged) {
			l.refused[id.digest] = err.Error()
		}
	})
	return fmt.Errorf("load script %q: %w", id.name, err)
}

// isLoaded tells whether a digest runs in l, or that its module is bad: to try
// again would compile it in vain.
func (v *Supervisor) isLoaded(l *link, d model.Digest) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := l.loaded[d]; ok {
		return true, nil
	}
	if why, bad := l.refused[d]; bad {
		return true, fmt.Errorf("%w: %s", control.ErrModule, why)
	}
	return false, nil
}

// moduleOf reads a module from __scripts, as the sidecar needs it.
func (v *Supervisor) moduleOf(ctx context.Context, id moduleID) (control.Module, error) {
	d, wasm, err := v.store.read(ctx, id)
	if err != nil {
		return control.Module{}, err
	}
	man, err := manifest.Decode([]byte(d.Manifest))
	if err != nil {
		return control.Module{}, fmt.Errorf("read the manifest of script %q: %w", id.name, err)
	}
	return moduleFrom(man, d.Digest, wasm), nil
}

func moduleFrom(m *manifest.Manifest, d model.Digest, wasm []byte) control.Module {
	return control.Module{
		Digest: d, Name: m.Name, Mode: control.Mode(m.Mode), Wasm: wasm, Inputs: m.Inputs, Outputs: m.OutputNames(),
		Env: m.Env, MemoryBytesMax: m.Limits.Memory, BatchTimeMax: m.Limits.BatchTime,
	}
}

// reasonLoading is Running's where it is only a matter of time.
const reasonLoading = "it is being loaded"

// Running tells whether a digest is loaded here; reason says why not.
func (v *Supervisor) Running(d model.Digest) (ok bool, reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.link == nil {
		return false, "the sidecar is down: " + v.reason
	}
	if _, ok = v.link.loaded[d]; ok {
		return true, ""
	}
	if why, bad := v.link.failed[d]; bad {
		return false, why
	}
	return false, reasonLoading
}

// Open makes a fiber ready, loading the digest if it is stored but not loaded:
// one that finishes an older activation.
func (v *Supervisor) Open(ctx context.Context, spec async.FiberSpec) (async.Fiber, error) {
	l, err := v.current()
	if err != nil {
		return nil, err
	}
	f, err := l.Async.Open(ctx, spec)
	if !errors.Is(err, control.ErrUnknownScript) {
		return f, err
	}
	name, ok := v.store.nameOf(spec.Digest)
	if !ok {
		return nil, fmt.Errorf("%w: %w", err, errNotStored)
	}
	v.change(func() { delete(l.loaded, spec.Digest) }) // it is not, whatever was thought
	if err := v.load(ctx, l, moduleID{name, spec.Digest}); err != nil {
		return nil, err
	}
	return l.Async.Open(ctx, spec)
}
