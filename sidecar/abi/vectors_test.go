package abi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

// The vectors are golden: -rewrite writes them anew from the cases below, after a deliberate change of docs/ABI.md. 64-bit
// numbers are decimal strings, bytes are hex, null is null, so that JavaScript reads them without loss.
var rewrite = flag.Bool("rewrite", false, "write testdata/vectors anew")

type vectorHeader struct {
	Key   string  `json:"key"`
	Value *string `json:"value"`
}

type vectorRecord struct {
	Offset    string         `json:"offset"`
	Timestamp string         `json:"timestamp"`
	Key       *string        `json:"key"`
	Value     *string        `json:"value"`
	Headers   []vectorHeader `json:"headers"`
}

type inputVector struct {
	Name       string         `json:"name"`
	Frame      string         `json:"frame"`
	Error      string         `json:"error,omitempty"`
	Topic      uint16         `json:"topic"`
	Partition  int32          `json:"partition"`
	BaseOffset string         `json:"base_offset"`
	Seed       string         `json:"seed"`
	Records    []vectorRecord `json:"records,omitempty"`
}

type vectorEntry struct {
	Source    uint32         `json:"source"`
	Output    uint16         `json:"output"`
	Pass      bool           `json:"pass"`
	Partition int32          `json:"partition"`
	Key       *string        `json:"key"`
	Value     *string        `json:"value"`
	Headers   []vectorHeader `json:"headers"`
}

type outputVector struct {
	Name       string        `json:"name"`
	Sources    int           `json:"sources"`
	Outputs    int           `json:"outputs"`
	BytesMax   int           `json:"bytes_max,omitempty"`
	EntriesMax int           `json:"entries_max,omitempty"`
	Frame      string        `json:"frame"`
	Error      string        `json:"error,omitempty"`
	Sync       bool          `json:"sync,omitempty"`      // CheckSync runs too
	SyncKeys   []*string     `json:"sync_keys,omitempty"` // the sources' keys
	Entries    []vectorEntry `json:"entries,omitempty"`
}

type failureVector struct {
	Name    string `json:"name"`
	Frame   string `json:"frame"`
	Sources int    `json:"sources"`
	Source  int    `json:"source"`
	Text    string `json:"text"`
}

type randomVector struct {
	Seed   string    `json:"seed"`
	Offset string    `json:"offset"`
	Next   []string  `json:"next"`
	Floats []float64 `json:"floats"`
}

var sentinels = map[string]error{
	"ErrFrameBytes": ErrFrameBytes, "ErrTruncated": ErrTruncated, "ErrMagic": ErrMagic, "ErrVersion": ErrVersion,
	"ErrReserved": ErrReserved, "ErrFrameSize": ErrFrameSize, "ErrEntryCount": ErrEntryCount, "ErrTrailing": ErrTrailing,
	"ErrEntrySize": ErrEntrySize, "ErrSource": ErrSource, "ErrOrder": ErrOrder, "ErrOutput": ErrOutput, "ErrFlags": ErrFlags,
	"ErrPartition": ErrPartition, "ErrLength": ErrLength, "ErrHeaderCount": ErrHeaderCount, "ErrPadding": ErrPadding,
	"ErrSyncFanOut": ErrSyncFanOut, "ErrSyncOutput": ErrSyncOutput, "ErrSyncPartition": ErrSyncPartition, "ErrSyncKey": ErrSyncKey,
}

func hexOf(b []byte) *string {
	if b == nil {
		return nil
	}
	s := hex.EncodeToString(b)
	return &s
}

func hexHeaders(headers []Header) []vectorHeader {
	list := make([]vectorHeader, 0, len(headers))
	for _, h := range headers {
		list = append(list, vectorHeader{Key: hex.EncodeToString(h.Key), Value: hexOf(h.Value)})
	}
	return list
}

