package manifest

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

const full = `# everything
name: scrub
description: masks emails
mode: async
inputs: [orders, returns]
outputs:
  - clean
  - rest
language: javascript
env:
  REGION: eu
  LIMIT: 5
  EMPTY:
start: "@2026-01-02T03:04:05Z"
on_error: { retry: 5, then: skip }
limits:
  memory: 32MiB
  batch_time: 250ms
partitioning: key
compression: zstd
`

func TestParse(t *testing.T) {
	m, err := Parse(FileName, []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	m.source = source{}
	want := &Manifest{
		Name: "scrub", Description: "masks emails", Mode: Async, Inputs: []string{"orders", "returns"}, Outputs: []string{"clean", "rest"},
		Language: JavaScript, Env: map[string]string{"REGION": "eu", "LIMIT": "5", "EMPTY": ""},
		Start: Start{StartTime, 1767323045000}, OnError: OnError{5, Skip}, Sync: SyncOptions{budgetDefault, Fail},
		Limits: Limits{32 << 20, 250 * time.Millisecond}, Partitioning: ByKey, Compression: "zstd",
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
}

func TestDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "{}", "inputs:\nenv: {}\n"} {
		m, err := Parse(FileName, []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if err := m.Check(); !errors.Is(err, ErrNoName) || !errors.Is(err, ErrNoInputs) {
			t.Errorf("%q: got %v", text, err)
		}
		m.Name, m.Inputs = "scrub", []string{"orders"} // as flags do
		if err := m.Check(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if got := m.OutputsOf("orders"); !reflect.DeepEqual(got, []string{"orders.scrub"}) || !reflect.DeepEqual(m.OutputNames(), got) {
			t.Errorf("outputs %q, names %q", got, m.OutputNames())
		}
	}
}

// TestWrong: each mistake is told with its line, or with what to do.
func TestWrong(t *testing.T) {
	const head = "name: a\ninputs: [t]\n"
	for _, c := range []struct{ text, want string }{
		{head + "inputz: [t]", `transform.yaml:3: unknown key "inputz": did you mean "inputs"?`},
		{head + "colour: red", `transform.yaml:3: unknown key "colour": allowed are compression, description,`},
		{head + "limits:\n  memory: 64M\n  cpu: 5", `transform.yaml:5: unknown key "limits.cpu"`},
		{head + "limits: 5", "transform.yaml:3: limits must be a list"},
		{head + "name: b", "transform.yaml:3: name stands on line 1 already"},
		{head + "mode: fast", `transform.yaml:3: mode: must be one of ["async" "sync"], not "fast"`},
		{head + "start: soon", "transform.yaml:3: start: start must be end,"},
		{head + "start: -x", "transform.yaml:3: start: start must be end,"},
		{head + "start: '@yesterday'", "transform.yaml:3: start: start must be end,"},
		{head + "on_error: ignore", "transform.yaml:3: on_error: must be one of"},
		{head + "on_error:\n  retry: -1", "transform.yaml:4: on_error.retry: must be a number from 0 to 100"},
		{head + "limits:\n  memory: lots", "transform.yaml:4: limits.memory: must be a size like 64MiB"},
		{head + "limits:\n  memory: 1M", "transform.yaml:4: limits.memory: 1048576 bytes, must be between 16 and 2048 MiB"},
		{head + "limits:\n  memory: 999999999999G", "must be between 16 and 2048 MiB"},
		{head + "limits:\n  batch_time: 5", "transform.yaml:4: limits.batch_time: must be a duration"},
		{head + "limits:\n  batch_time: 5h", "transform.yaml:4: limits.batch_time: 5h0m0s, must be between 1ms and 1m0s"},
		{head + "env: [A]", "transform.yaml:3: env: must be a list"},
		{head + "env:\n  MILLRACE_X: a", "transform.yaml:4: env: MILLRACE_X: names that begin with MILLRACE_ are the broker's"},
		{head + "env:\n  A: [b]", "transform.yaml:4: env.A must be a text"},
		{head + "compression: rar", "transform.yaml:3: compression: must be one of"},
		{head + "outputs: [x, x]", `transform.yaml:3: outputs: "x" stands twice`},
		{head + "outputs: [a b]", `transform.yaml:3: outputs: "a b" is not a topic's name`},
		{head + "outputs: [t]", `transform.yaml:3: outputs: "t" is an input and an output`},
		{head + "mode: sync\noutputs: [x]", "transform.yaml:4: outputs: has no meaning in this mode (sync): it writes to the topic it reads"},
		{head + "mode: sync\non_error: dlq", "transform.yaml:4: on_error: has no meaning in this mode (sync)"},
		{head + "sync:\n  budget: 5ms", "transform.yaml:3: sync: has no meaning in this mode (async)"},
		{head + "mode: sync\nsync:\n  budget: 5m", "transform.yaml:5: sync.budget: 5m0s, must be between 100µs and 1s"},
		{"name: __x\ninputs: [t]", "transform.yaml:1: name: \"__x\": names that begin with \"__\" are internal"},
		{"name: a/b\ninputs: [t]", "transform.yaml:1: name: \"a/b\": a name has letters"},
		{"name: a\ninputs: [" + strings.Repeat("t", 245) + "]", "with its .dlq,"},
		{"inputs: [t]", "add `name: NAME` to transform.yaml"},
		{"name: a", "add `inputs: [TOPIC]` to transform.yaml"},
		{"- a", "transform.yaml:1: the manifest must be a list of \"key: value\" lines"},
		{"name: [", "transform.yaml: line 1: "},
	} {
		m, err := Parse(FileName, []byte(c.text))
		if err == nil {
			err = m.Check()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\ngot  %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestStart(t *testing.T) {
	for text, want := range map[string]Start{
		"end": {Kind: StartEnd}, "start": {Kind: StartStart}, "+5": {StartPlus, 5}, "-100": {StartMinus, 100},
		"@1700000000000": {StartTime, 1700000000000}, "@1970-01-02": {StartTime, 86400000},
	} {
		m, err := Parse(FileName, []byte("start: "+text))
		if text[0] == '@' { // YAML wants quotes
			m, err = Parse(FileName, []byte("start: '"+text+"'"))
		}
		if err != nil || m.Start != want {
			t.Errorf("%s: got %+v, %v", text, m.Start, err)
			continue
		}
		if again, err := ParseStart(m.Start.String()); err != nil || again != want {
			t.Errorf("%s: written %s, read %+v, %v", text, m.Start, again, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	m, err := Parse(FileName, []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	shuffled, err := Parse("other.yaml", []byte(`
compression: "zstd"
partitioning: key
limits: {batch_time: 0.25s, memory: 33554432}
on_error: {then: skip, retry: 5}
start: "@1767323045000"
env: {LIMIT: "5", EMPTY: "", REGION: eu}
language: javascript
outputs: [clean, rest]
inputs: [orders, returns]
description: masks emails
name: scrub`))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Canonical(), shuffled.Canonical()) {
		t.Errorf("one meaning, two forms:\n%s\n%s", m.Canonical(), shuffled.Canonical())
	}
	again, err := Decode(m.Canonical())
	if err != nil || !bytes.Equal(again.Canonical(), m.Canonical()) {
		t.Errorf("decoded: %v\n%s", err, again.Canonical())
	}
	shuffled.Env["LIMIT"] = "6"
	if bytes.Equal(m.Canonical(), shuffled.Canonical()) {
		t.Error("two meanings, one form")
	}
	for _, bad := range []string{"", "millrace manifest 2\n{}", canonicalVersion, canonicalVersion + "{}", canonicalVersion + `{"name":"a","inputs":["t"],"mode":"x"}`} {
		if _, err := Decode([]byte(bad)); !errors.Is(err, ErrCanonical) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("on_error: {retry: 1}\nsync: {policy: pass}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(FileName, text)
		if err != nil || m.Check() != nil {
			return
		}
		if again, err := Decode(m.Canonical()); err != nil || !bytes.Equal(again.Canonical(), m.Canonical()) {
			t.Fatalf("%q does not survive its canonical form: %v", text, err)
		}
	})
}
