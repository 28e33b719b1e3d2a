package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/sdk/manifest"
)

func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "p.yaml")
	err := writeProfiles(file, profileFile{Current: "one", Profiles: []profile{
		{Name: "one", Options: map[string]string{"brokers": "profile:1", "admin.hosts": "profile:2"}},
		{Name: "two", Options: map[string]string{"brokers": "two:1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		environ        []string
		flags          globals
		brokers, admin string
		from           string
	}{
		{"default", nil, globals{}, defaultBroker, defaultAdmin, "the default"},
		{"profile", nil, globals{file: file}, "profile:1", "profile:2", "profile one"},
		{"profile of the environment", []string{"MILLRACE_PROFILE=two"}, globals{file: file}, "two:1", defaultAdmin, "profile two"},
		{"profile flag over environment", []string{"MILLRACE_PROFILE=none"}, globals{file: file, profile: "two"}, "two:1", defaultAdmin, "profile two"},
		{"environment over profile", []string{"MILLRACE_BROKERS=env:1,env:2"}, globals{file: file}, "env:1,env:2", "profile:2", "MILLRACE_BROKERS"},
		{"-X over environment", []string{"MILLRACE_BROKERS=env:1", "MILLRACE_ADMIN=env:2"}, globals{file: file, opts: []string{"brokers=x:1", "admin.hosts=x:2"}}, "x:1", "x:2", "-X"},
		{"--brokers over -X", nil, globals{opts: []string{"brokers=x:1"}, brokers: []string{"flag:1"}}, "flag:1", defaultAdmin, "--brokers"},
		{"profile ignored", nil, globals{file: file, ignore: true}, defaultBroker, defaultAdmin, "the default"},
		{"home", []string{"XDG_CONFIG_HOME=" + dir}, globals{}, defaultBroker, defaultAdmin, "the default"},
	} {
		a := &app{environ: c.environ, flags: c.flags}
		s, err := a.settings()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := strings.Join(s.Brokers, ","); got != c.brokers || strings.Join(s.Admin, ",") != c.admin || s.brokersFrom != c.from {
			t.Errorf("%s: brokers %s from %s, admin %s", c.name, got, s.brokersFrom, s.Admin)
		}
	}
}

func TestABrokenProfileFileIsNamedWithItsLine(t *testing.T) {
	w := newWorld(t)
	path := w.write(t, "p.yaml", "current_profile: x\ncolour: red\n", 0o600)
	_, err := w.run("", "topic", "list", "--config", path)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	w := &world{environ: []string{"HOME=" + t.TempDir()}}
	_, err = w.run("", "topic", "list", "--brokers", dead)
	if !errors.Is(err, ErrNoBroker) || !strings.Contains(err.Error(), dead) || !strings.Contains(err.Error(), "from --brokers") || !strings.Contains(err.Error(), "MILLRACE_BROKERS") {
		t.Errorf("brokers: %v", err)
	}
	_, err = w.run("", "wasm", "list", "-X", "admin.hosts="+dead)
	if err == nil || !strings.Contains(err.Error(), dead) || !strings.Contains(err.Error(), "from -X") || !strings.Contains(err.Error(), "MILLRACE_ADMIN") {
		t.Errorf("admin: %v", err)
	}
}

func TestAnUnhealthyClusterFails(t *testing.T) {
	w := newWorld(t)
	w.admin.healthy = false
	out, err := w.run("", "cluster", "health")
	if err == nil || !strings.Contains(out, "orders/1") || !strings.Contains(out, "! orders/1 has no leader") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestStart(t *testing.T) {
	var got config.Node
	run := func(args ...string) error {
		c := New(Deps{
			Start:  func(_ context.Context, n config.Node) error { got = n; return nil },
			Stdout: io.Discard, Stderr: io.Discard,
			Environ: []string{"HOME=/", "MILLRACE_BROKERS=x:1", "MILLRACE_ADMIN=y:1", "MILLRACE_RACK=r1"},
		})
		c.SetArgs(append([]string{"start"}, args...))
		return c.ExecuteContext(context.Background())
	}
	if err := run("--overprovisioned", "--smp", "1", "--memory", "1G", "--reserve-memory", "0M", "--node-id", "0", "--check=false"); err != nil {
		t.Fatal(err)
	}
	if !got.Overprovisioned || got.SMP != 1 || got.Memory != 1<<30 || got.ReserveMemory != 0 || got.ID != 0 || got.Check || got.Rack != "r1" {
		t.Errorf("as Redpanda's users type it: %+v", got)
	}
	file := filepath.Join(t.TempDir(), "n.yaml")
	if err := os.WriteFile(file, []byte("node_id: 3\nsmp: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run("--config", file, "--smp", "4", "--kafka-addr", "127.0.0.1:0", "--proxy-addr", "off", "--set", "rack=r2", "--check"); err != nil {
		t.Fatal(err)
	}
	if got.ID != 3 || got.SMP != 4 || got.Kafka[0].Port != 0 || !got.Proxy.Off || got.Rack != "r2" || !got.Check {
		t.Errorf("file, flag, set: %+v", got)
	}
	for _, bad := range [][]string{{"--smp", "x"}, {"--memory", "much"}, {"--set", "nonsense=1"}, {"--kafka-addr", "nowhere"}, {"--mode", "test"}, {"extra"}, {"--nonsense"}} {
		if err := run(bad...); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSpans(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ms := func(at time.Time) bound { return bound{atTime, at.UnixMilli()} }
	day := time.Date(2022, 2, 14, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]span{
		"start":                       {from: bound{kind: atStart}},
		"end":                         {from: bound{kind: atEnd}},
		"47":                          {from: bound{atOffset, 47}},
		"47:":                         {from: bound{atOffset, 47}},
		"+3":                          {from: bound{afterStart, 3}},
		"-3":                          {from: bound{beforeEnd, 3}},
		":end":                        {to: bound{kind: atEnd}},
		":47":                         {to: bound{atOffset, 47}},
		"-3:end":                      {from: bound{beforeEnd, 3}, to: bound{kind: atEnd}},
		"1:4":                         {from: bound{atOffset, 1}, to: bound{atOffset, 4}},
		"@1644796800000":              {from: ms(day)},
		"@1644796800":                 {from: ms(day)},
		"@2022-02-14":                 {from: ms(day)},
		"@2022-02-14T00:00:00Z:end":   {from: ms(day), to: bound{kind: atEnd}},
		"@2022-02-14:1h":              {from: ms(day), to: ms(day.Add(time.Hour))},
		"@2022-02-14T00:00:00Z:1h30m": {from: ms(day), to: ms(day.Add(90 * time.Minute))},
		"@-48h:-24h":                  {from: ms(now.Add(-48 * time.Hour)), to: ms(now.Add(-24 * time.Hour))},
		"@-48h:24h":                   {from: ms(now.Add(-48 * time.Hour)), to: ms(now.Add(-24 * time.Hour))},
		"@-1m:end":                    {from: ms(now.Add(-time.Minute)), to: bound{kind: atEnd}},
		"@:-1hr":                      {to: ms(now.Add(-time.Hour))},
		"@2022-02-14:":                {from: ms(day)},
	} {
		got, err := parseSpan(text, now)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", ":", "@", "@:", "x", "+", "-", "+-1", "4:1", "1:x", "@x", "@x:end", "@2022-02-14:-1h", "--1", "99999999999999999999"} {
		if got, err := parseSpan(bad, now); err == nil {
			t.Errorf("%q was taken as %+v", bad, got)
		}
	}
}

func FuzzSpan(f *testing.F) {
	for _, s := range []string{"start", "1:2", "@-1h:end", "@2022-02-14T00:00:00Z:2h", "@:1644796800"} {
		f.Add(s)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSpan(text, now)
		if err != nil {
			return
		}
		if s.from.kind != atTime && s.from.n < 0 || s.to.kind != atTime && s.to.n < 0 {
			t.Errorf("%q gives a negative number: %+v", text, s)
		}
		if s.from.kind == s.to.kind && (s.from.kind == atOffset || s.from.kind == atTime) && s.from.n > s.to.n {
			t.Errorf("%q ends before it begins: %+v", text, s)
		}
	})
}

// FuzzFormat: no format makes the printer panic or read past a record, and
// what -f takes for consume it takes for any record.
func FuzzFormat(f *testing.F) {
	for _, s := range []string{`%v\n`, `%k{hex} %v{unpack[>I$]} %h{%k=%v}`, `%d{strftime[%F]} %a{compression;number}`, `%T{big64}%%%{%}`, `%d{go##2006##}`, `%[%|%]`, `\x41`} {
		f.Add(s, []byte("key"), []byte("value"))
	}
	f.Fuzz(func(t *testing.T, format string, key, value []byte) {
		w, err := recordWriterPlain(format)
		if err != nil {
			return
		}
		w(nil, &kgo.Record{Topic: "t", Key: key, Value: value, Timestamp: time.UnixMilli(0), Headers: []kgo.RecordHeader{{Key: "h", Value: value}}})
	})
}

// FuzzInput: no input format and no input makes the reader panic or hang.
func FuzzInput(f *testing.F) {
	for _, s := range []string{`%v\n`, `%k %v\n`, `%K{big16}%k%V{3}%v`, `%v{json}\n`, `%v{re#...?#}\n`, `%H %h{%k:%v }%v\n`} {
		f.Add(s, "a b\nc d\n")
	}
	f.Fuzz(func(t *testing.T, format, input string) {
		r, err := newRecordReader(strings.NewReader(input), format)
		if err != nil {
			return
		}
		for range len(input) + 2 {
			if _, err := r.ReadRecord(); err != nil {
				return
			}
		}
	})
}

// TestConsumeEndsBehindOffsetsWithoutRecords: the last offset below the end is
// a control record, which is never given to a consumer.
func TestConsumeEndsBehindOffsetsWithoutRecords(t *testing.T) {
	w := newWorld(t)
	if out, err := w.run("", "topic", "create", "orders", "-p", "1"); err != nil {
		t.Fatal(err, out)
	}
	brokers := strings.TrimPrefix(w.environ[2], "MILLRACE_BROKERS=")
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := context.Background()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, kgo.StringRecord("one")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	out, err := w.run("", "topic", "consume", "orders", "-o", ":end", "-f", "%o %v\\n", "--fetch-max-wait", "50ms")
	if err != nil || out != "0 one\n" {
		t.Errorf("%v, %q", err, out)
	}
	out, err = w.run("", "topic", "consume", "orders", "-o", ":end", "-f", "%o %a{control-bit}\\n", "--print-control-records")
	if err != nil || out != "0 0\n1 1\n" {
		t.Errorf("with control records: %v, %q", err, out)
	}
}

// TestAnInterruptEndsProduce: what was read is produced, though the input
// stays open.
func TestAnInterruptEndsProduce(t *testing.T) {
	w := newWorld(t)
	if _, err := w.run("", "topic", "create", "orders", "-p", "1"); err != nil {
		t.Fatal(err)
	}
	in, typing := io.Pipe()
	defer typing.Close()
	out, shown := io.Pipe()
	ctx, interrupt := context.WithCancel(context.Background())
	c := New(Deps{Stdin: in, Stdout: shown, Stderr: io.Discard, Environ: w.environ})
	c.SetArgs([]string{"topic", "produce", "orders", "-o", "%o\\n"})
	done := make(chan error, 1)
	go func() { done <- c.ExecuteContext(ctx) }()
	if _, err := io.WriteString(typing, "one\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := io.ReadFull(out, b); err != nil || string(b) != "0\n" {
		t.Fatalf("%q, %v", b, err)
	}
	interrupt()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	if _, err := w.run("", "topic", "create", "orders"); err != nil {
		t.Fatal(err)
	}
	w.admin.scripts["scrub"] = fakeScript("scrub")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"topic", "describe", ""}, "orders\n:4\n"},
		{[]string{"wasm", "pause", ""}, "scrub\n:4\n"},
		{[]string{"cluster", "config", "get", ""}, "auto.create.topics.enable\nlog.retention.ms\nnum.partitions\n:4\n"},
		{[]string{"topic", "list", "--format", ""}, "text\nwide\njson\nyaml\n:4\n"},
		{[]string{"start", "--mode", ""}, "dev\nprod\n:4\n"},
	} {
		out, err := w.run("", append([]string{"__complete"}, c.args...)...)
		got, _, _ := strings.Cut(out, "! ")
		if err != nil || got != c.want {
			t.Errorf("%q: %q, %v; want %q", c.args, got, err, c.want)
		}
	}
}

func TestMergedManifest(t *testing.T) {
	w := newWorld(t)
	w.write(t, manifest.FileName, "name: old # a comment\nmode: async\non_error: dlq\nenv: {A: \"1\", B: \"2\"}\n", 0o600)
	o := overrides{name: "new", inputs: []string{"x", "y"}, outputs: []string{"z"}, env: []string{"B=3=4", "C=", "D=1"}, onError: "5,skip"}
	p, err := o.load(filepath.Join(w.dir, "scrub.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.check(); err != nil {
		t.Fatal(err)
	}
	m := p.m
	if m.Name != "new" || strings.Join(m.Inputs, ",") != "x,y" || strings.Join(m.Outputs, ",") != "z" || m.OnError.Retry != 5 || m.OnError.Then != manifest.Skip ||
		m.Env["A"] != "1" || m.Env["B"] != "3=4" || m.Env["D"] != "1" || len(m.Env) != 4 {
		t.Errorf("%+v of\n%s", m, p.text)
	}
	o = overrides{mode: "sync", inputs: []string{"x"}}
	if p, err = o.load(filepath.Join(w.dir, "scrub.wasm")); err != nil {
		t.Fatal(err)
	}
	if err := p.check(); err != nil || p.m.Mode != manifest.Sync || strings.Join(o.dropped, ",") != "on_error" {
		t.Errorf("--mode sync over a manifest that is async: %v, dropped %q\n%s", err, o.dropped, p.text)
	}
	w.write(t, manifest.FileName, "name: x\ninputz: [a]\n", 0o600)
	if _, err := (&overrides{name: "y"}).load(filepath.Join(w.dir, "scrub.wasm")); err == nil || !strings.Contains(err.Error(), "transform.yaml:2") {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := (&overrides{}).load(""); err == nil || !strings.Contains(err.Error(), "wasm generate") {
		t.Errorf("no project here: %v", err)
	}
}

func TestDeploySendsWhatWasAsked(t *testing.T) {
	w := newWorld(t)
	if _, err := w.run("", "wasm", "deploy", filepath.Join(w.dir, "scrub.wasm"), "--name=s", "--input", "a,b", "--output", "c", "--start", "@2026-01-01", "--allow-missing", "--wait", "--yes"); err != nil {
		t.Fatal(err)
	}
	d := w.admin.deploys[0]
	m, err := manifest.Parse("m", d.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "s" || d.Start != "@2026-01-01" || !d.AllowMissing || !d.Wait || string(d.Module) != "\x00asm\x01\x00\x00\x00" || strings.Join(m.Inputs, ",") != "a,b" || m.Name != "s" {
		t.Errorf("%+v\n%s", d, d.Manifest)
	}
}

// fakeSidecar stands for the one-shot subcommands.
const fakeSidecar = `#!/bin/sh
case "$1" in
build-js) head -c 8 "$2" > "$4"; cat "$3" >> "$4" ;;
run) test "$3" = --manifest && grep -q 'name: ' "$4" && cat ;;
*) echo "millrace-sidecar: main.js:3: no such thing" >&2; exit 1 ;;
esac
`

func TestJavaScriptProjectFromGenerateToDeploy(t *testing.T) {
	w := newWorld(t)
	sidecar := w.write(t, "sidecar.sh", fakeSidecar, 0o700)
	engine := w.write(t, "engine.wasm", "\x00asm\x01\x00\x00\x00more", 0o600)
	dir := filepath.Join(w.dir, "scrub")
	steps := [][]string{
		{"wasm", "generate", dir},
		{"wasm", "build", dir, "--sidecar-bin", sidecar, "--js-engine", engine},
		{"wasm", "test", dir, "--input", filepath.Join(dir, "sample.jsonl"), "--sidecar-bin", sidecar, "--js-engine", engine},
		{"wasm", "deploy", "--name=scrub", "--input", "orders", filepath.Join(dir, "main.js"), "--sidecar-bin", sidecar, "--js-engine", engine},
		{"wasm", "deploy", filepath.Join(dir, "scrub.wasm"), "--input", "orders"},
	}
	var outs []string
	for _, args := range steps {
		out, err := w.run("", args...)
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		outs = append(outs, out)
	}
	sample, err := os.ReadFile(filepath.Join(dir, "sample.jsonl"))
	if err != nil || outs[2] != string(sample) {
		t.Errorf("the sample did not reach the sidecar: %v\n%s", err, outs[2])
	}
	if a, b := w.admin.deploys[0], w.admin.deploys[1]; string(a.Module) != string(b.Module) || len(a.Module) < 100 {
		t.Errorf("built and deployed modules differ: %d and %d bytes", len(a.Module), len(b.Module))
	}
	out, err := w.run("", "wasm", "build", dir, "--sidecar-bin", filepath.Join(w.dir, "nothing"), "--js-engine", engine)
	if err == nil || !strings.Contains(err.Error(), "--sidecar-bin") {
		t.Errorf("no sidecar: %v\n%s", err, out)
	}
	w.write(t, "scrub/main.js", "export default function (r) {\n  return r..key\n}\n", 0o600)
	if _, err := w.run("", "wasm", "build", dir, "--sidecar-bin", sidecar, "--js-engine", engine); err == nil || !strings.Contains(err.Error(), "main.js:2:12") {
		t.Errorf("a script that does not parse: %v", err)
	}
}

func TestGoProjectBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the Go toolchain")
	}
	w := newWorld(t)
	w.environ = append(w.environ, "HOME="+os.Getenv("HOME"), "GOFLAGS=-mod=mod", "GOPROXY=off")
	dir := filepath.Join(w.dir, "scrub")
	for _, args := range [][]string{{"wasm", "generate", dir, "--language", "go"}, {"wasm", "build", dir}} {
		if out, err := w.run("", args...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "scrub.wasm"))
	if err != nil || !strings.HasPrefix(string(b), "\x00asm") {
		t.Errorf("module of %d bytes, %v", len(b), err)
	}
	w.write(t, "scrub/main.go", "package main\nfunc main() { x }\n", 0o600)
	if _, err := w.run("", "wasm", "build", dir); err == nil || !strings.Contains(err.Error(), "main.go:2") {
		t.Errorf("a program that does not compile: %v", err)
	}
}

// TestEveryCommandExplainsItself: Short texts, and flags with a usage.
func TestEveryCommandExplainsItself(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no short text", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(New(Deps{}))
}

func TestProduceTakesALastLineWithoutItsEnd(t *testing.T) {
	w := newWorld(t)
	if _, err := w.run("", "topic", "create", "lines"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.run("one\ntwo", "topic", "produce", "lines"); err != nil {
		t.Fatal(err)
	}
	got, err := w.run("", "topic", "consume", "lines", "-o", ":end", "-f", `[%v]`)
	if err != nil || strings.TrimSpace(got) != "[one][two]" {
		t.Errorf("consumed %q, %v", got, err)
	}
	if _, err := w.run("k1 v1\nk2", "topic", "produce", "lines", "-f", `%k %v\n`); err == nil {
		t.Error("a last line without its value was taken")
	}
}

func TestDescribeShowsWhyASyncScriptRefused(t *testing.T) {
	w := newWorld(t)
	s := fakeScript("mask")
	s.Mode, s.Outputs, s.Partitions = "sync", nil, nil
	s.LastError = &api.ScriptError{Text: "a batch for orders-0: script failed on record 0 of the batch (key): no", Offset: -1}
	w.admin.scripts["mask"] = s
	got, err := w.run("", "wasm", "describe", "mask")
	if err != nil || !strings.Contains(got, "LAST ERROR\n") || !strings.Contains(got, "orders-0: script failed on record 0") {
		t.Errorf("described as %s, %v", got, err)
	}
}
