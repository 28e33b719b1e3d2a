package selftest

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

// rig is a Runner over a file system in memory, whose peers answer as a Runner does.
type rig struct {
	*Runner
	fs *disk.Memory
	wg sync.WaitGroup
	// room and call, if set, stand for the disk's and the peer's answer.
	room func(int64) error
	call func() error
}

func newRig(t *testing.T, f func(disk.FS) disk.FS) *rig {
	t.Helper()
	r := &rig{fs: disk.NewMemory()}
	if err := r.fs.MkdirAll("data"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.Runner = New(Options{
		Node: 1, FS: f(r.fs), Dir: "data", Log: slog.New(slog.DiscardHandler),
		Room: func(n int64) error {
			if r.room != nil {
				return r.room(n)
			}
			return nil
		},
		Call: func(ctx context.Context, _ model.NodeID, body []byte) ([]byte, error) {
			if r.call != nil {
				return nil, r.call()
			}
			return r.Answer(ctx, body)
		},
		Run: func(f func(context.Context)) { r.wg.Go(func() { f(ctx) }) },
	})
	t.Cleanup(func() { cancel(); r.wg.Wait() })
	return r
}

func same(f disk.FS) disk.FS { return f }

// finished runs a test to its end and gives the results by name.
func (r *rig) finished(t *testing.T, run api.SelfTestRun) map[string]api.SelfTestResult {
	t.Helper()
	if err := r.Start(run); err != nil {
		t.Fatal(err)
	}
	r.wg.Wait()
	by := map[string]api.SelfTestResult{}
	for _, x := range r.Status().Results {
		by[x.Test] = x
	}
	if _, err := r.fs.Stat(r.scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the scratch file is still there: %v", err)
	}
	return by
}

func TestMeasures(t *testing.T) {
	r := newRig(t, same)
	got := r.finished(t, api.SelfTestRun{ID: "x", DiskMillis: 3, NetworkMillis: 3, Peers: []model.NodeID{1, 2}})
	for test, size := range map[string]int64{
		"disk write": throughputBytes, "disk latency": latencyBytes, "disk read": throughputBytes,
		"network latency": latencyCarry, "network send": CarryBytesMax, "network receive": CarryBytesMax,
	} {
		x, ok := got[test]
		if !ok || x.Error != "" || x.Note != "" || x.Requests < 1 || x.Bytes != x.Requests*size || x.PerSecond <= 0 || x.BytesPerSecond <= 0 {
			t.Errorf("%s: %+v", test, x)
		}
		if x.P50 > x.P90 || x.P90 > x.P99 || x.P99 > x.Max || x.Max <= 0 {
			t.Errorf("%s: percentiles %v %v %v of at most %v", test, x.P50, x.P90, x.P99, x.Max)
		}
		if network := strings.HasPrefix(test, "network"); network != (x.Peer != nil) || network && *x.Peer != 2 {
			t.Errorf("%s is with %v", test, x.Peer)
		}
	}
	if s := r.Status(); len(got) != 6 || s.State != "idle" || s.ID != "x" || s.Test != "" {
		t.Errorf("%+v", s)
	}
}

// TestNoDirect: where the page cache cannot be gone past, it says so.
func TestNoDirect(t *testing.T) {
	r := newRig(t, same)
	r.fs.RefuseDirect()
	for test, x := range r.finished(t, api.SelfTestRun{DiskMillis: 1}) {
		if x.Error != "" || !strings.Contains(x.Note, "page cache") {
			t.Errorf("%s: %+v", test, x)
		}
	}
}

// TestFailures: a disk and a peer that fail are results, and what depends on them is left out.
func TestFailures(t *testing.T) {
	broken := errors.New("it is broken")
	r := newRig(t, func(f disk.FS) disk.FS {
		faulty := disk.NewFaulty(f)
		faulty.Inject(disk.Fault{Op: disk.OpWrite, Err: broken})
		return faulty
	})
	r.call = func() error { return broken }
	got := r.finished(t, api.SelfTestRun{DiskMillis: 1, NetworkMillis: 1, Peers: []model.NodeID{2}})
	for _, test := range []string{"disk write", "network latency", "network send", "network receive"} {
		if x := got[test]; !strings.Contains(x.Error, broken.Error()) {
			t.Errorf("%s: %+v", test, x)
		}
	}
	if len(got) != 4 {
		t.Errorf("results %+v", got)
	}
}

// TestOneAtATime: a run that goes on refuses the next, and ends when it is told to.
func TestOneAtATime(t *testing.T) {
	r := newRig(t, same)
	if err := r.Stop(t.Context()); err != nil {
		t.Errorf("nothing runs: %v", err)
	}
	body, err := StartBody(api.SelfTestRun{ID: "long", NetworkMillis: DurationMax.Milliseconds(), Peers: []model.NodeID{2}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Answer(t.Context(), body); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(api.SelfTestRun{ID: "other"}); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "long") {
		t.Errorf("a second run: %v", err)
	}
	if _, err := r.Answer(t.Context(), StopBody()); err != nil {
		t.Fatal(err)
	}
	s := r.Status()
	stopped := func(x api.SelfTestResult) bool { return x.Error == "it was stopped" }
	if s.State != "idle" || s.ID != "long" || len(s.Results) != 1 || !stopped(s.Results[0]) {
		t.Errorf("%+v", s)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, same)
	for name, body := range map[string][]byte{
		"nothing": nil, "no such verb": {99}, "no run": {verbStart, '{'}, "half a carry": {verbCarry, 1},
		"too much to carry": carryBody(0, CarryBytesMax+1),
	} {
		if _, err := r.Answer(t.Context(), body); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.Start(api.SelfTestRun{DiskMillis: DurationMax.Milliseconds() + 1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("too long: %v", err)
	}
	full := errors.New("the disk is full")
	r.room = func(n int64) error {
		if n != ScratchBytesMax {
			t.Errorf("room is asked for %d bytes", n)
		}
		return full
	}
	if err := r.Start(api.SelfTestRun{DiskMillis: 1}); !errors.Is(err, full) {
		t.Errorf("no room: %v", err)
	}
	if s := r.Status(); s.State != "idle" {
		t.Errorf("%+v", s)
	}
}

// TestLeftover: what a crash left is removed.
func TestLeftover(t *testing.T) {
	r := newRig(t, same)
	f, err := r.fs.Create(r.scratch)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	New(r.o)
	if _, err := r.fs.Stat(r.scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestSpread: percentiles are at most a 32nd too high, and never above the maximum.
func TestSpread(t *testing.T) {
	var s spread
	if s.percentile(99) != 0 {
		t.Error("of nothing")
	}
	for i := 1; i <= 1000; i++ {
		s.add(time.Duration(i) * time.Microsecond)
	}
	for p, want := range map[float64]time.Duration{50: 500 * time.Microsecond, 99: 990 * time.Microsecond, 100: time.Millisecond} {
		if got := s.percentile(p); got < want || got > want+want/32+1 {
			t.Errorf("p%v is %v, want %v", p, got, want)
		}
	}
	for _, n := range []uint64{0, 1, 31, 32, 33, 63, 64, 1000, 1 << 40, 1<<63 - 1} {
		if last := top(slot(n)); last < n || last-n > n/32 {
			t.Errorf("%d is counted as %d", n, last)
		}
	}
}
