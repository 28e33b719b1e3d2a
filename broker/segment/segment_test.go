package segment

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func batchAt(t testing.TB, base model.Offset, n int, ms int64) record.Batch {
	t.Helper()
	var b record.Builder
	spec := record.Plain(record.None)
	spec.BaseOffset, spec.LeaderEpoch = base, 3
	b.Reset(spec)
	for i := range n {
		check(t, b.Add(ms+int64(i), []byte("key"), fmt.Appendf(nil, "value %d", int(base)+i), nil))
	}
	_, batch, err := b.Build(nil)
	check(t, err)
	return batch
}

// fill makes a segment of n batches from base 100 on, of 1 to 3 records each, and
// gives the batches. The time grows by 10 with each offset.
func fill(t testing.TB, fs disk.FS, n int, sealed bool) (*Segment, []record.Batch) {
	t.Helper()
	s := New(Place{FS: fs, Dir: "/", IntervalBytes: 300}, 100, 0)
	var batches []record.Batch
	at := model.Offset(100)
	for i := range n {
		b := batchAt(t, at, 1+i%3, int64(at)*10)
		h := b.WithOffset(at, 3)
		s.Append(&h, b[record.HeaderSize:])
		batches = append(batches, b)
		at = b.NextOffset()
		if i%4 == 0 {
			flush(t, s)
		}
	}
	if sealed {
		s.Seal()
	}
	flush(t, s)
	s.Shrink(0)
	return s, batches
}

// flush makes what was appended survive.
func flush(t testing.TB, s *Segment) {
	t.Helper()
	v := s.Pin()
	check(t, v.Flush())
	check(t, s.Flushed(v))
	check(t, v.Release())
}

// readFrom reads in pieces of bytesMax and checks each batch against want.
func readFrom(t testing.TB, s *Segment, from model.Offset, bytesMax int) ([]record.Batch, error) {
	t.Helper()
	v := s.Pin()
	defer v.Release()
	var all []record.Batch
	for from < v.Meta.End {
		b, next, _, err := v.Read(nil, Ask{From: from, Limit: model.OffsetMax, BytesMax: bytesMax, MinOne: true})
		if err != nil {
			return all, err
		}
		if len(b) == 0 {
			t.Fatalf("nothing at %d of %+v", from, v.Meta)
		}
		for len(b) > 0 {
			one, rest, err := record.Next(b)
			check(t, err)
			all = append(all, one)
			b = rest
		}
		from = next
	}
	return all, nil
}

func TestReadFromEveryOffset(t *testing.T) {
	for i := range 4 {
		fs := disk.NewMemory()
		if i/2 == 1 {
			fs.RefuseDirect()
		}
		s, batches := fill(t, fs, 40, i%2 == 1)
		for from := s.Meta().Base; from < s.Meta().End; from++ {
			for _, bytesMax := range []int{0, 100, 1000, 1 << 20} {
				got, err := readFrom(t, s, from, bytesMax)
				check(t, err)
				i := len(batches) - len(got)
				if i < 0 || batches[i].LastOffset() < from || batches[i].BaseOffset() > from {
					t.Fatalf("read from %d begins at batch %d", from, i)
				}
				for k := range got {
					if !bytes.Equal(got[k], batches[i+k]) {
						t.Fatalf("read from %d: batch %d differs", from, i+k)
					}
				}
			}
		}
	}
}

func TestReadKeepsItsLimits(t *testing.T) {
	s, batches := fill(t, disk.NewMemory(), 10, true)
	v := s.Pin()
	defer v.Release()
	size := len(batches[0]) + len(batches[1])
	for _, c := range []struct {
		ask  Ask
		want int
		full bool
	}{
		{Ask{From: 100, Limit: model.OffsetMax, BytesMax: size}, 2, true},
		{Ask{From: 100, Limit: model.OffsetMax, BytesMax: size - 1}, 1, true},
		{Ask{From: 100, Limit: model.OffsetMax, BytesMax: 10}, 0, true},
		{Ask{From: 100, Limit: model.OffsetMax, BytesMax: 10, MinOne: true}, 1, true},
		{Ask{From: 100, Limit: batches[3].BaseOffset(), BytesMax: 1 << 20}, 3, true},
		{Ask{From: batches[9].BaseOffset(), Limit: model.OffsetMax, BytesMax: 1 << 20}, 1, false},
	} {
		out, _, full, err := v.Read([]byte("prefix"), c.ask)
		check(t, err)
		if !bytes.HasPrefix(out, []byte("prefix")) {
			t.Fatal("what was in dst is gone")
		}
		n := 0
		for b := out[6:]; len(b) > 0; n++ {
			var err error
			_, b, err = record.Next(b)
			check(t, err)
		}
		if n != c.want || full != c.full {
			t.Errorf("%+v: %d batches, full %v; want %d, %v", c.ask, n, full, c.want, c.full)
		}
	}
}

