package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/script"
)

// body puts one together by hand.
func body(version, kind byte, header, rest string) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{version, kind}, uint32(len(header)))
	return append(append(b, header...), rest...)
}

const noPartition = `"partition":{"Topic":"AAAAAAAAAAAAAAAAAAAAAA","Index":0}`

// What is on the wire: nodes of two versions read each other.
func TestWire(t *testing.T) {
	src := wireSource(someSource())
	a := &ask{verb: verbAppendSource, Partition: somePartition, TimeoutMs: 15000, Source: &src, batches: [][]byte{[]byte("one"), []byte("three")}}
	want := body(1, 6, `{"partition":{"Topic":"dAEAAAAAAAAAAAAAAAAAAA","Index":3},"timeout_ms":15000,`+
		`"source":{"key":{"Script":7,"Parent":{"Topic":"cAAAAAAAAAAAAAAAAAAAAA","Index":1}},"activation":1152921504606846976,`+
		`"seen":1152921504606846977,"from":10,"to":20,"gap":2,"verdicts":[11,13]},"lengths":[3,5]}`, "onethree")
	if got, err := a.encode(1 << 20); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
	r := &reply{verb: verbRead, Offset: -1, LogStart: 2, HighWatermark: 3, records: []byte("abc"), Failure: &failure{Codes: []uint16{1}, Text: "no"}}
	want = body(1, 0x82, `{"failure":{"codes":[1],"text":"no"},"state":{"activation":0,"announced":0,"offset":0},"offset":-1,"log_start":2,`+
		`"high_watermark":3,"lengths":[3]}`, "abc")
	if got, err := r.encode(1 << 20); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
}

