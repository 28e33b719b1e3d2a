package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

type rec struct {
	delta      int32
	time       int64
	key, value []byte
	headers    []HeaderField
}

func sample() []rec {
	return []rec{
		{0, 1000, []byte("k"), []byte("v"), nil},
		{1, 1005, nil, []byte{}, []HeaderField{{"h", nil}, {"h", []byte{}}, {"", []byte("x")}}},
		{5, 990, []byte{}, nil, nil},
		{6, 1003, []byte("key"), []byte(strings.Repeat("value ", 500)), []HeaderField{{"a", []byte("b")}}},
	}
}

func build(t testing.TB, s Spec, recs []rec) Batch {
	t.Helper()
	var b Builder
	b.Reset(s)
	for _, r := range recs {
		if err := b.AddAt(r.delta, r.time, r.key, r.value, r.headers); err != nil {
			t.Fatal(err)
		}
	}
	b.SetLastOffsetDelta(9)
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func walk(t testing.TB, b Batch) []rec {
	t.Helper()
	var r Reader
	if err := r.Reset(b, 1<<20); err != nil {
		t.Fatal(err)
	}
	var all []rec
	var one Record
	for r.Next(&one) {
		all = append(all, rec{one.OffsetDelta, one.Timestamp, bytes.Clone(one.Key), bytes.Clone(one.Value), slices.Collect(one.Headers())})
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

func show(recs []rec) string {
	var s strings.Builder
	for _, r := range recs {
		fmt.Fprintf(&s, "%d@%d %#v=%#v %#v\n", r.delta, r.time, r.key, r.value, r.headers)
	}
	return strings.ReplaceAll(s.String(), "[]record.HeaderField(nil)", "[]record.HeaderField{}")
}

func TestRoundTrip(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.String(), func(t *testing.T) {
			spec := Plain(c)
			spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence = 7, 2, 2147483640
			b := build(t, spec, sample())
			var r Reader
			if err := r.Validate(b, 1<<20); err != nil {
				t.Fatal(err)
			}
			if got, want := show(walk(t, b)), show(sample()); got != want {
				t.Fatalf("read\n%s\nwant\n%s", got, want)
			}
			if b.Count() != 4 || b.LastOffsetDelta() != 9 || b.MaxTimestamp() != 1005 || b.LastSequence() != 1 || b.Codec() != c {
				t.Fatalf("header: count %d, last %d, max %d, sequence %d", b.Count(), b.LastOffsetDelta(), b.MaxTimestamp(), b.LastSequence())
			}
			if err := r.Reset(b, 100); c != None && !errors.Is(err, ErrInflated) {
				t.Fatalf("beyond the limit: %v", err)
			}
		})
	}
}

// TestIndependentDecoder reads our batch with kmsg, and checks our view of one
// that kmsg wrote.
func TestIndependentDecoder(t *testing.T) {
	b := build(t, Plain(None), sample())
	var theirs kmsg.RecordBatch
	if err := theirs.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	if theirs.NumRecords != 4 || theirs.LastOffsetDelta != 9 || theirs.FirstTimestamp != 1000 || theirs.MaxTimestamp != 1005 || uint32(theirs.CRC) != b.CRC() || theirs.ProducerID != -1 {
		t.Fatalf("%+v", theirs)
	}
	raw := theirs.Records
	for _, want := range sample() {
		var r kmsg.Record
		if err := r.ReadFrom(raw); err != nil {
			t.Fatal(err)
		}
		if r.OffsetDelta != want.delta || !bytes.Equal(r.Key, want.key) || (r.Value == nil) != (want.value == nil) || len(r.Headers) != len(want.headers) {
			t.Fatalf("%+v, want %+v", r, want)
		}
		raw = raw[len(r.AppendTo(nil)):]
	}
	if again := theirs.AppendTo(nil); !bytes.Equal(again, b) {
		t.Fatalf("kmsg writes\n%x\nwe wrote\n%x", again, []byte(b))
	}
}

// TestGolden pins bytes: what was stored once must be read for ever.
func TestGolden(t *testing.T) {
	const golden = "000000000000002a" + "00000044" + "ffffffff" + "02" + "3b68e8c0" + "0000" + "00000001" +
		"000000000000000b" + "000000000000000c" + "ffffffffffffffff" + "ffff" + "ffffffff" + "00000002" +
		"0e" + "00" + "00" + "00" + "01" + "0261" + "00" +
		"14" + "00" + "02" + "02" + "00" + "0262" + "02" + "0268" + "00"
	spec := Plain(None)
	spec.BaseOffset = 42
	var b Builder
	b.Reset(spec)
	_ = b.Add(11, nil, []byte("a"), nil)
	_ = b.Add(12, []byte{}, []byte("b"), []HeaderField{{"h", []byte{}}})
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(batch); got != golden {
		t.Errorf("built\n%s\nwant\n%s", got, golden)
	}
}

func TestStamps(t *testing.T) {
	b := build(t, Plain(Zstd), sample())
	h := b.WithOffset(1234, 9)
	if h.Batch().BaseOffset() != 1234 || h.Batch().LeaderEpoch() != 9 || b.BaseOffset() != 0 {
		t.Fatal("the header copy is wrong, or not a copy")
	}
	copied := Batch(append(h[:], b.Records()...))
	if err := copied.Check(); err != nil {
		t.Fatalf("numbering broke the checksum: %v", err)
	}
	b.StampAppendTime(5555)
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	for _, r := range walk(t, b) {
		if r.time != 5555 {
			t.Fatalf("record time %d", r.time)
		}
	}
}

func TestMaxTimestampIsSetRight(t *testing.T) {
	b := build(t, Plain(Gzip), sample())
	b.SetMaxTimestamp(7)
	var r Reader
	if err := r.Validate(b, 1<<20); !errors.Is(err, ErrMaxTimestamp) || !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	b.SetMaxTimestamp(r.Latest())
	if err := r.Validate(b, 1<<20); err != nil {
		t.Fatal(err)
	}
}

func TestEmptyBatch(t *testing.T) {
	spec := SpecOf(build(t, Plain(Gzip), sample()))
	spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence = 3, 0, 5
	var b Builder
	b.Reset(spec)
	if _, _, err := b.Build(nil); !errors.Is(err, ErrMalformed) {
		t.Fatalf("an empty batch without offsets: %v", err)
	}
	b.SetLastOffsetDelta(4)
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	var r Reader
	if err := r.Validate(batch, 10); err != nil || batch.LastSequence() != 9 || len(batch) != HeaderSize {
		t.Fatalf("%v, sequence %d, %d bytes", err, batch.LastSequence(), len(batch))
	}
}

func TestMarker(t *testing.T) {
	raw, err := AppendMarker(nil, Marker{Type: ControlCommit, Producer: 8, ProducerEpoch: 1, Timestamp: 5})
	if err != nil {
		t.Fatal(err)
	}
	if kind, err := ParseMarker(raw); err != nil || kind != ControlCommit || !Batch(raw).Transactional() {
		t.Fatalf("%v, %v", kind, err)
	}
	if _, err := ParseMarker(build(t, Plain(None), sample())); !errors.Is(err, ErrMalformed) {
		t.Fatalf("a marker was read from data: %v", err)
	}
}

// TestEveryFlippedBit sees that no flipped bit of a batch passes Check, but for the
// fields that lie outside the checksum.
func TestEveryFlippedBit(t *testing.T) {
	good := build(t, Plain(Snappy), sample())
	for i := range good {
		if i < 8 || i >= 12 && i < 16 {
			continue // base offset and epoch: the segment's own checksum covers them
		}
		for bit := range 8 {
			b := Batch(bytes.Clone(good))
			b[i] ^= 1 << bit
			if b.Check() == nil {
				t.Fatalf("byte %d bit %d", i, bit)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	good := build(t, Plain(None), sample())
	edit := func(f func(b Batch)) Batch {
		b := Batch(bytes.Clone(good))
		f(b)
		b.seal()
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":              {nil, ErrShort},
		"a piece":              {good[:40], ErrShort},
		"magic 1":              {edit(func(b Batch) { b[16] = 1 }), ErrMagic},
		"magic 0":              {edit(func(b Batch) { b[16] = 0 }), ErrMagic},
		"length too small":     {edit(func(b Batch) { copy(b[8:], []byte{0, 0, 0, 3}) }), ErrMalformed},
		"negative length":      {edit(func(b Batch) { b[8] = 0xff }), ErrMalformed},
		"huge count":           {edit(func(b Batch) { b[57] = 0x7f }), ErrMalformed},
		"negative count":       {edit(func(b Batch) { b[57] = 0xff }), ErrMalformed},
		"last delta too small": {edit(func(b Batch) { copy(b[23:], []byte{0, 0, 0, 2}) }), ErrMalformed},
		"delta beyond last":    {edit(func(b Batch) { copy(b[23:], []byte{0, 0, 0, 4}) }), ErrMalformed},
		"fewer records":        {edit(func(b Batch) { b[60] = 3 }), ErrMalformed},
		"more records":         {edit(func(b Batch) { b[60] = 5 }), ErrMalformed},
		"codec 5":              {edit(func(b Batch) { b[22] = 5 }), ErrCodec},
		"not gzip":             {edit(func(b Batch) { b[22] = byte(Gzip) }), ErrMalformed},
		"not snappy":           {edit(func(b Batch) { b[22] = byte(Snappy) }), ErrMalformed},
		"not lz4":              {edit(func(b Batch) { b[22] = byte(LZ4) }), ErrMalformed},
		"not zstd":             {edit(func(b Batch) { b[22] = byte(Zstd) }), ErrMalformed},
		"max timestamp":        {edit(func(b Batch) { b[42]++ }), ErrMaxTimestamp},
		"producer -2":          {edit(func(b Batch) { b[50] = 0xfe }), ErrMalformed},
		"no producer epoch":    {edit(func(b Batch) { copy(b[43:], make([]byte, 8)) }), ErrMalformed},
		"checksum":             {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), ErrCRC},
	} {
		b, _, err := Next(c.b)
		if err == nil {
			var r Reader
			err = r.Validate(b, 1<<20)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestSnappyFramings(t *testing.T) {
	src := bytes.Repeat([]byte("millrace "), 20_000)
	framed, _ := Compress(nil, Snappy, LevelDefault, src)
	if !bytes.HasPrefix(framed, xerialMagic) {
		t.Fatal("not xerial's framing")
	}
	raw := []byte{0x0b, 0x28, 'h', 'e', 'l', 'l', 'o', ' ', 'w', 'o', 'r', 'l', 'd'} // written by hand from the format
	for _, in := range [][2][]byte{{framed, src}, {raw, []byte("hello world")}} {
		out, err := Decompress(nil, Snappy, in[0], 1<<20)
		if err != nil || !bytes.Equal(out, in[1]) {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
	}
	if _, err := Decompress(nil, Snappy, []byte{0xff, 0xff, 0xff, 0x7f, 0}, 1<<30); err == nil {
		t.Fatal("a block of one byte announced 256 MiB and got them")
	}
}

func TestTailRefusals(t *testing.T) {
	for _, s := range []string{"", "01", "0101", "010102", "01010202", "0101020100", "0201", "01010000", "010101"} {
		b, _ := hex.DecodeString(s)
		var r Record
		if err := ParseRecordTail(b, &r); !errors.Is(err, ErrMalformed) {
			t.Errorf("tail %s: %v", s, err)
		}
	}
}

func TestBuilderRefusesDisorder(t *testing.T) {
	var b Builder
	b.Reset(Plain(None))
	_ = b.AddAt(3, 0, nil, nil, nil)
	if err := b.AddAt(3, 0, nil, nil, nil); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	b.SetLastOffsetDelta(2)
	if _, _, err := b.Build(nil); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
}

func TestLevels(t *testing.T) {
	src := bytes.Repeat([]byte("abcdefgh"), 1000)
	for _, c := range codecs {
		for _, level := range []int{1, 9, 12, 22} {
			if c == Gzip && level > 9 {
				continue
			}
			b, err := Compress(nil, c, level, src)
			if err != nil {
				t.Fatalf("%s %d: %v", c, level, err)
			}
			if out, err := Decompress(nil, c, b, 1<<20); err != nil || !bytes.Equal(out, src) {
				t.Fatalf("%s %d: %v", c, level, err)
			}
		}
	}
}

// FuzzBatch gives arbitrary bytes to everything that reads batches: no panic, no
// allocation beyond the limit, and what validates is read the same twice.
func FuzzBatch(f *testing.F) {
	for _, c := range codecs {
		f.Add([]byte(build(f, Plain(c), sample())))
	}
	marker, _ := AppendMarker(nil, Marker{Producer: 1})
	f.Add(marker)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, _, err := Next(raw)
		if err != nil {
			return
		}
		b = bytes.Clone(b)
		b.seal() // so that the records are reached
		var r Reader
		if r.Validate(b, 1<<20) != nil {
			return
		}
		_, _ = ParseMarker(b)
		var again Builder
		again.Reset(SpecOf(b))
		recs := walk(t, b)
		for _, x := range recs {
			if err := again.AddAt(x.delta, x.time, x.key, x.value, x.headers); err != nil {
				t.Fatal(err)
			}
		}
		again.SetLastOffsetDelta(b.LastOffsetDelta())
		_, built, err := again.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := show(walk(t, built)), show(recs); got != want {
			t.Fatalf("rebuilt\n%s\nwant\n%s", got, want)
		}
	})
}

func FuzzRecordTail(f *testing.F) {
	f.Add(AppendRecordTail(nil, []byte("k"), nil, []HeaderField{{"h", []byte("v")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		if ParseRecordTail(b, &r) != nil {
			return
		}
		again := AppendRecordTail(nil, r.Key, r.Value, slices.Collect(r.Headers()))
		var back Record
		if err := ParseRecordTail(again, &back); err != nil || !bytes.Equal(back.Key, r.Key) || back.HeaderCount != r.HeaderCount {
			t.Fatalf("%v", err)
		}
	})
}

func benchBatch(b *testing.B, c Codec) Batch {
	var bb Builder
	bb.Reset(Plain(c))
	value := bytes.Repeat([]byte("0123456789abcdef"), 64)
	for i := range 100 {
		_ = bb.Add(int64(i), []byte("key"), value, nil)
	}
	_, batch, err := bb.Build(nil)
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

func BenchmarkCheck(b *testing.B) {
	batch := benchBatch(b, None)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		if err := batch.Check(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWalk(b *testing.B) {
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			batch := benchBatch(b, c)
			b.ReportAllocs()
			var r Reader
			var one Record
			for b.Loop() {
				if err := r.Reset(batch, 1<<20); err != nil {
					b.Fatal(err)
				}
				for r.Next(&one) {
				}
			}
		})
	}
}
