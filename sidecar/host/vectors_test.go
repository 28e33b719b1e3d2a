package host

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
)

// watAnswer is a guest that answers a fixed frame, or fails with it.
const watAnswer = `(module
  (memory (export "memory") 64)
  (data (i32.const 1024) "%s")
  (func (export "millrace_abi") (result i32) i32.const 1)
  (func (export "millrace_alloc") (param i32) (result i32) i32.const 131072)
  (func (export "millrace_process") (param i32 i32) (result i64) (i64.const %d))
  (func (export "millrace_error") (result i64) (i64.const %d)))`

func answering(t *testing.T, frame string, fails bool) []byte {
	t.Helper()
	raw, err := hex.DecodeString(frame)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, b := range raw {
		fmt.Fprintf(&text, "\\%02x", b)
	}
	answer := abi.RangeOf(1024, uint32(len(raw)))
	process := answer
	if fails {
		process = abi.RangeFailed
	}
	return assemble(t, fmt.Sprintf(watAnswer, text.String(), process, answer))
}

func vectors[T any](t *testing.T, name string) (list []T) {
	t.Helper()
	text, err := os.ReadFile("../abi/testdata/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func sourcesOf(n int) *Batch {
	b := batchOf()
	for i := range n {
		b.Records = append(b.Records, abi.Record{Offset: int64(i)})
	}
	return b
}

// What a guest answers comes through its memory as it is: each malformed frame is
// refused by its name, each good one is taken.
func TestOutputVectors(t *testing.T) {
	e := newEngine(t, "")
	refused := 0
	for _, v := range vectors[struct {
		Name             string
		Sources, Outputs int
		Frame, Error     string
		BytesMax         int `json:"bytes_max"`
		EntriesMax       int `json:"entries_max"`
	}](t, "output.json") {
		if strings.HasPrefix(v.Error, "ErrSync") {
			continue // CheckSync's
		}
		g := newGuest(t, e, answering(t, v.Frame, false), Setup{})
		frame, err := g.Run(sourcesOf(v.Sources))
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if _, err = abi.DecodeOutput(nil, frame, abi.Limits{Sources: v.Sources, Outputs: v.Outputs, BytesMax: v.BytesMax, EntriesMax: v.EntriesMax}); (err != nil) != (v.Error != "") {
			t.Errorf("%s: got %v, want error %q", v.Name, err, v.Error)
		}
		if err != nil {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("only %d vectors are malformed", refused)
	}
}

func TestFailureVectors(t *testing.T) {
	e := newEngine(t, "")
	for _, v := range vectors[struct {
		Name, Frame, Text string
		Sources, Source   int
	}](t, "failure.json") {
		g := newGuest(t, e, answering(t, v.Frame, true), Setup{})
		_, err := g.Run(sourcesOf(v.Sources))
		if f := faultOf(t, err); f.Kind != control.FailureError || f.Source != v.Source || f.Text != v.Text || f.Dead {
			t.Errorf("%s: got %+v", v.Name, f)
		}
	}
}