func load[V any](t *testing.T, name string, fresh func() []V) []V {
	t.Helper()
	path := filepath.Join("testdata", "vectors", name)
	if *rewrite {
		text, err := json.MarshalIndent(fresh(), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []V
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatalf("%s holds no vectors", name)
	}
	return vectors
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func inputFrame(h BatchHeader, records ...Record) []byte {
	var w InputWriter
	w.Begin(nil, h)
	for i := range records {
		if err := w.Append(&records[i]); err != nil {
			panic(err)
		}
	}
	return w.Finish()
}

// patch returns a copy of frame with the bytes at that place replaced.
func patch(frame []byte, at int, with ...byte) []byte {
	frame = bytes.Clone(frame)
	copy(frame[at:], with)
	return frame
}

func freshInputs() []inputVector {
	good := func(name string, h BatchHeader, records ...Record) inputVector {
		v := inputVector{
			Name: name, Frame: hex.EncodeToString(inputFrame(h, records...)), Topic: h.Topic, Partition: h.Partition,
			BaseOffset: strconv.FormatInt(h.BaseOffset, 10), Seed: strconv.FormatUint(h.Seed, 10),
		}
		for _, r := range records {
			v.Records = append(v.Records, vectorRecord{
				Offset: strconv.FormatInt(r.Offset, 10), Timestamp: strconv.FormatInt(r.Timestamp, 10),
				Key: hexOf(r.Key), Value: hexOf(r.Value), Headers: hexHeaders(r.Headers),
			})
		}
		return v
	}
	h := BatchHeader{Topic: 1, Partition: 7, BaseOffset: 41, Seed: 0xFEDCBA9876543210}
	headers := []Header{{Key: []byte("trace"), Value: []byte{0, 255, 16}}, {Key: []byte("none")}, {Key: []byte{}, Value: []byte{}}}
	plain := Record{Offset: 41, Timestamp: 1700000000000, Key: []byte("k"), Value: []byte("value")}
	vectors := []inputVector{
		good("one record", h, plain),
		good("null key and null value", h, Record{Offset: 41, Timestamp: -1}),
		good("empty key and empty value", h, Record{Offset: 41, Timestamp: 0, Key: []byte{}, Value: []byte{}}),
		good("headers, with null and empty", h, Record{Offset: 41, Timestamp: 5, Key: []byte("key"), Value: []byte("12345678"), Headers: headers}),
		good("no padding needed", h, Record{Offset: 41, Timestamp: 5, Key: []byte("12345678"), Value: []byte("12345678")}),
		good("three records with a hole in the offsets", h, plain,
			Record{Offset: 45, Timestamp: 1700000000001, Value: []byte("héllo → wörld")},
			Record{Offset: 46, Timestamp: 1699999999999, Key: []byte{0xFF, 0xFE}, Headers: headers[:1]}),
		good("large numbers", BatchHeader{Topic: 65535, Partition: math.MaxInt32, BaseOffset: 1 << 60, Seed: math.MaxUint64},
			Record{Offset: 1 << 60, Timestamp: 1 << 52, Value: []byte("x")}),
	}
	frame := inputFrame(h, plain)
	bad := func(name, err string, frame []byte) {
		vectors = append(vectors, inputVector{Name: name, Error: err, Frame: hex.EncodeToString(frame), BaseOffset: "0", Seed: "0"})
	}
	bad("shorter than its header", "ErrTruncated", frame[:39])
	bad("another magic", "ErrMagic", patch(frame, 0, 'X'))
	bad("another version", "ErrVersion", patch(frame, 4, 2))
	bad("reserved field set", "ErrReserved", patch(frame, 36, 1))
	bad("size beyond the frame", "ErrFrameSize", patch(frame, 32, 255))
	bad("more records than room", "ErrEntryCount", patch(frame, 12, 255, 255, 255, 255))
	bad("fewer records than bytes", "ErrTrailing", patch(frame, 12, 0))
	bad("record size beyond the frame", "ErrEntrySize", patch(frame, 40, 48))
	bad("record size not a multiple of 8", "ErrEntrySize", patch(frame, 40, 39))
	bad("record size 0", "ErrEntrySize", patch(frame, 40, 0))
	bad("key length -2", "ErrLength", patch(frame, 64, 0xFE, 255, 255, 255))
	bad("value length beyond the record", "ErrLength", patch(frame, 68, 9))
	bad("header count beyond the record", "ErrHeaderCount", patch(frame, 44, 1))
	return vectors
}

func TestInputVectors(t *testing.T) {
	for _, v := range load(t, "input.json", freshInputs) {
		t.Run(v.Name, func(t *testing.T) {
			h, records, err := DecodeInput(unhex(t, v.Frame))
			if v.Error != "" {
				if !errors.Is(err, sentinels[v.Error]) || sentinels[v.Error] == nil {
					t.Fatalf("got %v, want %s", err, v.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := inputVector{Name: v.Name, Frame: v.Frame, Topic: h.Topic, Partition: h.Partition,
				BaseOffset: strconv.FormatInt(h.BaseOffset, 10), Seed: strconv.FormatUint(h.Seed, 10)}
			for _, r := range records {
				got.Records = append(got.Records, vectorRecord{strconv.FormatInt(r.Offset, 10),
					strconv.FormatInt(r.Timestamp, 10), hexOf(r.Key), hexOf(r.Value), hexHeaders(r.Headers)})
			}
			if !reflect.DeepEqual(got, v) {
				t.Errorf("got  %+v\nwant %+v", got, v)
			}
			if again := inputFrame(h, records...); hex.EncodeToString(again) != v.Frame {
				t.Errorf("encoded again %x\nwant %s", again, v.Frame)
			}
		})
	}
}

func freshOutputs() []outputVector {
	a := OutputRecord{Source: 0, Output: 0, Pass: true, Partition: -1}
	b := OutputRecord{Source: 1, Output: 1, Partition: 3, Key: []byte("k"), Value: []byte("value")}
	full := OutputRecord{Source: 2, Output: 0, Partition: -1, Value: []byte("12345678"), Key: []byte{},
		Headers: []Header{{Key: []byte("a"), Value: []byte("b")}, {Key: []byte("none")}, {Key: []byte{}, Value: []byte{}}}}
	null := OutputRecord{Source: 2, Output: 1, Partition: -1}
	good := func(name string, entries ...OutputRecord) outputVector {
		v := outputVector{Name: name, Sources: 3, Outputs: 2, Frame: hex.EncodeToString(AppendOutput(nil, entries))}
		for _, e := range entries {
			v.Entries = append(v.Entries, vectorEntry{e.Source, e.Output, e.Pass, e.Partition, hexOf(e.Key), hexOf(e.Value), hexHeaders(e.Headers)})
		}
		return v
	}
	vectors := []outputVector{
		{Name: "empty range", Sources: 3, Outputs: 2},
		good("no entries"),
		good("one passes", a),
		good("pass, change, headers and fan-out", a, b, full, null),
		good("one source, many entries", a, a, a),
	}
	bad := func(name, err string, frame []byte) {
		vectors = append(vectors, outputVector{Name: name, Sources: 3, Outputs: 2, Error: err, Frame: hex.EncodeToString(frame)})
	}
	pass, one := AppendOutput(nil, []OutputRecord{a}), AppendOutput(nil, []OutputRecord{b})
	headers := AppendOutput(nil, []OutputRecord{full})
	bad("shorter than its header", "ErrTruncated", pass[:15])
	bad("another magic", "ErrMagic", patch(pass, 3, '2'))
	bad("another version", "ErrVersion", patch(pass, 4, 0))
	bad("reserved field of the header", "ErrReserved", patch(pass, 6, 1))
	bad("frame size too small", "ErrFrameSize", patch(pass, 8, 24))
	bad("more entries than room", "ErrEntryCount", patch(pass, 12, 2))
	bad("entry count of 4 GiB", "ErrEntryCount", patch(pass, 12, 255, 255, 255, 255))
	bad("bytes after the last entry", "ErrTrailing", patch(pass, 12, 0))
	bad("entry size beyond the frame", "ErrEntrySize", patch(pass, 16, 24))
	bad("entry size below the fixed part", "ErrEntrySize", patch(one, 16, 8))
	bad("entry size not a multiple of 8", "ErrEntrySize", patch(one, 16, 33))
	bad("entry size 0", "ErrEntrySize", patch(one, 16, 0))
	bad("pass with a record", "ErrEntrySize", patch(one, 26, 1))
	bad("record without its fixed part", "ErrEntrySize", patch(pass, 26, 0))
	bad("source beyond the batch", "ErrSource", patch(pass, 20, 3))
	bad("source -1", "ErrSource", patch(pass, 20, 255, 255, 255, 255))
	bad("sources out of order", "ErrOrder", AppendOutput(nil, []OutputRecord{b, a}))
	bad("undeclared output", "ErrOutput", patch(pass, 24, 2))
	bad("unknown flag", "ErrFlags", patch(pass, 26, 3))
	bad("hint -2", "ErrPartition", patch(pass, 28, 0xFE))
	bad("reserved field of an entry", "ErrReserved", patch(one, 44, 1))
	bad("key length -2", "ErrLength", patch(one, 36, 0xFE, 255, 255, 255))
	bad("key length 2 GiB", "ErrLength", patch(one, 36, 255, 255, 255, 127))
	bad("value length beyond the entry", "ErrLength", patch(one, 40, 8))
	bad("value shorter than the entry", "ErrPadding", patch(headers, 32, 0))
	bad("header count beyond the entry", "ErrHeaderCount", patch(one, 32, 2))
	bad("header count of 4 GiB", "ErrHeaderCount", patch(one, 32, 255, 255, 255, 255))
	bad("null header key", "ErrLength", patch(headers, 56, 255, 255, 255, 255))
	bad("header value length -2", "ErrLength", patch(headers, 60, 0xFE, 255, 255, 255))
	bad("header value beyond the entry", "ErrLength", patch(headers, 60, 200))
	vectors = append(vectors,
		outputVector{Name: "frame larger than its limit", Sources: 3, Outputs: 2, BytesMax: 24, Error: "ErrFrameBytes", Frame: hex.EncodeToString(pass)},
		outputVector{Name: "more entries than the limit", Sources: 3, Outputs: 2, EntriesMax: 2, Error: "ErrEntryCount",
			Frame: hex.EncodeToString(AppendOutput(nil, []OutputRecord{a, a, a}))})
	return append(vectors, freshSyncs()...)
}

func freshSyncs() []outputVector {
	keys := []*string{hexOf([]byte("k")), nil, hexOf([]byte{})}
	sync := func(name, err string, entries ...OutputRecord) outputVector {
		v := outputVector{Name: "sync: " + name, Sources: 3, Outputs: 2, Error: err, Sync: true, SyncKeys: keys,
			Frame: hex.EncodeToString(AppendOutput(nil, entries))}
		for _, e := range entries {
			if err == "" {
				v.Entries = append(v.Entries, vectorEntry{e.Source, e.Output, e.Pass, e.Partition, hexOf(e.Key), hexOf(e.Value), hexHeaders(e.Headers)})
			}
		}
		return v
	}
	kept := OutputRecord{Source: 0, Partition: -1, Key: []byte("k"), Value: []byte("new")}
	return []outputVector{
		sync("keys kept, one dropped", "", kept, OutputRecord{Source: 2, Partition: -1, Key: []byte{}}),
		sync("null key kept", "", OutputRecord{Source: 1, Partition: -1, Value: []byte("v")}),
		sync("key changed", "ErrSyncKey", OutputRecord{Source: 0, Partition: -1, Key: []byte("j")}),
		sync("null key became empty", "ErrSyncKey", OutputRecord{Source: 1, Partition: -1, Key: []byte{}}),
		sync("empty key became null", "ErrSyncKey", OutputRecord{Source: 2, Partition: -1}),
		sync("fan-out", "ErrSyncFanOut", kept, kept),
		sync("second output", "ErrSyncOutput", OutputRecord{Source: 0, Output: 1, Pass: true, Partition: -1}),
		sync("partition hint", "ErrSyncPartition", OutputRecord{Source: 0, Pass: true, Partition: 0}),
	}
}

func TestOutputVectors(t *testing.T) {
	for _, v := range load(t, "output.json", freshOutputs) {
		t.Run(v.Name, func(t *testing.T) {
			frame := unhex(t, v.Frame)
			entries, err := DecodeOutput(nil, frame, Limits{Sources: v.Sources, Outputs: v.Outputs, BytesMax: v.BytesMax, EntriesMax: v.EntriesMax})
			if err == nil && v.Sync {
				err = CheckSync(entries, func(source int) []byte {
					if v.SyncKeys[source] == nil {
						return nil
					}
					return unhex(t, *v.SyncKeys[source])
				})
			}
			if v.Error != "" {
				if !errors.Is(err, sentinels[v.Error]) || sentinels[v.Error] == nil {
					t.Fatalf("got %v, want %s", err, v.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []vectorEntry
			for i := range entries {
				e := &entries[i]
				got = append(got, vectorEntry{e.Source, e.Output, e.Pass, e.Partition, hexOf(e.Key), hexOf(e.Value), hexHeaders(e.Headers(nil))})
			}
			if !reflect.DeepEqual(got, v.Entries) {
				t.Errorf("got  %+v\nwant %+v", got, v.Entries)
			}
		})
	}
}

func TestFailureVectors(t *testing.T) {
	fresh := func() []failureVector {
		vector := func(name string, frame []byte, sources int) failureVector {
			f := DecodeFailure(frame, sources)
			return failureVector{name, hex.EncodeToString(frame), sources, f.Source, f.Text}
		}
		return []failureVector{
			vector("one record", AppendFailure(nil, 2, "no field “id”"), 3),
			vector("whole batch", AppendFailure(nil, -1, "boom"), 3),
			vector("no text", AppendFailure(nil, 0, ""), 3),
			vector("empty frame", nil, 3),
			vector("frame of 3 bytes", []byte{0, 0, 0}, 3),
			vector("source beyond the batch", AppendFailure(nil, 3, "boom"), 3),
			vector("source -2", AppendFailure(nil, -2, "boom"), 3),
			vector("text not UTF-8", AppendFailure(nil, 0, "a\xffb"), 3),
		}
	}
	for _, v := range load(t, "failure.json", fresh) {
		got := DecodeFailure(unhex(t, v.Frame), v.Sources)
		if got.Source != v.Source || got.Text != v.Text {
			t.Errorf("%s: got %+v, want %d %q", v.Name, got, v.Source, v.Text)
		}
	}
}

func TestRandomVectors(t *testing.T) {
	fresh := func() []randomVector {
		var vectors []randomVector
		for _, p := range []struct {
			seed   uint64
			offset int64
		}{{0, 0}, {0, 1}, {1, 0}, {math.MaxUint64, math.MaxInt64}, {0xFEDCBA9876543210, 41}, {0xFEDCBA9876543210, 42}} {
			v := randomVector{Seed: strconv.FormatUint(p.seed, 10), Offset: strconv.FormatInt(p.offset, 10)}
			for r, i := NewRand(p.seed, p.offset), 0; i < 4; i++ {
				v.Next = append(v.Next, strconv.FormatUint(r.Uint64(), 10))
			}
			for r, i := NewRand(p.seed, p.offset), 0; i < 4; i++ {
				v.Floats = append(v.Floats, r.Float64())
			}
			vectors = append(vectors, v)
		}
		return vectors
	}
	for _, v := range load(t, "random.json", fresh) {
		seed, _ := strconv.ParseUint(v.Seed, 10, 64)
		offset, _ := strconv.ParseInt(v.Offset, 10, 64)
		numbers, floats := NewRand(seed, offset), NewRand(seed, offset)
		for i := range v.Next {
			if got := strconv.FormatUint(numbers.Uint64(), 10); got != v.Next[i] {
				t.Errorf("seed %s offset %s: number %d is %s, want %s", v.Seed, v.Offset, i, got, v.Next[i])
			}
			if got := floats.Float64(); got != v.Floats[i] {
				t.Errorf("seed %s offset %s: fraction %d is %v, want %v", v.Seed, v.Offset, i, got, v.Floats[i])
			}
		}
	}
}
