package segment

import (
	"errors"
	"fmt"
	"testing"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// receive copies a view's file to another file system in pieces of size bytes, and
// ends after most of them.
func receive(t *testing.T, v *View, p Place, keep bool, size, most int) {
	t.Helper()
	in, err := Receive(p, v.Meta, keep)
	check(t, err)
	for ; most > 0 && in.At() < v.Meta.Length; most-- {
		b, err := v.ReadRaw(nil, in.At(), size)
		check(t, err)
		check(t, in.Put(b))
	}
	check(t, in.Close())
}

// TestReceive copies segments byte for byte, from memory and file, in one go and
// after a break, with direct I/O and without; what arrives is the same segment.
func TestReceive(t *testing.T) {
	for i := range 8 {
		fs := disk.NewMemory()
		if i&1 == 1 {
			fs.RefuseDirect()
		}
		memory := block.NewChecked()
		s := New(Place{FS: fs, Dir: "/", IntervalBytes: 300, Memory: memory}, 100, 0)
		at := model.Offset(100)
		for n := range 400 {
			b := batchAt(t, at, 1+n%3, int64(at)*10)
			h := b.WithOffset(at, 3)
			s.Append(&h, b[record.HeaderSize:])
			at = b.NextOffset()
			if n == 200 && i&2 == 2 {
				flush(t, s)
				s.Shrink(0)
			}
		}
		v := s.PinFrom(s.Meta().End)
		there := disk.NewMemory()
		if i&4 == 4 {
			there.RefuseDirect()
		}
		p := Place{FS: there, Dir: "/", IntervalBytes: 300}
		receive(t, v, p, false, 2*disk.DirectAlign, 2)
		if err := Verify(p, v.Meta, nil); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a part of a segment: %v", err)
		}
		receive(t, v, p, true, 3*disk.DirectAlign, 100)
		check(t, Verify(p, v.Meta, nil))
		want, err := v.ReadRaw(nil, 0, 1<<30)
		check(t, err)
		got, err := disk.ReadFile(there, "/"+v.Meta.Name(), 1<<30)
		if err != nil || string(got) != string(want) || int64(len(got)) != v.Meta.Length {
			t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
		}
		if x, covered, err := readIndex(there, "/", &v.Meta); err != nil || covered != v.Meta.Length || len(x) == 0 {
			t.Fatalf("index of %d entries over %d: %v", len(x), covered, err)
		}
		copied, damage, err := OpenActive(p, v.Meta)
		if err != nil || damage != nil {
			t.Fatal(damage, err)
		}
		batches, err := readFrom(t, copied, 100, 1000)
		if err != nil || len(batches) != 400 {
			t.Fatalf("%d batches, %v", len(batches), err)
		}
		check(t, v.Release())
		check(t, s.Close())
		check(t, copied.Close())
		if memory.Used() != 0 {
			t.Fatalf("%d bytes of memory are held", memory.Used())
		}
	}
}

// TestVerify finds every changed byte, and a file that is another segment's.
func TestVerify(t *testing.T) {
	fs := disk.NewMemory()
	s, _ := fill(t, fs, 12, true)
	m := s.Meta()
	check(t, s.Close())
	p := Place{FS: fs, Dir: "/", IntervalBytes: 300}
	check(t, Verify(p, m, nil))
	name := "/" + m.Name()
	for at := range m.Length {
		check(t, fs.Corrupt(name, at, 1<<(at%8)))
		if err := Verify(p, m, nil); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d: %v", at, err)
		}
		check(t, fs.Corrupt(name, at, 1<<(at%8)))
	}
	for _, change := range []func(*Meta){
		func(m *Meta) { m.End++ }, func(m *Meta) { m.End-- }, func(m *Meta) { m.Length-- }, func(m *Meta) { m.MaxTime++ },
		func(m *Meta) { m.FirstTime++ }, func(m *Meta) { m.LastEpoch++ },
	} {
		other := m
		change(&other)
		if err := Verify(p, other, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%+v passes for %+v: %v", m, other, err)
		}
	}
}

// TestPutIsStrict refuses pieces that the file cannot be made of.
func TestPutIsStrict(t *testing.T) {
	m := NewMeta(0, 0)
	m.Length = 2*disk.DirectAlign + 1
	in, err := Receive(Place{FS: disk.NewMemory(), Dir: "/"}, m, true)
	check(t, err)
	for _, n := range []int{1, disk.DirectAlign + 1, 2*disk.DirectAlign + 2} {
		if in.Put(make([]byte, n)) == nil {
			t.Error(fmt.Sprint("a piece of ", n, " bytes is taken"))
		}
	}
	check(t, in.Put(make([]byte, m.Length)))
	check(t, in.Close())
}

// TestScrub looks at the file of a segment that grows, all of which is in memory, and
// finds every byte that is not what was written, and none that was not written yet.
func TestScrub(t *testing.T) {
	fs := disk.NewMemory()
	s := New(Place{FS: fs, Dir: "/", IntervalBytes: 300}, 100, 0)
	defer s.Close()
	at := model.Offset(100)
	grow := func() {
		for n := range 30 {
			b := batchAt(t, at, 1+n%3, int64(at)*10)
			h := b.WithOffset(at, 3)
			s.Append(&h, b[record.HeaderSize:])
			at = b.NextOffset()
		}
	}
	scrub := func() error {
		v := s.Pin()
		defer v.Release()
		return v.Scrub(nil)
	}
	grow()
	check(t, scrub()) // there is no file
	flush(t, s)
	written := s.Meta().Length
	grow()
	check(t, scrub())
	m := s.Meta()
	f, err := fs.OpenAppend("/" + m.Name())
	check(t, err)
	defer f.Close()
	for pos := int64(0); pos < written; pos += 7 {
		var b [1]byte
		_, err := f.ReadAt(b[:], pos)
		check(t, err)
		_, err = f.WriteAt([]byte{b[0] ^ 1}, pos)
		check(t, err)
		if err := scrub(); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d of %d: %v", pos, written, err)
		}
		_, err = f.WriteAt(b[:], pos)
		check(t, err)
	}
	check(t, scrub())
}
