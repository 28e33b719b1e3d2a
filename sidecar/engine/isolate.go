package engine

import (
	"context"
	"time"

	"github.com/millrace-io/millrace/sidecar/abi"
	"github.com/millrace-io/millrace/sidecar/host"
)

// How much a guest is given at a time. It must fit in a small guest's memory
// with what the guest makes of it; beyond some hundred KiB calls cost nothing.
// A fiber's long range, which is 1 MiB as Kafka counts, is one chunk unless its
// records are tiny: what is left over would cost a call and a turn of its own.
const (
	chunkBytesMax   = 5 << 18
	chunkRecordsMax = 8192
)

// guests lends instances to a walk: from a pool, or a fiber's own.
type guests interface {
	get(ctx context.Context) (*instance, error)
	drop(fault *host.Fault) // the instance died
}

// walk takes a range through a guest in chunks, in order, and finds the records
// that fail: the guest's error names one, or a chunk that trapped, ran too long
// or answered garbage is split until one record is left.
type walk struct {
	guests  guests
	workers chan struct{} // a place is held for each chunk: a script that is being split must not keep others waiting
	batch   host.Batch    // the constant part
	records []abi.Record
	tails   [][]byte
	limits  abi.Limits
	retries int

	// check judges decoded entries of a chunk; take uses them. Both before the
	// guest runs again, for entries alias its memory.
	check func(entries []abi.Entry) *host.Fault
	take  func(entries []abi.Entry, lo, hi int) error

	entries []abi.Entry
	failed  []failure
	cpu     time.Duration

	size    int  // records of the next chunk at most: less after a failure, so that a range full of bad records is not encoded again and again
	suspect int  // behind the first record known to fail in some chunk, 0 = none
	exact   bool // the record before suspect is the one
}

type failure struct {
	at    int // index in records
	fault *host.Fault
}

// run walks all records. An error means that the range was not done.
func (w *walk) run(ctx context.Context) error {
	w.size = chunkRecordsMax
	for lo := 0; lo < len(w.records); {
		if err := ctx.Err(); err != nil {
			return err
		}
		hi := w.chunk(lo)
		fault, err := w.try(ctx, lo, hi)
		switch {
		case err != nil:
			return err
		case fault == nil && w.suspect == 0:
			w.size = min(2*w.size, chunkRecordsMax)
		case fault != nil && hi-lo > 1:
			w.narrow(lo, hi, fault)
			continue
		case fault != nil:
			if err := w.retry(ctx, lo, fault); err != nil {
				return err
			}
		}
		if lo = hi; lo >= w.suspect {
			w.suspect = 0
		}
	}
	return nil
}

// chunk returns the end of the chunk that begins at lo: up to the record that is
// known to fail, half of those of which one is, or as much as fits.
func (w *walk) chunk(lo int) int {
	most := w.size
	if w.suspect > 0 && w.exact {
		most = w.suspect - lo - 1
	} else if w.suspect > 0 {
		most = (w.suspect - lo) / 2
	}
	bytes := 0
	for hi := lo; hi < len(w.records); hi++ {
		bytes += abi.RecordBytes(&w.records[hi])
		if hi > lo && (bytes > chunkBytesMax || hi-lo >= most) {
			return hi
		}
	}
	return len(w.records)
}

// narrow notes what the failure of a chunk of several records tells.
func (w *walk) narrow(lo, hi int, fault *host.Fault) {
	w.size = max(1, (hi-lo)/2)
	w.suspect, w.exact = hi, fault.Source >= 0
	if w.exact {
		w.suspect = lo + fault.Source + 1
	}
}

// retry gives a record that failed alone again, then notes it as failed.
func (w *walk) retry(ctx context.Context, at int, fault *host.Fault) error {
	for range w.retries {
		again, err := w.try(ctx, at, at+1)
		if err != nil || again == nil {
			return err
		}
		fault = again
	}
	w.failed = append(w.failed, failure{at, fault})
	return nil
}

// try runs the records [lo, hi) and takes what comes out; a fault means that
// nothing was taken.
func (w *walk) try(ctx context.Context, lo, hi int) (*host.Fault, error) {
	i, err := w.guests.get(ctx)
	if err != nil {
		return nil, err
	}
	// An instance is held over chunks, a worker is not: taken in this order, who
	// has a worker waits for nobody.
	select {
	case w.workers <- struct{}{}:
		defer func() { <-w.workers }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b := w.batch
	b.Records, b.Tails = w.records[lo:hi], w.tails[lo:hi]
	frame, cpu, fault := i.run(&b)
	w.cpu += cpu
	if fault == nil {
		l := w.limits
		l.Sources = hi - lo
		if w.entries, err = abi.DecodeOutput(w.entries[:0], frame, l); err != nil {
			fault = host.Garbage(err)
		}
	}
	if fault == nil {
		if fault = w.check(w.entries); fault == nil {
			return nil, w.take(w.entries, lo, hi)
		}
	}
	if fault.Dead {
		w.guests.drop(fault)
	}
	return fault, nil
}

// lease is a pool's guests: one instance is borrowed at the first need and kept
// until done.
type lease struct {
	script *script
	held   *instance
}

func (l *lease) get(ctx context.Context) (*instance, error) {
	if l.held != nil {
		return l.held, nil
	}
	i, err := l.script.borrow(ctx)
	l.held = i
	return i, err
}

func (l *lease) drop(fault *host.Fault) {
	l.held.drop(fault)
	l.held = nil
	l.script.giveBack(nil)
}

func (l *lease) done() {
	if l.held != nil {
		l.script.giveBack(l.held)
		l.held = nil
	}
}
