package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

func openOn(t testing.TB, fs disk.FS, c Config) *Partition {
	t.Helper()
	p, err := Open(Options{FS: fs, Dir: testDir, ID: testID, Config: c})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func apply(t testing.TB, p *Partition, c Command) Outcome {
	t.Helper()
	o, err := p.Apply([]Entry{{Index: p.Applied() + 1, Cmd: c.Append(nil)}})
	if err != nil {
		t.Fatal(err)
	}
	return o[0]
}

func plainBatch(t testing.TB, n, bytesEach int) []byte {
	t.Helper()
	var b record.Builder
	b.Reset(record.Plain(record.None))
	for i := range n {
		if err := b.Add(int64(i), []byte("key"), bytes.Repeat([]byte("x"), bytesEach), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// TestFailedDiskStops sees that no disk error is swallowed, and that a partition
// that met one takes nothing more.
func TestFailedDiskStops(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault disk.Fault
	}{
		{"segment sync", disk.Fault{Op: disk.OpSync, Path: ".log", Err: unix.EIO}},
		{"checkpoint sync", disk.Fault{Op: disk.OpSync, Path: "checkpoint", Err: unix.EIO}},
		{"checkpoint write", disk.Fault{Op: disk.OpWrite, Path: "checkpoint.1", Err: unix.ENOSPC, Partial: 9}},
		{"checkpoint rename", disk.Fault{Op: disk.OpRename, Path: "checkpoint.0", Err: unix.EIO}},
		{"directory sync", disk.Fault{Op: disk.OpSyncDir, Err: unix.EIO}},
		{"segment write", disk.Fault{Op: disk.OpWrite, Path: ".log", Err: unix.ENOSPC, Partial: 50}},
		{"segment create", disk.Fault{Op: disk.OpCreate, Path: ".log", Err: unix.EMFILE}},
	} {
		if c.fault.Op != disk.OpSync || c.fault.Path != ".log" { // there every write is synced
			stopsAt(t, c.name+", direct", c.fault, disk.NewMemory())
		}
		buffered := disk.NewMemory()
		buffered.RefuseDirect()
		stopsAt(t, c.name+", buffered", c.fault, buffered)
	}
}

func stopsAt(t *testing.T, name string, fault disk.Fault, memory *disk.Memory) {
	t.Run(name, func(t *testing.T) {
		fs := disk.NewFaulty(memory)
		p := openOn(t, fs, Config{})
		apply(t, p, Command{Kind: KindLead, Epoch: 1})
		fs.Inject(fault)
		log := []Entry{{Index: 2, Cmd: (&Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 3, 100)}}).Append(nil)}}
		_, err := p.Apply(log)
		if err == nil {
			j := p.FlushStart()
			err = j.Run()
			p.FlushDone(j, err)
		}
		if !errors.Is(err, fault.Err) {
			t.Fatalf("got %v", err)
		}
		fs.Heal()
		if _, err := p.Apply([]Entry{{Index: 3}}); err == nil {
			t.Fatal("it goes on after a failed disk")
		}
		if p.FlushStart() != nil || p.CheckpointIndex() != 0 {
			t.Fatal("it flushes after a failed disk")
		}
		p.Abandon()
		again := openOn(t, memory, Config{})
		if again.Applied() == 0 {
			apply(t, again, Command{Kind: KindLead, Epoch: 1})
		}
		if again.Applied() == 1 {
			if _, err := again.Apply(log); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := readAll(t, again, 0, 1000, false); err != nil || len(got) != 3 {
			t.Fatalf("%d records, %v", len(got), err)
		}
	})
}

// TestApplyWritesNothing: entries are in memory until a flush, which writes what
// several Applies left in one write; a partition that keeps no recent batches serves
// them all the same.
func TestApplyWritesNothing(t *testing.T) {
	fs := disk.NewFaulty(disk.NewMemory())
	p := openOn(t, fs, Config{CacheBytesMax: -1})
	apply(t, p, Command{Kind: KindLead, Epoch: 1})
	// Two writes fail from now on, none is let through.
	fs.Inject(disk.Fault{Op: disk.OpWrite, Path: ".log", Err: unix.EIO})
	fs.Inject(disk.Fault{Op: disk.OpCreate, Path: ".log", Err: unix.EIO})
	for range 5 {
		apply(t, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 2, 50), plainBatch(t, 1, 50)}})
	}
	if got, err := readAll(t, p, 0, 100, false); err != nil || len(got) != 15 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if p.Unwritten() == 0 || p.Unwritten() != p.Bytes() || p.Dirty() != p.Bytes() {
		t.Fatalf("%d bytes are not written, %d not synced, of %d", p.Unwritten(), p.Dirty(), p.Bytes())
	}
	fs.Heal()
	fs.Inject(disk.Fault{Op: disk.OpWrite, Path: ".log", Err: unix.EIO, Skip: 1})
	j := p.FlushStart()
	if err := j.Run(); err != nil {
		t.Fatalf("more than one write: %v", err)
	}
	p.FlushDone(j, nil)
	if p.Unwritten() != 0 || p.Dirty() != 0 || p.CacheBytes() != 0 {
		t.Fatalf("%d bytes are not written, %d not synced, %d are kept", p.Unwritten(), p.Dirty(), p.CacheBytes())
	}
	fs.Heal()
	if got, err := readAll(t, p, 0, 100, false); err != nil || len(got) != 15 {
		t.Fatalf("from the file: %d records, %v", len(got), err)
	}
}

