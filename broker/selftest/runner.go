package selftest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

const (
	// DurationMax bounds each test.
	DurationMax = 5 * time.Minute
	// ScratchBytesMax is what the disk tests write over and over.
	ScratchBytesMax = 256 << 20
	// CarryBytesMax bounds what a call carries, one way.
	CarryBytesMax = 1 << 20
	// scratchName is the file's, in the data directory.
	scratchName = "SELFTEST.scratch"
)

// Refusals.
var (
	// ErrRunning says that a run is under way. Wait for it, or stop it.
	ErrRunning = errors.New("a self-test is running")
	// ErrInvalid says that a run, or a body, asks for what cannot be.
	ErrInvalid = errors.New("invalid self-test")
)

// The verbs of bodies.
const (
	verbStart byte = 1 + iota
	verbStatus
	verbStop
	verbCarry
)

// Options is what a Runner needs.
type Options struct {
	Node model.NodeID
	FS   disk.FS
	Dir  string
	// Room says why so many bytes more must not be written.
	Room func(bytes int64) error
	// Call calls a node's Answer.
	Call func(ctx context.Context, node model.NodeID, body []byte) ([]byte, error)
	// Run runs f on a goroutine; its ctx ends when the node stops.
	Run func(f func(ctx context.Context))
	Log *slog.Logger
}

// Runner runs one self-test at a time. Its methods may be called from any goroutine.
type Runner struct {
	o       Options
	scratch string

	// mu guards what follows. status.Results is replaced, never written.
	mu     sync.Mutex
	status api.SelfTestNode
	stop   context.CancelFunc // of the run; nil while there is none
	done   chan struct{}      // closed when it is over
}

// New gives a Runner, and removes what an earlier one may have left.
func New(o Options) *Runner {
	r := &Runner{o: o, scratch: filepath.Join(o.Dir, scratchName), status: api.SelfTestNode{Node: o.Node, State: "idle", Results: []api.SelfTestResult{}}}
	if err := o.FS.Remove(r.scratch); err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.Log.Warn("scratch file of a self-test not removed", "file", r.scratch, "err", err)
	}
	return r
}

// Start begins a run. ErrRunning, ErrInvalid.
func (r *Runner) Start(run api.SelfTestRun) error {
	for _, ms := range []int64{run.DiskMillis, run.NetworkMillis} {
		if ms < 0 || ms > DurationMax.Milliseconds() {
			return fmt.Errorf("%w: a test of %d ms, the limit is %d", ErrInvalid, ms, DurationMax.Milliseconds())
		}
	}
	if run.DiskMillis > 0 {
		if err := r.o.Room(ScratchBytesMax); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		return fmt.Errorf("%w on node %d: %s", ErrRunning, r.o.Node, r.status.ID)
	}
	stopped, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	r.stop, r.done = stop, done
	r.status = api.SelfTestNode{Node: r.o.Node, ID: run.ID, State: "running", Results: []api.SelfTestResult{}}
	r.o.Run(func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer context.AfterFunc(stopped, cancel)()
		if ctx.Err() == nil {
			r.tests(ctx, run)
		}
		cancel()
		r.end(done)
	})
	return nil
}

func (r *Runner) end(done chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop()
	r.stop = nil
	r.status.State, r.status.Test = "idle", ""
	close(done)
}

// Stop ends the run, if there is one, and returns when it is over.
func (r *Runner) Stop(ctx context.Context) error {
	r.mu.Lock()
	stop, done := r.stop, r.done
	r.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the self-test of node %d: %w", r.o.Node, ctx.Err())
	}
}

// Status tells what runs, and the results so far or of the last run.
func (r *Runner) Status() api.SelfTestNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// tests runs all that was asked for, one after the other.
func (r *Runner) tests(ctx context.Context, run api.SelfTestRun) {
	if run.DiskMillis > 0 {
		r.disk(ctx, time.Duration(run.DiskMillis)*time.Millisecond)
	}
	if run.NetworkMillis > 0 {
		for _, peer := range run.Peers {
			if peer != r.o.Node {
				r.network(ctx, peer, time.Duration(run.NetworkMillis)*time.Millisecond)
			}
		}
	}
}

// measure runs one test and keeps its result; none begins once the run was stopped.
func (r *Runner) measure(ctx context.Context, result api.SelfTestResult, test func(ctx context.Context, result *api.SelfTestResult) error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	r.status.Test = result.Test
	r.mu.Unlock()
	if err := test(ctx, &result); err != nil {
		result.Error = err.Error()
		if ctx.Err() != nil {
			result.Error = "it was stopped"
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Results = append(append([]api.SelfTestResult{}, r.status.Results...), result)
}

// fill works out a result's rates and percentiles.
func fill(result *api.SelfTestResult, s *spread, bytes int64, took time.Duration) {
	micros := func(p float64) float64 { return float64(s.percentile(p).Nanoseconds()) / 1000 }
	result.Millis, result.Requests, result.Bytes = took.Milliseconds(), s.count, bytes
	result.P50, result.P90, result.P99, result.Max = micros(50), micros(90), micros(99), float64(s.max.Nanoseconds())/1000
	if took > 0 {
		result.PerSecond = float64(s.count) / took.Seconds()
		result.BytesPerSecond = float64(bytes) / took.Seconds()
	}
}

// Answer does what another node's body asks.
func (r *Runner) Answer(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) == 0 {
		return nil, fmt.Errorf("%w: an empty body", ErrInvalid)
	}
	switch verb, rest := body[0], body[1:]; verb {
	case verbStart:
		var run api.SelfTestRun
		if err := json.Unmarshal(rest, &run); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return nil, r.Start(run)
	case verbStatus:
		return json.Marshal(r.Status())
	case verbStop:
		return nil, r.Stop(ctx)
	case verbCarry:
		if len(rest) < 4 {
			return nil, fmt.Errorf("%w: %d bytes ask to carry", ErrInvalid, len(rest))
		}
		n := binary.LittleEndian.Uint32(rest)
		if n > CarryBytesMax {
			return nil, fmt.Errorf("%w: an answer of %d bytes, the limit is %d", ErrInvalid, n, CarryBytesMax)
		}
		return make([]byte, n), nil
	default:
		return nil, fmt.Errorf("%w: verb %d", ErrInvalid, verb)
	}
}

// StartBody, StatusBody and StopBody ask another node's Runner.
func StartBody(run api.SelfTestRun) ([]byte, error) {
	b, err := json.Marshal(run)
	return append([]byte{verbStart}, b...), err
}

// StatusBody asks for a Status.
func StatusBody() []byte { return []byte{verbStatus} }

// StopBody asks to stop.
func StopBody() []byte { return []byte{verbStop} }
