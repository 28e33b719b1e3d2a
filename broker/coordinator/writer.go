package coordinator

import (
	"errors"
	"time"

	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/record"
)

const (
	// batchBytesMax is where a batch of several groups' writes is cut: one that is
	// refused for its size then holds a single write.
	batchBytesMax = 256 << 10
	// flightsMax and flightBytesMax bound the writes that wait for the log.
	flightsMax     = 64
	flightBytesMax = 16 << 20
)

// writer gathers the records of a turn into batches and starts them. It is owned
// by its loop.
type writer struct {
	builder record.Builder
	writes  []pendingWrite // in builder
	ready   []built        // cut, not started
	flights []flight       // started, in order
	bytes   int            // of flights
}

// pendingWrite is a group's Write, to be answered.
type pendingWrite struct {
	hosted *hosted
	seq    uint64
}

type built struct {
	batch  []byte
	writes []pendingWrite
	err    error
}

type flight struct {
	appending Appending
	writes    []pendingWrite
	bytes     int
}

func (w *writer) reset() {
	w.writes, w.ready, w.flights, w.bytes = nil, nil, nil, 0
}

// add takes a group's write into the current batch.
func (w *writer) add(l *loop, h *hosted, x group.Write) {
	encoded := make([][2][]byte, len(x.Records))
	size := 0
	for i, r := range x.Records {
		key, value := encode(h.group.ID(), r)
		encoded[i] = [2][]byte{key, value}
		size += len(key) + len(value)
	}
	if len(w.writes) > 0 && w.builder.Bytes()+size > batchBytesMax {
		w.cut()
	}
	if len(w.writes) == 0 {
		w.builder.Reset(record.Plain(record.None))
	}
	w.writes = append(w.writes, pendingWrite{h, x.Seq})
	for _, kv := range encoded {
		if err := w.builder.Add(l.now.UnixMilli(), kv[0], kv[1], nil); err != nil {
			w.ready = append(w.ready, built{writes: w.writes, err: errors.Join(ErrRecordTooLarge, err)})
			w.writes = nil
			return
		}
	}
}

func (w *writer) cut() {
	batch, _, err := w.builder.Build(nil)
	if err != nil {
		err = errors.Join(ErrRecordTooLarge, err)
	}
	w.ready = append(w.ready, built{batch: batch, writes: w.writes, err: err})
	w.writes = nil
}

// flush starts what was gathered.
func (w *writer) flush(l *loop) {
	if len(w.writes) > 0 {
		w.cut()
	}
	for _, b := range w.ready {
		var a Appending = failed{b.err}
		if b.err == nil {
			a = l.service.o.Log.Append(l.id, b.batch, l.timeout())
		}
		w.flights = append(w.flights, flight{a, b.writes, len(b.batch)})
		w.bytes += len(b.batch)
	}
	w.ready = nil
}

// failed is a write that was never started.
type failed struct{ err error }

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (f failed) Done() <-chan struct{} { return closed }
func (f failed) Err() error            { return f.err }

func (l *loop) timeout() time.Duration {
	return l.service.o.Cluster.Metadata().Cluster.OffsetsCommitTime
}

func (w *writer) full() bool { return len(w.flights) >= flightsMax || w.bytes >= flightBytesMax }

// head is ready when the oldest write has an outcome; nil, for ever, without any.
func (w *writer) head() <-chan struct{} {
	if len(w.flights) == 0 {
		return nil
	}
	return w.flights[0].appending.Done()
}

// land tells the groups the outcome of the oldest write. False: it is unknown.
func (w *writer) land(l *loop) bool {
	f := w.flights[0]
	err := f.appending.Err()
	if err != nil && !refused(err) {
		l.log.Warn("a write to the group log has no known outcome, reading the log anew", "err", err)
		return false
	}
	w.flights[0] = flight{}
	w.flights = w.flights[1:]
	w.bytes -= f.bytes
	for _, p := range f.writes {
		l.step(p.hosted, group.Written{Seq: p.seq, Err: err})
	}
	return true
}

// refused says that nothing was written.
func refused(err error) bool {
	return errors.Is(err, ErrNotCoordinator) || errors.Is(err, ErrRecordTooLarge) || errors.Is(err, ErrUnavailable)
}