// TestKeptInMemory: what is written is read without the disk until CacheShrink frees
// it, and its size is told.
func TestKeptInMemory(t *testing.T) {
	fs := disk.NewFaulty(disk.NewMemory())
	p := openOn(t, fs, Config{CacheBytesMax: 1, SegmentBytesMax: 20_000})
	apply(t, p, Command{Kind: KindLead, Epoch: 1})
	for range 60 {
		apply(t, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 1, 1000)}})
	}
	j := p.FlushStart()
	err := j.Run()
	if p.FlushDone(j, err); err != nil {
		t.Fatal(err)
	}
	fs.Inject(disk.Fault{Op: disk.OpRead, Path: ".log", Err: unix.EIO})
	if got, err := readAll(t, p, 0, 5000, false); err != nil || len(got) != 60 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if p.CacheBytes() < 60_000 {
		t.Fatalf("%d bytes are kept, 60 kB were written", p.CacheBytes())
	}
	p.CacheShrink(30_000)
	if got, err := readAll(t, p, 40, 5000, false); err != nil || len(got) != 20 {
		t.Fatalf("the newest third: %d records, %v", len(got), err)
	}
	p.CacheShrink(1 << 30)
	if p.CacheBytes() != 0 {
		t.Fatalf("%d bytes are kept", p.CacheBytes())
	}
	if _, err := readAll(t, p, 0, 5000, false); !errors.Is(err, unix.EIO) {
		t.Fatalf("%v, want the disk's error", err)
	}
}

// TestIndexIsOnlyAHint sees that a disk that refuses index files harms nothing.
func TestIndexIsOnlyAHint(t *testing.T) {
	fs := disk.NewFaulty(disk.NewMemory())
	fs.Inject(disk.Fault{Op: disk.OpCreate, Path: ".index", Err: unix.ENOSPC})
	p := openOn(t, fs, Config{SegmentBytesMax: 1000, CacheBytesMax: -1})
	apply(t, p, Command{Kind: KindLead, Epoch: 1})
	for range 20 {
		apply(t, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 2, 100)}})
	}
	j := p.FlushStart()
	if err := j.Run(); err != nil {
		t.Fatal(err)
	}
	p.FlushDone(j, nil)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = openOn(t, fs, Config{SegmentBytesMax: 1000, CacheBytesMax: -1})
	if got, err := readAll(t, p, 0, 1000, false); err != nil || len(got) != 40 {
		t.Fatalf("%d records, %v", len(got), err)
	}
}

