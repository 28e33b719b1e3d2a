package engine

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/host"
)

// Defaults of Options and of modules that leave a limit open.
const (
	MemoryBytesDefault   = 512 << 20        // of all guests together
	InstanceBytesDefault = 64 << 20         // a plain Go module begins with 2.3 MB, JavaScript with some 4
	InstanceBytesMin     = 1 << 20          // what no module can be limited below
	BatchTimeDefault     = time.Second      // a MiB of JSON takes JavaScript some 20 ms
	BatchTimeMax         = time.Minute      // splitting a batch multiplies it by some 13
	idleMax              = 30 * time.Second // an instance without work is dropped after it
)

// Options are an Engine's. Zero values take the defaults.
type Options struct {
	CacheDir         string // of compiled modules; empty = none
	Build            string
	Walls            []control.Wall
	MemoryBytesMax   int64
	InstanceBytesMax int64
	Workers          int // instances of one script, and async instances of all, that run at a time
	Log              *slog.Logger
}

// Engine is a sidecar's heart. It serves one session at a time.
type Engine struct {
	options Options
	boot    string
	host    *host.Engine
	memory  *account
	logs    *ring
	workers chan struct{} // async work holds a place, so that sync work finds a core

	mu      sync.Mutex
	node    *control.Session // whom this sidecar serves, once it is known
	session *Session         // nil before the first Hello
	closed  bool

	stop    chan struct{}
	stopped chan struct{}
}

// New starts an engine.
func New(o Options) (*Engine, error) {
	if o.MemoryBytesMax == 0 {
		o.MemoryBytesMax = MemoryBytesDefault
	}
	if o.InstanceBytesMax == 0 {
		o.InstanceBytesMax = o.MemoryBytesMax
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h, err := host.NewEngine(host.Options{CacheDir: o.CacheDir})
	if err != nil {
		return nil, err
	}
	e := &Engine{
		options: o, boot: token(), host: h, memory: newAccount(o.MemoryBytesMax), logs: newRing(),
		workers: make(chan struct{}, o.Workers), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go e.sweep()
	return e, nil
}

// token is a name that nobody guesses.
func token() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Open is control's Hello: it answers the token by which the session is found.
func (e *Engine) Open(s control.Session) (control.Hello, string, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return control.Hello{}, "", control.ErrDown
	}
	if e.node != nil && (e.node.Cluster != s.Cluster || e.node.Node != s.Node) {
		defer e.mu.Unlock()
		return control.Hello{}, "", fmt.Errorf("%w: it serves node %d of cluster %s, and was asked by node %d of cluster %s; give each node a sidecar of its own",
			control.ErrOtherNode, e.node.Node, e.node.Cluster, s.Node, s.Cluster)
	}
	old, session := e.session, newSession(e, s)
	e.node, e.session = &s, session
	e.mu.Unlock()
	if old != nil {
		old.end()
	}
	e.options.Log.Info("session opened", "cluster", s.Cluster, "node", s.Node, "broker_boot", s.Boot)
	return e.hello(), session.token, nil
}

func (e *Engine) hello() control.Hello {
	return control.Hello{
		Protocol: control.Protocol, Build: e.options.Build, Engine: host.EngineName, Boot: e.boot, Walls: e.options.Walls,
		Limits: control.Limits{
			ModuleBytesMax: control.ModuleBytesMax, MemoryBytesMax: e.options.MemoryBytesMax,
			InstanceBytesMax: e.options.InstanceBytesMax, BatchTimeMax: BatchTimeMax, Workers: e.options.Workers,
		},
	}
}

// Session finds the open session by its token; another is control.ErrSession.
func (e *Engine) Session(token string) (*Session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == nil || e.session.token != token {
		return nil, fmt.Errorf("%w: say hello first, or again: another broker process took over", control.ErrSession)
	}
	return e.session, nil
}

// Close ends the session and the engine. No batch may be under way, and no
// method may be called afterwards.
func (e *Engine) Close() {
	e.mu.Lock()
	session := e.session
	e.session, e.closed = nil, true
	e.mu.Unlock()
	if session != nil {
		session.end()
	}
	close(e.stop)
	<-e.stopped
	e.host.Close()
}

// sweep drops instances that have had no work for idleMax.
func (e *Engine) sweep() {
	defer close(e.stopped)
	ticker := time.NewTicker(idleMax / 4)
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case now := <-ticker.C:
			e.dropIdle(now.Add(-idleMax))
		}
	}
}

// dropIdle closes the instances that were used last before that time.
func (e *Engine) dropIdle(before time.Time) {
	e.mu.Lock()
	session := e.session
	e.mu.Unlock()
	if session != nil {
		session.dropIdle(before)
	}
}