// Damage is refused by name, and the verb is not asked.
func TestDamagedCalls(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		want error
	}{
		"nothing":           {nil, ErrMalformed},
		"cut prefix":        {[]byte{1, 2, 0, 0, 0}, ErrMalformed},
		"version":           {body(2, 3, `{`+noPartition+`}`, ""), ErrVersion},
		"verb 0":            {body(1, 0, `{`+noPartition+`}`, ""), ErrMalformed},
		"verb 99":           {body(1, 99, `{`+noPartition+`}`, ""), ErrMalformed},
		"an answer":         {body(1, 0x83, `{`+noPartition+`}`, ""), ErrMalformed},
		"header too long":   {[]byte{1, 3, 0xff, 0xff, 0xff, 0xff, '{', '}'}, ErrMalformed},
		"no JSON":           {body(1, 3, `{"part`, ""), ErrMalformed},
		"two values":        {body(1, 3, `{}{}`, ""), ErrMalformed},
		"unknown field":     {body(1, 3, `{"perdition":{}}`, ""), ErrMalformed},
		"bad topic":         {body(1, 3, `{"partition":{"Topic":"x","Index":0}}`, ""), ErrMalformed},
		"fraction":          {body(1, 3, `{"timestamp":1.5}`, ""), ErrMalformed},
		"negative timeout":  {body(1, 3, `{"timeout_ms":-1}`, ""), ErrMalformed},
		"negative length":   {body(1, 1, `{"lengths":[-1]}`, "a"), ErrMalformed},
		"length too long":   {body(1, 1, `{"lengths":[4294967295]}`, "a"), ErrMalformed},
		"lengths too long":  {body(1, 6, `{"source":{},"lengths":[1,1]}`, "a"), ErrMalformed},
		"empty batch":       {body(1, 1, `{"lengths":[0]}`, ""), ErrMalformed},
		"bytes behind":      {body(1, 1, `{"lengths":[1]}`, "ab"), ErrMalformed},
		"no batch":          {body(1, 1, `{}`, ""), ErrMalformed},
		"two batches":       {body(1, 1, `{"lengths":[1,1]}`, "ab"), ErrMalformed},
		"batches to source": {body(1, 5, `{"key":{},"lengths":[1]}`, "a"), ErrMalformed},
		"no read":           {body(1, 2, `{}`, ""), ErrMalformed},
		"no activate":       {body(1, 4, `{}`, ""), ErrMalformed},
		"no key":            {body(1, 5, `{}`, ""), ErrMalformed},
		"no source":         {body(1, 6, `{}`, ""), ErrMalformed},
		"no report asked":   {body(1, 7, `{}`, ""), ErrMalformed},
		"no lines asked":    {body(1, 8, `{}`, ""), ErrMalformed},
	} {
		r := newRig(t)
		out, err := r.led.Answer(t.Context(), 2, c.body)
		if !errors.Is(err, c.want) || out != nil || len(r.own[1].taken()) != 0 {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

func TestDamagedAnswers(t *testing.T) {
	for name, b := range map[string][]byte{
		"a call":                  body(1, 2, `{}`, ""),
		"another verb's":          body(1, 0x83, `{}`, ""),
		"two pieces":              body(1, 0x82, `{"lengths":[1,1]}`, "ab"),
		"records without lengths": body(1, 0x82, `{}`, "ab"),
		"cut records":             body(1, 0x82, `{"lengths":[3]}`, "ab"),
	} {
		if _, err := decodeReply(b, verbRead); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodeReply(body(1, 0x85, `{"lengths":[1]}`, "a"), verbSource); !errors.Is(err, ErrMalformed) {
		t.Errorf("records of a verb without any: %v", err)
	}
	for v, kind := range map[verb]byte{verbReport: 0x87, verbLines: 0x88} {
		if _, err := decodeReply(body(1, kind, `{}`, ""), v); !errors.Is(err, ErrMalformed) {
			t.Errorf("nothing told to %q: %v", v, err)
		}
	}
	// A newer peer's code is an error that matches nothing.
	r, err := decodeReply(body(1, 0x85, `{"failure":{"codes":[250,1000],"text":"new"}}`, ""), verbSource)
	if err != nil {
		t.Fatal(err)
	}
	if failed := r.Failure.error(3); failed == nil || len(matched(failed)) != 0 || failed.Error() != "node 3: new" {
		t.Errorf("%v", failed)
	}
}

// FuzzDecodeAsk: what is read is written as it was understood, and the leader's
// verb is asked or nothing is.
func FuzzDecodeAsk(f *testing.F) {
	src := wireSource(someSource())
	act := wireActivate(partition.Activate{Key: someKey, Activation: 3, Keep: true})
	for _, a := range []*ask{
		{verb: verbAppend, batches: [][]byte{[]byte("batch")}},
		{verb: verbRead, Read: &wireRead{From: 1, BytesMax: 2, WaitMs: 3}},
		{verb: verbOffset, Timestamp: -1, TimeoutMs: 1 << 62},
		{verb: verbActivate, Activate: &act},
		{verb: verbSource, Key: &someKey},
		{verb: verbAppendSource, Source: &src, batches: [][]byte{[]byte("one"), []byte("two")}},
		{verb: verbReport, Report: &script.ReportAsk{Scripts: []model.ScriptID{7}}},
		{verb: verbLines, Lines: &script.LinesAsk{Script: "scrub", Tail: -1}},
	} {
		b, err := a.encode(1 << 20)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAsk(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
				t.Fatalf("refused without a name: %v", err)
			}
			return
		}
		again, err := a.encode(1 << 30)
		if err != nil {
			t.Fatal(err)
		}
		c, err := decodeAsk(again)
		if err != nil || fmt.Sprint(a.batches) != fmt.Sprint(c.batches) || a.verb != c.verb || a.Partition != c.Partition {
			t.Fatalf("%+v became %+v: %v", a, c, err)
		}
		r := newRig(t)
		if _, err := r.led.Answer(t.Context(), 2, b); err != nil || len(r.own[1].taken()) != 1 {
			t.Fatalf("answer: %v", err)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	for _, r := range []*reply{
		{verb: verbRead, HighWatermark: 4, records: []byte("records")},
		{verb: verbReport, Report: &script.Report{Version: 3, Scripts: []script.ScriptReport{{Script: 7}}}},
		{verb: verbLines, Lines: &script.Lines{Left: 1}},
		{verb: verbAppendSource, State: wireState{Known: true, Verdicts: []model.Offset{1}}, Failure: failureOf(partition.ErrSourceConflict)},
	} {
		b, err := r.encode(1 << 20)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(r.verb))
	}
	f.Fuzz(func(t *testing.T, b []byte, v byte) {
		r, err := decodeReply(b, verb(v))
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
				t.Fatalf("refused without a name: %v", err)
			}
			return
		}
		again, err := r.encode(1 << 30)
		if err != nil {
			t.Fatal(err)
		}
		c, err := decodeReply(again, verb(v))
		if err != nil || !bytes.Equal(r.records, c.records) || r.Offset != c.Offset || !reflect.DeepEqual(matched(r.Failure.error(1)), matched(c.Failure.error(1))) {
			t.Fatalf("%+v became %+v: %v", r, c, err)
		}
	})
}
