package abi

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRange(t *testing.T) {
	memory := []byte("0123456789")
	for _, c := range []struct {
		r    Range
		want string
		err  error
	}{
		{RangeOf(2, 3), "234", nil},
		{RangeOf(0, 10), "0123456789", nil},
		{RangeOf(10, 0), "", nil},
		{RangeOf(0, 0), "", nil},
		{RangeOf(1, 10), "", ErrBounds},
		{RangeOf(11, 0), "", ErrBounds},
		{RangeOf(0xFFFFFFF0, 0xFFFFFFF0), "", ErrBounds},
		{RangeFailed, "", ErrBounds},
	} {
		got, err := c.r.Slice(memory)
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%#x: got %q, %v; want %q, %v", uint64(c.r), got, err, c.want, c.err)
		}
	}
}

// TestSeed pins the derivation: a change would give every deployed script other random numbers.
func TestSeed(t *testing.T) {
	var digest [32]byte
	var topic [16]byte
	digest[0], topic[15] = 1, 2
	first := Seed(digest, topic, 3)
	if want := uint64(0x7c3c3d1d86b935aa); first != want {
		t.Errorf("got %#x, want %#x", first, want)
	}
	if Seed(digest, topic, 4) == first {
		t.Error("two partitions have one seed")
	}
}

func TestInputWriterRefuses(t *testing.T) {
	var w InputWriter
	w.Begin([]byte("kept"), BatchHeader{})
	if err := w.Append(&Record{Offset: 5}); err != nil {
		t.Fatal(err)
	}
	before := w.Size()
	for name, r := range map[string]*Record{
		"same offset": {Offset: 5}, "lower offset": {Offset: 4},
		"headers": {Offset: 6, Headers: make([]Header, HeadersMax+1)},
		"bytes":   {Offset: 6, Value: make([]byte, FrameBytesMax)},
	} {
		if err := w.Append(r); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: got %v, want ErrRecord", name, err)
		}
	}
	if w.Size() != before || w.Count() != 1 {
		t.Errorf("a refused record changed the frame: %d bytes, %d records", w.Size(), w.Count())
	}
	frame := w.Finish()
	if !bytes.HasPrefix(frame, []byte("kept")) {
		t.Error("the caller's bytes are gone")
	}
	if _, records, err := DecodeInput(frame[4:]); err != nil || len(records) != 1 {
		t.Errorf("got %d records, %v", len(records), err)
	}
}

func TestFailureTextIsCut(t *testing.T) {
	f := DecodeFailure(AppendFailure(nil, 0, strings.Repeat("é", ErrorTextBytesMax)), 1)
	if len(f.Text) != ErrorTextBytesMax || !strings.HasSuffix(f.Text, "é") {
		t.Errorf("cut to %d bytes", len(f.Text))
	}
}

func TestWritersDoNotAllocate(t *testing.T) {
	record := Record{Offset: 1, Key: []byte("key"), Value: []byte("value"), Headers: []Header{{Key: []byte("h")}}}
	entries := []OutputRecord{{Pass: true, Partition: -1}, {Partition: -1, Key: []byte("k"), Headers: record.Headers}}
	output := AppendOutput(nil, entries)
	buf, decoded := make([]byte, 0, 1024), make([]Entry, 0, 4)
	var w InputWriter
	allocs := testing.AllocsPerRun(100, func() {
		w.Begin(buf, BatchHeader{})
		if err := w.Append(&record); err != nil {
			panic(err)
		}
		w.Finish()
		var err error
		if decoded, err = DecodeOutput(decoded[:0], output, Limits{Sources: 1, Outputs: 1}); err != nil || len(decoded) != 2 {
			panic(fmt.Sprint(len(decoded), err))
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a batch", allocs)
	}
}

// FuzzDecodeOutput: whatever a guest answers, decoding does not panic, and what it accepts encodes to the same entries.
func FuzzDecodeOutput(f *testing.F) {
	for _, v := range freshOutputs() {
		f.Add(unhexFuzz(f, v.Frame), 3, 2)
	}
	f.Fuzz(func(t *testing.T, frame []byte, sources, outputs int) {
		limits := Limits{Sources: sources & 0xFFFF, Outputs: outputs & 0xFF}
		entries, err := DecodeOutput(nil, frame, limits)
		if err != nil {
			if entries != nil {
				t.Fatal("entries beside an error")
			}
			return
		}
		records := make([]OutputRecord, len(entries))
		for i := range entries {
			e := &entries[i]
			if int(e.Source) >= limits.Sources || int(e.Output) >= limits.Outputs {
				t.Fatalf("accepted %+v", e)
			}
			records[i] = OutputRecord{e.Source, e.Output, e.Pass, e.Partition, e.Key, e.Value, e.Headers(nil)}
			if !e.Pass && len(records[i].Headers) != e.HeaderCount() {
				t.Fatal("headers do not match their count")
			}
		}
		_ = CheckSync(entries, func(int) []byte { return nil })
		again, err := DecodeOutput(nil, AppendOutput(nil, records), limits)
		if err != nil || len(again) != len(entries) {
			t.Fatalf("encoded again: %d entries, want %d: %v", len(again), len(entries), err)
		}
		for i := range again {
			if !bytes.Equal(again[i].Key, entries[i].Key) || !bytes.Equal(again[i].Value, entries[i].Value) {
				t.Fatalf("entry %d changed", i)
			}
		}
	})
}

// FuzzDecodeInput: the checks that guests copy hold on any bytes.
func FuzzDecodeInput(f *testing.F) {
	for _, v := range freshInputs() {
		f.Add(unhexFuzz(f, v.Frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		_, records, err := DecodeInput(frame)
		if err == nil && len(records)*recordFixedBytes > len(frame) {
			t.Fatal("more records than bytes")
		}
		DecodeFailure(frame, 5)
	})
}

func unhexFuzz(f *testing.F, s string) []byte {
	f.Helper()
	b := make([]byte, len(s)/2)
	if _, err := fmt.Sscanf(s, "%x", &b); err != nil && s != "" {
		f.Fatal(err)
	}
	return b
}
