package millrace

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// The vectors are shared with the host (sidecar/abi). A copy of the module without the tree around it skips them.
func vectors[V any](t *testing.T, name string) []V {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "sidecar", "abi", "testdata", "vectors", name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("outside of the tree")
	}
	var list []V
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil || len(list) == 0 {
		t.Fatalf("%d vectors: %v", len(list), err)
	}
	return list
}

type vectorHeader struct {
	Key   string
	Value *string
}

func unhex(t *testing.T, s *string) []byte {
	t.Helper()
	if s == nil {
		return nil
	}
	b, err := hex.DecodeString(*s)
	if err != nil {
		t.Fatal(err)
	}
	if b == nil {
		b = []byte{}
	}
	return b
}

// same compares as the ABI does: null is not empty.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && string(a) == string(b) }

func sameHeaders(t *testing.T, got []Header, want []vectorHeader) bool {
	t.Helper()
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		if !same([]byte(got[i].Key), unhex(t, &want[i].Key)) && got[i].Key+want[i].Key != "" || !same(got[i].Value, unhex(t, want[i].Value)) {
			return false
		}
	}
	return true
}

func TestInputVectors(t *testing.T) {
	type vector struct {
		Name, Frame, Error string
		Topic              uint16
		Partition          int32
		Seed               uint64 `json:"seed,string"`
		Records            []struct {
			Offset    int64 `json:"offset,string"`
			Timestamp int64 `json:"timestamp,string"`
			Key       *string
			Value     *string
			Headers   []vectorHeader
		}
	}
	for _, v := range vectors[vector](t, "input.json") {
		t.Run(v.Name, func(t *testing.T) {
			inputs := make([]string, int(v.Topic)+1)
			inputs[v.Topic] = "the topic"
			n := 0
			g := runner{named: true, inputs: inputs, outputs: []string{"out"}}
			g.transform = func(r *Record, out *Writer) error {
				if v.Error != "" {
					return nil // the records before the damage
				}
				want := v.Records[n]
				n++
				if r.Topic != "the topic" || r.Partition != v.Partition || r.seed != v.Seed || r.Offset != want.Offset || r.Timestamp != want.Timestamp {
					t.Errorf("record %d: got %+v", n-1, r)
				}
				if !same(r.Key, unhex(t, want.Key)) || !same(r.Value, unhex(t, want.Value)) || !sameHeaders(t, r.Headers(), want.Headers) {
					t.Errorf("record %d: got %q = %q %q, want %+v", n-1, r.Key, r.Value, r.Headers(), want)
				}
				return nil
			}
			_, ok := g.process(unhex(t, &v.Frame))
			if ok != (v.Error == "") {
				t.Fatalf("got %v %q, want error %q", ok, g.failure, v.Error)
			}
			if ok && n != len(v.Records) {
				t.Errorf("%d records, want %d", n, len(v.Records))
			}
			if !ok && int32(le.Uint32(g.failure)) != -1 {
				t.Error("a bad frame is blamed on a record")
			}
		})
	}
}

func TestOutputVectors(t *testing.T) {
	type vector struct {
		Name, Frame, Error string
		Sources            int
		Entries            []struct {
			Source    uint32
			Output    int
			Pass      bool
			Partition int32
			Key       *string
			Value     *string
			Headers   []vectorHeader
		}
	}
	outputs := []string{"first", "second"}
	for _, v := range vectors[vector](t, "output.json") {
		if v.Error != "" || v.Name == "no entries" { // this SDK answers the empty range then
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			var w Writer
			w.reset(outputs)
			for _, e := range v.Entries {
				w.record = &Record{source: e.Source}
				w.To(outputs[e.Output])
				if e.Partition >= 0 {
					w.Partition(e.Partition)
				}
				var headers []Header
				for _, h := range e.Headers {
					headers = append(headers, Header{string(unhex(t, &h.Key)), unhex(t, h.Value)})
				}
				err := w.Pass
				if !e.Pass {
					err = func() error { return w.Write(Output{unhex(t, e.Key), unhex(t, e.Value), headers}) }
				}
				if err := err(); err != nil {
					t.Fatal(err)
				}
			}
			if got := hex.EncodeToString(w.finish()); got != v.Frame {
				t.Errorf("got  %s\nwant %s", got, v.Frame)
			}
		})
	}
}

func TestRandomVectors(t *testing.T) {
	type vector struct {
		Seed   uint64 `json:"seed,string"`
		Offset int64  `json:"offset,string"`
		Next   []string
	}
	for _, v := range vectors[vector](t, "random.json") {
		r := Rand(&Record{seed: v.Seed, Offset: v.Offset})
		for i, want := range v.Next {
			if got := strconv.FormatUint(r.Uint64(), 10); got != want {
				t.Errorf("seed %d offset %d: number %d is %s, want %s", v.Seed, v.Offset, i, got, want)
			}
		}
	}
}