// What is left of an answer is below zero once a batch larger than all of it was
// given: a read of nothing ends at once.
func TestReadOfNothing(t *testing.T) {
	s, _ := fill(t, disk.NewMemory(), 10, true)
	v := s.Pin()
	defer v.Release()
	for _, bytesMax := range []int{0, -1, -1 << 20} {
		b, next, full, err := v.Read(nil, Ask{From: 100, Limit: model.OffsetMax, BytesMax: bytesMax})
		if len(b) != 0 || next != 100 || !full || err != nil {
			t.Errorf("read of %d bytes: %d bytes, next %d, full %v, %v", bytesMax, len(b), next, full, err)
		}
		b, next, full, err = v.Read(nil, Ask{From: 100, Limit: model.OffsetMax, BytesMax: bytesMax, MinOne: true})
		if len(b) == 0 || next != 101 || !full || err != nil {
			t.Errorf("read of one batch: %d bytes, next %d, full %v, %v", len(b), next, full, err)
		}
	}
}

func TestFindTime(t *testing.T) {
	s, _ := fill(t, disk.NewMemory(), 40, true)
	v := s.Pin()
	defer v.Release()
	for o := s.Meta().Base; o < s.Meta().End; o++ {
		b, _, _, err := v.Read(nil, Ask{From: o, Limit: model.OffsetMax, MinOne: true})
		check(t, err)
		ms := record.Batch(b).BaseTimestamp() + int64(o-record.Batch(b).BaseOffset())
		got, ok, err := v.FindTime(ms, 0, 1<<20)
		check(t, err)
		if !ok || got.Offset != o || got.Timestamp != ms || got.Epoch != 3 {
			t.Fatalf("time %d: %+v %v, want offset %d", ms, got, ok, o)
		}
	}
	if _, ok, err := v.FindTime(s.Meta().MaxTime+1, 0, 1<<20); ok || err != nil {
		t.Fatalf("the future was found: %v", err)
	}
	if got, ok, _ := v.FindTime(0, 107, 1<<20); !ok || got.Offset != 107 {
		t.Fatalf("from 107: %+v", got)
	}
}

// reopen opens the segment from its files.
func reopen(t testing.TB, fs disk.FS, m Meta, active bool) (*Segment, *Damage) {
	t.Helper()
	p := Place{FS: fs, Dir: "/", IntervalBytes: 300}
	if !active {
		return OpenSealed(p, m)
	}
	s, d, err := OpenActive(p, m)
	check(t, err)
	return s, d
}

// TestEveryDamagedByte changes each byte of a segment file in turn: every batch
// that is served is right, the one that was hit is refused by name.
func TestEveryDamagedByte(t *testing.T) {
	fs := disk.NewMemory()
	s, batches := fill(t, fs, 12, true)
	name := "/" + s.meta.Name()
	for at := range s.Meta().Length {
		check(t, fs.Corrupt(name, at, 0x10))
		for _, active := range []bool{false, true} {
			damaged, found := reopen(t, fs, s.Meta(), active)
			if active && found == nil {
				t.Fatalf("byte %d: an active segment was opened as sound", at)
			}
			refused := false
			for i, want := range batches {
				v := damaged.Pin()
				b, _, _, err := v.Read(nil, Ask{From: want.BaseOffset(), Limit: want.NextOffset(), MinOne: true})
				check(t, v.Release())
				var c *CorruptError
				switch {
				case err == nil && !bytes.Equal(b, want):
					t.Fatalf("byte %d: batch %d is served changed", at, i)
				case err == nil:
				case errors.As(err, &c) && c.File == s.meta.Name() && c.First <= want.LastOffset() && c.Last >= want.BaseOffset():
					refused = true
				default:
					t.Fatalf("byte %d, batch %d: %v", at, i, err)
				}
			}
			if !refused {
				t.Fatalf("byte %d: damage went unnoticed", at)
			}
			check(t, damaged.Close())
		}
		check(t, fs.Corrupt(name, at, 0x10))
	}
}

func TestDamagedIndexIsRebuilt(t *testing.T) {
	fs := disk.NewMemory()
	s, batches := fill(t, fs, 30, true)
	v := s.Pin()
	check(t, v.SaveIndex())
	check(t, v.Release())
	name := "/" + s.meta.IndexName()
	info, err := fs.Stat(name)
	check(t, err)
	for at := int64(0); at <= info.Size; at++ {
		if at < info.Size {
			check(t, fs.Corrupt(name, at, 0x41))
		} else {
			check(t, fs.Remove(name))
		}
		for _, active := range []bool{false, true} {
			again, damage := reopen(t, fs, s.Meta(), active)
			got, err := readFrom(t, again, 117, 500)
			check(t, err)
			if damage != nil || len(got) == 0 || got[len(got)-1].LastOffset() != batches[29].LastOffset() {
				t.Fatalf("index byte %d: %v", at, damage)
			}
			check(t, again.Close())
		}
		if at < info.Size {
			check(t, fs.Corrupt(name, at, 0x41))
		}
	}
}

