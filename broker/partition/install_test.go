package partition

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
)

// stage takes an export into the place beside o.Dir, in pieces of size bytes. own is
// what the partition there has itself, or nil.
func stage(o Options, x, own *Export, size int) error {
	s, err := NewStage(o, x.Manifest())
	if err != nil {
		return err
	}
	for i := range s.Segments() {
		if own != nil {
			adopted, err := s.Adopt(own, i)
			if err != nil {
				return err
			}
			if adopted {
				continue
			}
		}
		if err := receive(s, x, i, size); err != nil {
			return err
		}
	}
	for i := range s.Segments() {
		err := s.Verify(i, nil)
		if errors.Is(err, ErrCorrupt) { // a crash tore what is kept
			if err = errors.Join(s.Drop(i), receive(s, x, i, size)); err == nil {
				err = s.Verify(i, nil)
			}
		}
		if err != nil {
			return err
		}
	}
	return s.Finish()
}

func receive(s *Stage, x *Export, i, size int) error {
	in, err := s.Receive(i, true)
	if err != nil {
		return err
	}
	for length := s.Segments()[i].Length; err == nil && in.At() < length; {
		var b []byte
		if b, err = x.ReadAt(nil, i, in.At(), size); err == nil {
			err = in.Put(b)
		}
	}
	return errors.Join(err, in.Close())
}

// state is what Apply has decided, whatever the segments' files.
func (w *world) state() []byte {
	q := *w.p
	q.installed, q.cleaned = 0, 0
	if w.config.Compact {
		return q.encodeWith(nil, 0)
	}
	return q.encodeCheckpoint(0)
}

// follower is another replica of w's partition that has applied a part of its log.
func (w *world) follower(t *testing.T, applied int) *world {
	t.Helper()
	f := *w
	f.fs, f.flush, f.compact = disk.NewCrashing(), nil, nil
	if w.r.IntN(2) == 0 {
		f.fs.RefuseDirect()
	}
	f.log = w.log[:applied]
	if err := f.open(); err != nil {
		t.Fatal(err)
	}
	if err := f.catchUp(); err != nil {
		t.Fatal(err)
	}
	return &f
}

func (w *world) flushAll(t *testing.T) {
	t.Helper()
	j := w.p.FlushStart()
	if j == nil {
		return
	}
	err := j.Run()
	if w.p.FlushDone(j, err); err != nil {
		t.Fatal(err)
	}
}

func (w *world) options() Options {
	return Options{FS: w.fs, Dir: testDir, ID: testID, Config: w.config, Memory: w.memory, Past: block.NewCache(w.memory, w.pastMax)}
}