// TestEveryDamagedCheckpointByte: one damaged copy is survived, two are refused by
// name, and another partition's or version's checkpoint is not taken.
func TestEveryDamagedCheckpointByte(t *testing.T) {
	w := newWorld(t, 5, smallConfig(false))
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
	}
	w.reopen()
	if err := w.p.Close(); err != nil {
		t.Fatal(err)
	}
	name := checkpointName(testDir, 0)
	info, err := w.fs.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := disk.ReadFile(w.fs, name, info.Size)
	if err != nil {
		t.Fatal(err)
	}
	for at := range int64(binary.LittleEndian.Uint32(b[12:])) { // padding follows
		damaged := w.fs.Crash(0)
		if err := damaged.Corrupt(name, at, 4); err != nil {
			t.Fatal(err)
		}
		p := openOn(t, damaged, w.config)
		if p.Applied() != uint64(len(w.log)) || p.HighWatermark() != w.oracle.logEnd {
			t.Fatalf("byte %d: applied %d", at, p.Applied())
		}
		p.Abandon()
		if err := damaged.Corrupt(checkpointName(testDir, 1), at, 4); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{FS: damaged, Dir: testDir, ID: testID}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d of both: %v", at, err)
		}
	}
	other := testID
	other.Index++
	if _, err := Open(Options{FS: w.fs.Crash(0), Dir: testDir, ID: other}); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("another partition's directory: %v", err)
	}
	lost := w.fs.Crash(0)
	for i := range checkpointCopies {
		if err := lost.Remove(checkpointName(testDir, i)); err != nil {
			t.Fatal(err)
		}
	}
	names := len(lost.Files(testDir))
	p, err := Open(Options{FS: lost, Dir: testDir, ID: testID})
	if err != nil || p.Applied() != 0 || len(lost.Files(testDir)) != names {
		t.Fatalf("segments without checkpoint: %v; want a new partition, and what is there left alone until raft agrees", err)
	}
}

// TestReadersBesideTheLoop loads answers on other goroutines while the loop
// appends, flushes, trims and compacts. Run it with -race.
func TestReadersBesideTheLoop(t *testing.T) {
	w := newWorld(t, 11, smallConfig(true))
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make(chan error, 1)
	for i := range 1500 {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
		from := w.p.LogStart() + model.Offset(w.r.IntN(int(w.p.HighWatermark()-w.p.LogStart()+1)))
		a, err := w.p.Read(ReadAsk{From: from, BytesMax: 3000, MinOne: true})
		if err != nil {
			t.Fatal(err)
		}
		f := w.p.FindTime(w.clock - int64(w.r.IntN(1000)))
		wg.Go(func() {
			if _, err := a.Load(nil); err != nil {
				select {
				case errs <- fmt.Errorf("read from %d: %w", from, err):
				default:
				}
			}
			if _, _, _, _, err := f.Run(); err != nil {
				select {
				case errs <- err:
				default:
				}
			}
		})
		if i%50 == 0 {
			runtime.Gosched()
		}
	}
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	w.check()
}

func FuzzDecode(f *testing.F) {
	for _, c := range sampleCommands() {
		f.Add(c.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(c.Append(nil))
		if err != nil || fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", c) {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
		p := openOn(t, disk.NewMemory(), Config{})
		apply(t, p, Command{Kind: KindLead, Epoch: max(c.Epoch, 0)})
		_, _ = p.Apply([]Entry{{Index: 2, Cmd: b}})
	})
}

func sampleCommands() []Command {
	return []Command{
		{Kind: KindLead, Epoch: 3},
		{Kind: KindProduce, Epoch: 3, Token: 1 << 60, Batches: [][]byte{{1, 2}, {}}},
		{Kind: KindSource, Source: Source{Key: key(1), Activation: 9, Seen: 10, From: 5, To: 8, Gap: 1, Verdicts: []model.Offset{6, 7}}, Batches: [][]byte{{1}}},
		{Kind: KindActivate, Activate: Activate{Key: key(2), Activation: 4, Offset: 77, Keep: true, Remove: true, Announce: true}},
		{Kind: KindTrim, LogStart: model.OffsetMax},
		{Kind: KindHorizon, Horizon: 12},
		{Kind: KindExpire, Expired: []Expired{{5, 6}, {7, 8}}},
		{Kind: KindMarker, Batches: [][]byte{{9}}},
	}
}