func TestShortAndMissingFile(t *testing.T) {
	fs := disk.NewMemory()
	s, batches := fill(t, fs, 12, true)
	f, err := fs.OpenAppend("/" + s.meta.Name())
	check(t, err)
	check(t, f.Truncate(s.Meta().Length-5))
	check(t, f.Close())
	short, damage := reopen(t, fs, s.Meta(), true)
	if damage == nil || damage.Last != batches[11].LastOffset() || damage.First > damage.Last {
		t.Fatalf("damage %+v", damage)
	}
	if got, err := readFrom(t, short, 100, 1<<20); !errors.Is(err, ErrCorrupt) || len(got) != 11 {
		t.Fatalf("%d batches, %v", len(got), err)
	}
	check(t, fs.Remove("/"+s.meta.Name()))
	if _, damage := reopen(t, fs, s.Meta(), false); damage == nil {
		t.Fatal("a missing file went unnoticed")
	}
}

func TestNewerVersionIsNamed(t *testing.T) {
	m := NewMeta(5, 0)
	h := m.appendHeader(nil)
	h[8] = 9
	b := m.appendHeader(nil)
	copy(b, h[:28])
	sum := crcOf(b[:28])
	copy(b[28:], sum)
	if err := m.checkHeader(b); !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
}

// TestDoomedFileStaysWhileRead removes a segment that a view still reads.
func TestDoomedFileStaysWhileRead(t *testing.T) {
	fs := disk.NewMemory()
	s, _ := fill(t, fs, 5, true)
	v := s.Pin()
	check(t, s.Doom())
	if _, _, _, err := v.Read(nil, Ask{From: 100, Limit: model.OffsetMax, MinOne: true}); err != nil {
		t.Fatal(err)
	}
	check(t, v.Release())
	check(t, v.Release())
	if files := fs.Files("/"); len(files) != 0 {
		t.Fatalf("files %v are left", files)
	}
}

// FuzzRecover opens arbitrary bytes as an active segment and reads it: no panic,
// nothing served that fails its checksums.
func FuzzRecover(f *testing.F) {
	fs := disk.NewMemory()
	s, _ := fill(f, fs, 4, true)
	good, err := disk.ReadFile(fs, "/"+s.meta.Name(), 1<<20)
	check(f, err)
	f.Add(good, uint16(0), byte(0), int64(s.meta.End))
	f.Add(good[:len(good)-9], uint16(40), byte(3), int64(s.meta.End))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, mask byte, end int64) {
		if len(b) < HeaderSize || end <= 100 || end > 1<<40 {
			return
		}
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= mask
		}
		fs := disk.NewMemory()
		file, err := fs.Create("/" + s.meta.Name())
		check(t, err)
		_, err = file.Write(b)
		check(t, err)
		m := s.meta
		m.Length, m.End = int64(len(b)), model.Offset(end)
		for _, active := range []bool{false, true} {
			p := Place{FS: fs, Dir: "/", IntervalBytes: 100}
			opened, _ := OpenSealed(p, m)
			if active {
				if opened, _, err = OpenActive(p, m); err != nil && !errors.Is(err, ErrFormat) {
					t.Fatal(err)
				}
				if err != nil {
					continue
				}
			}
			v := opened.Pin()
			out, _, _, err := v.Read(nil, Ask{From: 100, Limit: model.OffsetMax, BytesMax: 1 << 20, MinOne: true})
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			for len(out) > 0 {
				one, rest, err := record.Next(out)
				check(t, err)
				if one.Checksum() != one.CRC() {
					t.Fatal("a batch with a wrong checksum was served")
				}
				out = rest
			}
			_, _, _ = v.FindTime(0, 0, 1<<16)
			check(t, v.Release())
		}
	})
}

func crcOf(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(b, castagnoli))
}

// TestStoredFormat pins the bytes of a segment and its index: what was stored once
// must be read for ever.
func TestStoredFormat(t *testing.T) {
	fs := disk.NewMemory()
	s, _ := fill(t, fs, 6, true)
	v := s.Pin()
	defer v.Release()
	check(t, v.SaveIndex())
	for name, want := range map[string]string{
		"/" + s.meta.Name():      "650 bytes fcaee43c3da2c517a4a26bba81069778be9fdb2da9f52e47781c3667184eb7a0",
		"/" + s.meta.IndexName(): "64 bytes 1b56dda2e61b921f8ee19bf795744dd82f3686e780bffa7c1dc022389f16e77c",
	} {
		b, err := disk.ReadFile(fs, name, 1<<20)
		check(t, err)
		if got := fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b)); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
}
