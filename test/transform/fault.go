package transform

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

// Fault is what befalls the processes.
type Fault int

// The faults.
const (
	Nothing Fault = iota
	KillBroker
	KillSidecar
	KillBoth
	faults
)

// String names it for logs.
func (f Fault) String() string {
	return [...]string{"nothing", "broker killed", "sidecar killed", "both killed"}[f]
}

// strike lets a fault happen, and starts again what has to be started.
func (w *World) strike(f Fault) error {
	switch f {
	case KillSidecar:
		killed, err := w.Node.SignalSidecar(syscall.SIGKILL)
		if killed {
			w.struck[f].Add(1)
		}
		return err
	case KillBroker:
		w.struck[f].Add(1)
		w.Node.KillAlone()
		return w.Node.TryRestart()
	case KillBoth:
		w.struck[f].Add(1)
		w.Node.Kill()
		return w.Node.TryRestart()
	}
	return nil
}

// Faults are all there are.
func Faults() []Fault { return []Fault{Nothing, KillBroker, KillSidecar, KillBoth} }

// Round does something to one script while one of the faults strikes, all drawn.
func (w *World) Round(of ...Fault) {
	w.T.Helper()
	s := w.scripts[w.rand.IntN(len(w.scripts))]
	name, act := w.action(s)
	w.during(of[w.rand.IntN(len(of))], s, name, act)
}

// during acts on a script while f strikes, some time after the act began.
func (w *World) during(f Fault, s *script, name string, act func() error) {
	w.T.Helper()
	delay := time.Duration(w.rand.Int64N(int64(600 * time.Millisecond)))
	w.T.Logf("%s: %s; after %s %s", s.Name, name, delay.Round(time.Millisecond), f)
	struck := make(chan error, 1)
	go func() {
		pause(delay)
		struck <- w.strike(f)
	}()
	err := act()
	w.must("strike", <-struck)
	w.must(name+" "+s.Name, err)
	for _, s := range w.scripts {
		w.must("write", s.load.err())
	}
}

// action draws what is done to a script.
func (w *World) action(s *script) (string, func() error) {
	switch n := w.rand.IntN(10); {
	case s.Trim && n < 6:
		return "trim", func() error { return w.trim(s) }
	case n < 3:
		return "redeploy", func() error { return w.deploy(s, 0) }
	case n < 5:
		return "redeploy with a start", func() error { return w.deploy(s, w.back(s)) }
	case n < 7:
		return "seek", func() error { return w.seek(s) }
	case n < 8 && s.Grow:
		return "add a partition", func() error { return w.grow(s) }
	}
	return "pause and resume", func() error {
		if err := w.rest(s); err != nil {
			return err
		}
		return w.resume(s)
	}
}

// back draws how many records after the oldest to go to, so that no partition
// ends before; 0 while one is empty.
func (w *World) back(s *script) int64 {
	if least := w.least(s); least > 0 {
		return 1 + w.rand.Int64N(least)
	}
	return 0
}

// Struck tells how often each fault struck. A sidecar that was not there to be
// killed is not counted: a loop that found none has not tried it.
func (w *World) Struck() string {
	var b strings.Builder
	for _, f := range []Fault{KillBroker, KillSidecar, KillBoth} {
		fmt.Fprintf(&b, "%s %d times; ", f, w.struck[f].Load())
	}
	return b.String()
}