func TestCommandRoundTrip(t *testing.T) {
	for _, c := range sampleCommands() {
		b := c.Append(nil)
		got, err := Decode(b)
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c) {
			t.Fatalf("%+v became %+v, %v", c, got, err)
		}
		for i := range b {
			if _, err := Decode(b[:i]); err == nil {
				t.Fatalf("%s: %d of %d bytes were taken", c.Kind, i, len(b))
			}
		}
	}
	if _, err := Decode([]byte{commandVersion + 1, 1}); !errors.Is(err, ErrFormat) {
		t.Fatalf("a newer version: %v", err)
	}
}

func FuzzCheckpoint(f *testing.F) {
	p := openOn(f, disk.NewMemory(), Config{})
	apply(f, p, Command{Kind: KindLead, Epoch: 1})
	apply(f, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(f, 2, 5)}})
	f.Add(p.encodeCheckpoint(3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 16 {
			return
		}
		sealed := castagnoliSeal(b)
		q := &Partition{o: Options{ID: testID}}
		if list, err := q.decodeCheckpoint(sealed); err == nil {
			_ = checkList(list, q.logStart, q.logEnd)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	for _, c := range []struct{ records, bytes int }{{1, 100}, {100, 1000}} {
		b.Run(fmt.Sprintf("%dx%d", c.records, c.bytes), func(b *testing.B) {
			p, err := Open(Options{FS: disk.OS{}, Dir: b.TempDir() + "/p", ID: testID, Config: Config{Delete: true}})
			if err != nil {
				b.Fatal(err)
			}
			cmd := (&Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(b, c.records, c.bytes)}}).Append(nil)
			if _, err := p.Apply([]Entry{{1, (&Command{Kind: KindLead, Epoch: 1}).Append(nil)}}); err != nil {
				b.Fatal(err)
			}
			entries := make([]Entry, 1)
			b.SetBytes(int64(len(cmd)))
			b.ReportAllocs()
			for i := uint64(2); b.Loop(); i++ {
				entries[0] = Entry{i, cmd}
				if _, err := p.Apply(entries); err != nil {
					b.Fatal(err)
				}
				if p.Bytes() > 4<<30 { // keep the disk small
					b.StopTimer()
					p.trim(p.logEnd)
					b.StartTimer()
				}
			}
			p.Abandon()
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, cache := range []int64{-1, 64 << 20} {
		b.Run(fmt.Sprintf("cache=%v", cache > 0), func(b *testing.B) {
			p, err := Open(Options{FS: disk.OS{}, Dir: b.TempDir() + "/p", ID: testID, Config: Config{CacheBytesMax: cache}})
			if err != nil {
				b.Fatal(err)
			}
			apply(b, p, Command{Kind: KindLead, Epoch: 1})
			for range 40 {
				apply(b, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(b, 100, 1000)}})
			}
			dst := make([]byte, 0, 2<<20)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				a, err := p.Read(ReadAsk{From: 1000, BytesMax: 1 << 20})
				if err != nil {
					b.Fatal(err)
				}
				if dst, err = a.Load(dst[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestIdleMemory bounds what a partition costs that nobody uses.
func TestIdleMemory(t *testing.T) {
	const n = 200
	const bytesMax = 16 << 10
	fs := disk.NewMemory()
	parts := make([]*Partition, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range parts {
		p, err := Open(Options{FS: fs, Dir: fmt.Sprintf("/p%d", i), ID: testID})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, p, Command{Kind: KindLead, Epoch: 1})
		apply(t, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 1, 100)}})
		parts[i] = p
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := int64(after.HeapAlloc-before.HeapAlloc) / n; each > bytesMax {
		t.Fatalf("%d bytes per idle partition, the aim is %d", each, bytesMax)
	} else {
		t.Logf("%d bytes per idle partition, files in memory included", each)
	}
	runtime.KeepAlive(parts)
}

// castagnoliSeal puts the right checksum behind b.
func castagnoliSeal(b []byte) []byte {
	b = append([]byte(nil), b[:len(b)-4]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}