func (w *world) steps(t *testing.T, n int) {
	t.Helper()
	for range n {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInstall takes partitions of random histories to another node while they go
// on. What came there is the same, and stays so with the entries that follow, some of
// which it has already.
func TestInstall(t *testing.T) {
	adopted := false
	for seed := range uint64(40) {
		w := newWorld(t, seed, smallConfig(seed%4 > 1))
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.steps(t, 60)
		applied := len(w.log)
		w.steps(t, 60)
		x, err := w.p.Export()
		if err != nil {
			t.Fatal(err)
		}
		w.steps(t, 100) // the export stays as it was

		f := w.follower(t, applied*int(seed%3)/2)
		f.flushAll(t)
		own, err := f.p.Export()
		if err != nil {
			t.Fatal(err)
		}
		adopted = adopted || len(own.durable) > 0
		if err := stage(f.options(), x, own, disk.DirectAlign*(1+w.r.IntN(3))); err != nil {
			t.Fatal(err)
		}
		own.Release()
		f.p.Retire()
		if err := Swap(f.fs, testDir); err != nil {
			t.Fatal(err)
		}
		if err := f.open(); err != nil {
			t.Fatal(err)
		}
		if f.p.Applied() != x.Applied() || f.p.Installed() != x.Applied() {
			t.Fatalf("it stands at %d, installed %d, want %d", f.p.Applied(), f.p.Installed(), x.Applied())
		}
		x.Release()
		f.log = w.log
		f.again(t)
		f.check()
		if got, want := f.state(), w.state(); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: states differ:\n%x\n%x", seed, got, want)
		}
		f.reopen()
		f.check()
		f.close()
		w.close()
	}
	if !adopted {
		t.Error("no follower had segments of its own")
	}
}

// again applies entries that the files have already, as raft does, and those behind.
func (w *world) again(t *testing.T) {
	t.Helper()
	before, from := w.state(), w.r.IntN(int(w.p.Installed())+1)
	outcomes, err := w.p.Apply(w.log[from:w.p.Installed()])
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Token != 0 || o.Lead || o.Batches != nil || o.LogEnd != w.p.HighWatermark() {
			t.Fatalf("an entry that was passed over came to %+v", o)
		}
	}
	if !bytes.Equal(w.state(), before) {
		t.Fatal("an entry that the files have has changed something")
	}
	if err := w.catchUp(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.p.Apply([]Entry{{Index: w.p.Applied()}}); w.p.Applied() > w.p.Installed() && !errors.Is(err, ErrCommand) {
		t.Fatalf("an entry of its own again: %v", err)
	}
	w.p.failed = nil
}

// TestInstallCrash cuts the power at every change that staging and swapping make. What
// is found then is the old partition or the new one, and the next try ends well.
func TestInstallCrash(t *testing.T) {
	for seed := range uint64(4) {
		w := newWorld(t, seed, smallConfig(seed > 1))
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.steps(t, 50)
		applied := len(w.log)
		w.steps(t, 60)
		x, err := w.p.Export()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		for point := 1; installCrash(t, w, x, applied*int(seed%2), point, found); point++ {
		}
		if found["old"] < 10 || found["new"] < 2 {
			t.Errorf("after a crash there were %v", found)
		}
	}
}

// installCrash stops at a point of an install; false when it is over before.
func installCrash(t *testing.T, w *world, x *Export, applied, point int, found map[string]int) bool {
	t.Helper()
	f := w.follower(t, applied)
	f.flushAll(t)
	f.p.Retire()
	old := uint64(applied)
	f.fs.StopAt(point)
	install := func() error {
		if err := stage(f.options(), x, nil, disk.DirectAlign); err != nil {
			return err
		}
		return Swap(f.fs, testDir)
	}
	err := install()
	if err == nil {
		return false
	}
	if !errors.Is(err, disk.ErrPowerCut) {
		t.Fatalf("point %d: %v", point, err)
	}
	crashed := f.fs
	for luck := range uint64(4) {
		f.fs = crashed.Crash(uint64(point)*31 + luck)
		if err := f.open(); err != nil {
			t.Fatalf("point %d: %v", point, err)
		}
		switch f.p.Applied() {
		case x.Applied():
			found["new"]++
		case old:
			found["old"]++
			f.p.Retire()
			if err := install(); err != nil {
				t.Fatalf("point %d: again: %v", point, err)
			}
			if err := f.open(); err != nil {
				t.Fatalf("point %d: again: %v", point, err)
			}
		default:
			t.Fatalf("point %d: it stands at %d, not %d or %d", point, f.p.Applied(), old, x.Applied())
		}
		f.log = w.log
		if err := f.catchUp(); err != nil {
			t.Fatal(err)
		}
		f.check()
		f.p.Abandon()
		for _, dir := range []string{stagedDir(testDir), oldDir(testDir)} {
			if left, err := f.fs.List(dir); err == nil && len(left) > 0 {
				t.Fatalf("point %d: %v are left in %s", point, left, dir)
			}
		}
	}
	return true
}

// TestStage refuses what is no manifest, keeps what is wanted and finds damage.
func TestStage(t *testing.T) {
	w := newWorld(t, 2, smallConfig(false))
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.steps(t, 80)
	x, err := w.p.Export()
	if err != nil {
		t.Fatal(err)
	}
	fs := disk.NewMemory()
	o := Options{FS: fs, Dir: testDir, ID: testID, Config: w.config}
	if _, err := NewStage(o, x.Manifest()[1:]); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	other := o
	other.ID.Index++
	if _, err := NewStage(other, x.Manifest()); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	s, err := NewStage(o, x.Manifest())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := receive(s, x, i, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(stagedDir(testDir), s.Segments()[1].Name())
	if err := errors.Join(fs.Corrupt(name, 100, 1), s.Verify(0, nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(1, nil); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if err := errors.Join(s.Drop(1), s.Drop(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Create(filepath.Join(stagedDir(testDir), "00000000000000009999.log")); err != nil {
		t.Fatal(err)
	}
	if _, err := NewStage(o, x.Manifest()); err != nil {
		t.Fatal(err)
	}
	m := s.Segments()[0]
	if left, err := fs.List(stagedDir(testDir)); err != nil || !slices.Equal(left, []string{m.IndexName(), m.Name()}) {
		t.Fatalf("%v are left, %v", left, err)
	}
	if _, err := x.ReadAt(nil, x.Segments(), 0, 1); err == nil {
		t.Error("a segment that is not there is read")
	}
	if err := Unstage(fs, testDir); err != nil || len(fs.Files(filepath.Dir(testDir))) > 0 {
		t.Fatal(fs.Files(filepath.Dir(testDir)), err)
	}
}

// TestRetired: who still holds segments of files that were replaced neither opens nor
// removes those that have their names now.
func TestRetired(t *testing.T) {
	w := newWorld(t, 0, smallConfig(false))
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	for w.p.SegmentCount() < 4 {
		w.steps(t, 10)
	}
	x, err := w.p.Export()
	if err != nil {
		t.Fatal(err)
	}
	f := w.follower(t, len(w.log))
	f.flushAll(t)
	held, err := f.p.Export()
	if err != nil {
		t.Fatal(err)
	}
	was, err := held.ReadAt(nil, 0, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	// What is trimmed is doomed while an export holds it.
	entry := Command{Kind: KindTrim, Epoch: f.epoch(), LogStart: f.p.HighWatermark()}
	if _, err := f.p.Apply([]Entry{{Index: f.p.Applied() + 1, Cmd: entry.Append(nil)}}); err != nil {
		t.Fatal(err)
	}
	f.flushAll(t)
	if err := stage(f.options(), x, nil, 1<<20); err != nil {
		t.Fatal(err)
	}
	f.p.Retire()
	if err := Swap(f.fs, testDir); err != nil {
		t.Fatal(err)
	}
	for i := range held.Segments() {
		b, err := held.ReadAt(nil, i, 0, 1<<20)
		if !errors.Is(err, ErrReplaced) && (err != nil || i == 0 && !bytes.Equal(b, was)) {
			t.Errorf("read of what was replaced: %d bytes, %v", len(b), err)
		}
	}
	held.Release()
	if err := f.open(); err != nil {
		t.Fatal(err)
	}
	f.check()
}
