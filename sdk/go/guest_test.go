package millrace

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// frame builds an input frame of values, with offsets from 10.
func frame(values ...string) []byte {
	f := le.AppendUint32(nil, inputMagic)
	f = le.AppendUint16(f, abiVersion)
	f = append(f, make([]byte, inputHeaderBytes-len(f))...)
	le.PutUint32(f[12:], uint32(len(values)))
	for i, v := range values {
		r := make([]byte, recordFixedBytes, recordFixedBytes+len(v)+8)
		le.PutUint64(r[8:], uint64(10+i))
		le.PutUint32(r[24:], 0xFFFFFFFF)
		le.PutUint32(r[28:], uint32(len(v)))
		r = append(append(r, v...), zeros[:-len(v)&7]...)
		le.PutUint32(r, uint32(len(r)))
		f = append(f, r...)
	}
	le.PutUint32(f[32:], uint32(len(f)))
	return f
}

func TestFailureNamesItsRecord(t *testing.T) {
	for name, c := range map[string]struct {
		fn   Transform
		want string
	}{
		"error":             {func(r *Record, out *Writer) error { return fmt.Errorf("no %s", r.Value) }, "no b"},
		"panic":             {func(r *Record, out *Writer) error { panic("no " + string(r.Value)) }, "panic: no b"},
		"undeclared output": {func(r *Record, out *Writer) error { return out.To("nowhere").Pass() }, `undeclared output "nowhere": transform.yaml declares ["out"]`},
		"bad partition":     {func(r *Record, out *Writer) error { return out.Partition(-2).Pass() }, "partition -2 is negative"},
		"too large":         {func(r *Record, out *Writer) error { return out.WriteValue(make([]byte, frameBytesMax)) }, "output is too large"},
	} {
		g := runner{named: true, outputs: []string{"out"}}
		g.transform = func(r *Record, out *Writer) error {
			if r.Offset == 11 {
				return c.fn(r, out)
			}
			return out.Pass()
		}
		if _, ok := g.process(frame("a", "b", "c")); ok {
			t.Errorf("%s: no failure", name)
			continue
		}
		if source, text := le.Uint32(g.failure), string(g.failure[4:]); source != 1 || !strings.HasPrefix(text, c.want) {
			t.Errorf("%s: got record %d %q, want 1 %q", name, source, text, c.want)
		}
		g.transform = func(r *Record, out *Writer) error { return out.Pass() }
		if output, ok := g.process(frame("a")); !ok || len(output) != outputHeaderBytes+entryPassBytes {
			t.Errorf("%s: the next batch answers %x", name, output)
		}
	}
}

func TestRouteIsForgotten(t *testing.T) {
	got, err := Try(func(r *Record, out *Writer) error {
		if err := out.To("b").Partition(7).WriteValue([]byte("x")); err != nil {
			return err
		}
		if err := out.To("nowhere").Pass(); !errors.Is(err, ErrOutput) {
			return fmt.Errorf("got %v", err)
		}
		return out.Pass()
	}, Record{Key: []byte("k"), Value: []byte("v")}, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	want := []Written{
		{Output: "b", Partition: 7, Key: []byte("k"), Value: []byte("x")},
		{Output: "a", Partition: -1, Passed: true, Key: []byte("k"), Value: []byte("v")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestWriteValueKeepsHeaders(t *testing.T) {
	headers := []Header{{"a", []byte("1")}, {"null", nil}, {"", []byte{}}}
	for _, read := range []bool{false, true} {
		r := Record{Key: []byte("k")}
		for _, h := range headers { // as they stand in a frame
			r.headers = le.AppendUint32(le.AppendUint32(r.headers, uint32(len(h.Key))), sizeOf(h.Value))
			r.headers = append(append(r.headers, h.Key...), h.Value...)
			r.headerCount++
		}
		got, err := Try(func(r *Record, out *Writer) error {
			if read {
				r.Headers()
			}
			return out.WriteJSON(map[string]int{"n": 1})
		}, r)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		if w := got[0]; string(w.Value) != `{"n":1}` || string(w.Key) != "k" || !reflect.DeepEqual(w.Headers, headers) {
			t.Errorf("read %v: got %+v", read, w)
		}
	}
}

func TestJSON(t *testing.T) {
	var v struct{ N int }
	r := Record{Value: []byte(`{"n":3}`)}
	if err := r.JSON(&v); err != nil || v.N != 3 {
		t.Error(v, err)
	}
	r.Value = nil
	if err := r.JSON(&v); !errors.Is(err, ErrNull) {
		t.Error(err)
	}
	r.Value = []byte("{")
	if err := r.JSON(&v); err == nil {
		t.Error("bad JSON is accepted")
	}
}

func TestNoAllocationPerRecord(t *testing.T) {
	in := frame(strings.Split(strings.Repeat("a value ", 100), " ")...)
	value := []byte("new")
	g := runner{named: true, outputs: []string{"out", "rest"}, transform: func(r *Record, out *Writer) error {
		if err := out.To("rest").Pass(); err != nil {
			return err
		}
		return out.WriteValue(value)
	}}
	allocs := testing.AllocsPerRun(20, func() {
		if _, ok := g.process(in); !ok {
			panic(string(g.failure))
		}
	})
	if allocs > 2 { // for the whole batch of 201
		t.Errorf("%v allocations a batch", allocs)
	}
}

func FuzzProcess(f *testing.F) {
	f.Add(frame("a", "b"))
	f.Fuzz(func(t *testing.T, in []byte) {
		g := runner{named: true, outputs: []string{"out"}, transform: func(r *Record, out *Writer) error {
			r.Headers()
			return out.Write(Output{r.Key, r.Value, r.Headers()})
		}}
		if _, ok := g.process(in); !ok && int32(le.Uint32(g.failure)) != -1 {
			t.Fatalf("%q", g.failure)
		}
	})
}
