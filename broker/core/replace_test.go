package core

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// during runs f on another goroutine and the loop here until it is over.
func (r *rig) during(f func() error) error {
	r.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	for {
		select {
		case e := <-r.c.in:
			r.c.Step(e)
		case err := <-done:
			return err
		}
	}
}

// staged puts what another node has of the rig's partition beside its directory: the
// values, applied from index 1 on.
func (r *rig) staged(values ...string) {
	r.t.Helper()
	o := r.h.Files()
	there := o
	there.Dir = filepath.Join("/elsewhere", o.ID.String())
	p, err := partition.Open(there)
	if err != nil {
		r.t.Fatal(err)
	}
	lead := partition.Command{Kind: partition.KindLead, Epoch: 1}
	entries := []partition.Entry{{Index: 1, Cmd: lead.Append(nil)}}
	for _, v := range values {
		cmd := plain(1, v)
		entries = append(entries, partition.Entry{Index: uint64(len(entries) + 1), Cmd: cmd.Append(nil)})
	}
	if _, err := p.Apply(entries); err != nil {
		r.t.Fatal(err)
	}
	x, err := p.Export()
	if err != nil {
		r.t.Fatal(err)
	}
	defer x.Release()
	s, err := partition.NewStage(o, x.Manifest())
	if err != nil {
		r.t.Fatal(err)
	}
	for i, m := range s.Segments() {
		in, err := s.Receive(i, false)
		if err != nil {
			r.t.Fatal(err)
		}
		b, err := x.ReadAt(nil, i, 0, int(m.Length))
		if err = errors.Join(err, in.Put(b), in.Close(), s.Verify(i, nil)); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := s.Finish(); err != nil {
		r.t.Fatal(err)
	}
}

// TestReplace puts other files under a live Handle: who waits is woken, who asks is
// told to ask elsewhere, and what raft and the configuration say meanwhile counts.
func TestReplace(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	r.lead(1)
	r.apply(plain(1, "a"))
	r.h.Lead(false, model.NoEpoch)
	r.drain()
	r.staged("a", "b", "c")
	w := NewWaiter(1 << 20)
	r.h.serving.Store(1) // as if it led, to have somebody wait
	r.read(2, false, w)
	r.h.serving.Store(int64(model.NoEpoch))
	r.c.flush(r.replica())
	flush := take(r.c.flushes)

	files := r.h.Files()
	err := r.during(func() error {
		// The flush under way ends first: its end is the loop's to hear of.
		go func() { r.c.in <- &jobDone{j: *flush, err: flush.run()} }()
		return r.h.Replace(func() error {
			if !ready(w) || !w.Woken() {
				t.Error("who waited was not woken")
			}
			if _, err := r.h.Installed(t.Context()); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a query meanwhile: %v", err)
			}
			reads := []Read{{Handle: r.h}}
			r.set.ReadAll(reads, nil)
			if !errors.Is(reads[0].Err, ErrNotLeader) {
				t.Errorf("a read meanwhile: %v", reads[0].Err)
			}
			r.h.Lead(true, 2)
			r.h.SetConfig(&config.Topic{SegmentBytes: 4321})
			return partition.Swap(files.FS, files.Dir)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.replica(); got.part.Applied() != 4 || got.snapshot != 4 || got.epoch != 2 || len(r.c.dirty) != 0 || r.c.unwritten != 0 {
		t.Fatalf("back with %d applied, snapshot %d, epoch %d, %d dirty", got.part.Applied(), got.snapshot, got.epoch, len(r.c.dirty))
	}
	if o := r.h.Files(); o.Config.SegmentBytesMax != 4321 {
		t.Errorf("configured with %d", o.Config.SegmentBytesMax)
	}
	var installed uint64
	if err := r.during(func() (err error) { installed, err = r.h.Installed(t.Context()); return err }); err != nil || installed != 4 {
		t.Fatalf("installed %d, %v", installed, err)
	}
	r.index = 2
	<-r.log.proposed
	r.apply(plain(1, "b"), plain(1, "c"), partition.Command{Kind: partition.KindLead, Epoch: 2}, plain(2, "d"))
	if r.serving() != 2 || r.replica().part.HighWatermark() != 4 {
		t.Fatalf("it serves under %d, the log ends at %d", r.serving(), r.replica().part.HighWatermark())
	}
}

// TestReplaceFails: what cannot be opened stops the node, and a loop that has ended
// takes nothing.
func TestReplaceFails(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	if err := r.during(func() error { return r.h.Replace(func() error { return errLost }) }); !errors.Is(err, errLost) || len(r.fatal) != 1 {
		t.Fatalf("%v, fatal %v", err, r.fatal)
	}
	if err := r.during(func() error { return r.set.Drop(r.h) }); err != nil {
		t.Fatalf("drop of what is away: %v", err)
	}
	if err := r.during(func() error { return r.h.Replace(func() error { return nil }) }); !errors.Is(err, ErrUnknownPartition) {
		t.Fatal(err)
	}
	close(r.c.done)
	if err := r.h.Replace(func() error { return nil }); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// TestNote: the options say what a replica is told, and without them nothing is.
func TestNote(t *testing.T) {
	r := newRig(t, config.Topic{}, nil)
	if _, err := r.h.Note(); err == nil {
		t.Error("a note without peers")
	}
	if err := r.h.Recover(nil, nil); err == nil {
		t.Error("a recovery without peers")
	}
	r.set.o.Note = func(h *Handle, applied uint64) []byte { return []byte{byte(h.Shard), byte(applied)} }
	r.set.o.Recover = func(_ *Handle, note []byte, stop <-chan struct{}) error {
		<-stop
		return errors.New(string(note))
	}
	r.lead(1)
	var note []byte
	if err := r.during(func() (err error) { note, err = r.h.Note(); return err }); err != nil || string(note) != string([]byte{byte(rigShard), 1}) {
		t.Fatalf("note %v, %v", note, err)
	}
	stop := make(chan struct{})
	time.AfterFunc(time.Millisecond, func() { close(stop) })
	if err := r.h.Recover([]byte("there"), stop); err == nil || err.Error() != "there" {
		t.Fatal(err)
	}
	if err := r.during(func() error {
		x, err := r.h.Export(t.Context())
		if err == nil {
			x.Release()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
