package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/plugins"
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
)

var broker = control.Session{Cluster: "c", Node: 1, Boot: "b"}

// folder holds what a test run builds; it is open to the user that the sidecar
// becomes.
var folder string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "forbidden" {
		forbidden()
	}
	if len(os.Args) > 1 && os.Args[1] == "broker" {
		playBroker()
	}
	var err error
	if folder, err = os.MkdirTemp("", "millrace-test-"); err == nil {
		err = os.Chmod(folder, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(folder, "millrace-sidecar")
	if text, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, text)
	}
	return path, nil
})

var guest = sync.OnceValues(func() ([]byte, error) {
	path := filepath.Join(folder, "guest.wasm")
	command := exec.Command("go", "build", "-buildmode=c-shared", "-o", path, ".")
	command.Dir = "../../engine/testdata/guest"
	command.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-mod=mod", "GOWORK=off")
	if text, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build guest: %w\n%s", err, text)
	}
	return os.ReadFile(path)
})

func must[T any](t testing.TB, make func() (T, error)) T {
	t.Helper()
	v, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func module(t testing.TB, do string, mode control.Mode) control.Module {
	m := control.Module{
		Name: do, Mode: mode, Wasm: must(t, guest), Inputs: []string{"in"}, Outputs: []string{"one", "two"},
		Env: map[string]string{"DO": do}, BatchTimeMax: 200 * time.Millisecond,
	}
	copy(m.Digest[:], do)
	return m
}

func recordsOf(t testing.TB, n int, key string) []byte {
	var b record.Builder
	b.Reset(record.Plain(record.None))
	for i := range n {
		if err := b.Add(5, []byte(key), fmt.Appendf(nil, "value %d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// lines collects a sidecar's log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func launch(t testing.TB, args ...string) (*plugins.Sidecar, control.Hello) {
	t.Helper()
	log := &lines{}
	s, err := plugins.Launch(context.Background(), plugins.LaunchAsk{
		Path: must(t, binary), CacheDir: filepath.Join(folder, "cache"), Args: args, Stderr: log,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		s.Close()
		<-s.Died()
		if t.Failed() {
			t.Log(log)
		}
	})
	return s, hello(t, s)
}

func hello(t testing.TB, s *plugins.Sidecar) control.Hello {
	t.Helper()
	h, err := s.Control.Hello(context.Background(), broker)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// use runs a guest of each kind: native code is made and run behind the walls.
func use(t testing.TB, s *plugins.Sidecar) {
	t.Helper()
	ctx := context.Background()
	m := module(t, "keep", control.Async)
	if _, err := s.Control.Load(ctx, m); err != nil {
		t.Fatal(err)
	}
	f, err := s.Async.Open(ctx, async.FiberSpec{Digest: m.Digest, Topic: "in", Parent: model.PartitionID{Index: 1}, Outputs: []async.Output{{Partitions: 2}, {Partitions: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Transform(ctx, async.Batch{From: 0, To: 1000, Records: recordsOf(t, 1000, "k")})
	if err != nil || r.RecordsOut != 1000 || r.Outputs[0].Partition != 1 {
		t.Fatalf("async: %d records, %v", r.RecordsOut, err)
	}
	loop := module(t, "loop", control.Sync)
	if _, err := s.Control.Load(ctx, loop); err != nil {
		t.Fatal(err)
	}
	answer, err := s.Sync.Transform(ctx, plugsync.Batch{Digest: loop.Digest, Topic: "in", Records: recordsOf(t, 1, "bad")})
	if err != nil || answer.Failure == nil || answer.Failure.Kind != control.FailureDeadline {
		t.Fatalf("a loop: %+v, %v", answer, err)
	}
	answer, err = s.Sync.Transform(ctx, plugsync.Batch{Digest: loop.Digest, Topic: "in", Records: recordsOf(t, 1, "good")})
	if err != nil || !answer.Unchanged {
		t.Fatalf("after the loop: %+v, %v", answer, err)
	}
}

func TestChildBehindWalls(t *testing.T) {
	s, h := launch(t)
	up := map[string]bool{}
	for _, w := range h.Walls {
		up[w.Name] = w.Up
		if w.Text != "" {
			t.Logf("wall %s (up: %v): %s", w.Name, w.Up, w.Text)
		}
	}
	for _, name := range []string{"no_new_privs", "rlimits", "seccomp"} {
		if !up[name] {
			t.Errorf("wall %s is down", name)
		}
	}
	if os.Geteuid() == 0 && !up["user"] {
		t.Error("started by root, it stayed root")
	}
	use(t, s)
}

// The cache lies in the broker's folder, which is closed to the sidecar's user.
func TestCacheInAClosedFolder(t *testing.T) {
	closed := filepath.Join(folder, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := plugins.Launch(context.Background(), plugins.LaunchAsk{Path: must(t, binary), CacheDir: filepath.Join(closed, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	hello(t, s)
	use(t, s)
	if files, _ := filepath.Glob(filepath.Join(closed, "cache", "*.native")); len(files) != 1 {
		t.Fatalf("the cache holds %q", files)
	}
}

func TestChildWithoutWalls(t *testing.T) {
	s, h := launch(t, "--walls=false")
	if len(h.Walls) != 1 || h.Walls[0].Up {
		t.Fatalf("walls %+v", h.Walls)
	}
	use(t, s)
}

func TestChildEndsOnClose(t *testing.T) {
	s, _ := launch(t)
	s.Close()
	<-s.Died()
	if err := s.Control.Health(context.Background()); err == nil {
		t.Fatal("it lives")
	}
}

// playBroker launches a sidecar and waits to be killed.
func playBroker() {
	s, err := plugins.Launch(context.Background(), plugins.LaunchAsk{Path: os.Args[2]})
	if err == nil {
		err = s.Control.Health(context.Background())
	}
	fmt.Println("launched", err)
	select {}
}

// A broker that is killed leaves neither its sidecar nor the sidecar's folder.
func TestChildEndsWithAKilledBroker(t *testing.T) {
	temp := filepath.Join(folder, "temp")
	if err := os.Mkdir(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	// Both hold the writing end as their standard input.
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	command := exec.Command(os.Args[0], "broker", must(t, binary))
	command.Env = append(os.Environ(), "TMPDIR="+temp)
	command.Stdin = write
	said, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	line := make([]byte, 100)
	if n, err := said.Read(line); string(line[:n]) != "launched <nil>\n" {
		t.Fatalf("%q, %v", line[:n], err)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, plugins.FolderPrefix+"*")); len(left) != 1 {
		t.Fatalf("folders %q", left)
	}
	command.Process.Kill()
	command.Wait()
	if n, err := read.Read(line); err != io.EOF {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, plugins.FolderPrefix+"*")); len(left) != 0 {
		t.Fatalf("folders %q are left", left)
	}
}

// start runs a sidecar on a socket of its own.
func start(t testing.TB) (socket string, process *os.Process) {
	t.Helper()
	dir := must(t, func() (string, error) { return os.MkdirTemp(folder, "s") })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	command := exec.Command(must(t, binary), "serve", "--socket", socket, "--cache-dir", filepath.Join(folder, "cache"))
	said, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	var text []byte
	for buffer := make([]byte, 4096); !bytes.Contains(text, []byte("msg=serving")); {
		n, err := said.Read(buffer)
		if text = append(text, buffer[:n]...); err != nil {
			t.Fatalf("it ended: %s", text)
		}
	}
	return socket, command.Process
}

func TestAttachedOutlivesBrokers(t *testing.T) {
	socket, process := start(t)
	ctx := context.Background()
	var boot string
	for i := range 3 {
		s, err := plugins.Attach(ctx, plugins.AttachAsk{Socket: socket})
		if err != nil {
			t.Fatal(err)
		}
		h := hello(t, s)
		if boot != "" && boot != h.Boot {
			t.Fatal("it is another process")
		}
		boot = h.Boot
		if states, err := s.Control.Inspect(ctx); err != nil || len(states) != 0 {
			t.Fatalf("session %d begins with %v, %v", i, states, err)
		}
		use(t, s)
		s.Close()
	}
	s, err := plugins.Attach(ctx, plugins.AttachAsk{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Control.Hello(ctx, control.Session{Cluster: "c", Node: 9, Boot: "x"}); !errors.Is(err, control.ErrOtherNode) {
		t.Fatalf("another node: %v", err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.Died()
	if _, err := s.Control.Inspect(ctx); err == nil {
		t.Fatal("the dead answered")
	}
}

func TestTermEndsIt(t *testing.T) {
	socket, process := start(t)
	s, err := plugins.Attach(context.Background(), plugins.AttachAsk{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.Died()
}

// forbidden tries, behind the filter, what guests' escapes would.
func forbidden() {
	failures := map[string]string{}
	note := func(what string, err error) {
		if err == nil {
			failures[what] = "went through"
		} else if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOSYS) {
			failures[what] = err.Error()
		}
	}
	if err := filterCalls(); err != nil {
		failures["filter"] = err.Error()
	}
	_, err := net.Dial("tcp", "127.0.0.1:1")
	note("network", err)
	_, err = net.Dial("unix", "/nowhere")
	note("connect", err)
	note("execute", exec.Command("/bin/true").Run())
	note("kill", syscall.Kill(os.Getppid(), 0))
	note("chroot", syscall.Chroot("/"))
	note("ptrace", syscall.PtraceAttach(os.Getppid()))
	// What must go on working: memory, threads, files, unix sockets.
	done := make(chan []byte)
	for range 20 {
		go func() { done <- make([]byte, 1<<20) }()
	}
	for range 20 {
		<-done
	}
	if _, err := os.ReadFile("/proc/self/status"); err != nil {
		failures["read"] = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(failures)
	os.Exit(0)
}

func TestForbiddenCalls(t *testing.T) {
	output, err := exec.Command(os.Args[0], "forbidden").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(output)); got != "{}" {
		t.Fatalf("got %s", got)
	}
}

// oneShot runs a verb to its end.
func oneShot(t testing.TB, input string, args ...string) (output, said string, err error) {
	t.Helper()
	command := exec.Command(must(t, binary), args...)
	var out, errs bytes.Buffer
	command.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(folder, "tools"))
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &out, &errs
	err = command.Run()
	return out.String(), errs.String(), err
}

func guestFile(t testing.TB) string {
	must(t, guest)
	return filepath.Join(folder, "guest.wasm")
}

func manifestFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "transform.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	output, said, err := oneShot(t, "", "check", guestFile(t))
	var answer checked
	if err != nil || json.Unmarshal([]byte(output), &answer) != nil || answer.ABI != "millrace 1" || answer.MemoryBytes == 0 {
		t.Fatalf("%v\n%s\n%s", err, output, said)
	}
	if _, said, err = oneShot(t, "", "check", "main.go"); err == nil || !strings.Contains(said, "millrace-sidecar: module refused: it is not WebAssembly") {
		t.Fatalf("%v\n%s", err, said)
	}
}

func TestRun(t *testing.T) {
	manifest := manifestFile(t, "name: trial\ninputs: [in]\noutputs: [one, two]\nenv: {DO: mixed}\n")
	output, said, err := oneShot(t, `{"key":"pass","value":{"a":1}}
{"key":"drop"}
{"key":"change","value":"x","headers":{"h":"v"},"timestamp":7,"offset":10,"partition":3}
`, "run", guestFile(t), "--manifest", manifest)
	want := `{"topic":"one","partition":0,"timestamp":1700000000000,"key":"pass","value":"{\"a\":1}"}
{"topic":"one","partition":3,"timestamp":7,"key":"change","value":"x!","headers":{"h":"v"}}
`
	if err != nil || output != want {
		t.Fatalf("%v\n%s\n%s", err, output, said)
	}
	if !strings.Contains(said, "3 records in, 2 out, 0 failed") {
		t.Fatal(said)
	}
}

func TestRunSync(t *testing.T) {
	manifest := manifestFile(t, "name: trial\nmode: sync\ninputs: [in]\nenv: {DO: mixed}\n")
	output, said, err := oneShot(t, `{"key":"change","value":"x"}`, "run", "--manifest", manifest, guestFile(t))
	if err != nil || output != `{"topic":"in","partition":0,"timestamp":1700000000000,"key":"change","value":"x!"}`+"\n" {
		t.Fatalf("%v\n%s\n%s", err, output, said)
	}
	output, _, err = oneShot(t, `{"key":"rekey","value":"x"}`, "run", "--manifest", manifest, guestFile(t))
	if err == nil || !strings.Contains(output, `"failed":"key changed"`) {
		t.Fatalf("%v\n%s", err, output)
	}
}

func TestRunTells(t *testing.T) {
	for _, c := range []struct{ do, input, want string }{
		{"state", strings.Repeat(`{"key":"k"}`+"\n", 20), "depends on how batches are cut"},
		{"error", `{"key":"bad"}`, "the script failed on 1 of 1 records"},
		{"mixed", "{}\nnonsense", "line 2: not a record as JSON"},
		{"dontstart", "{}", "it does not start"},
	} {
		manifest := manifestFile(t, "name: trial\ninputs: [in]\noutputs: [one, two]\nenv: {DO: "+c.do+"}\n")
		if _, said, err := oneShot(t, c.input, "run", guestFile(t), "--manifest", manifest); err == nil || !strings.Contains(said, c.want) {
			t.Errorf("%s: %v\n%s", c.do, err, said)
		}
	}
}

func TestBuildJS(t *testing.T) {
	const engine = "../../../build/js-engine/millrace-js.wasm"
	if _, err := os.Stat(engine); err != nil {
		t.Skip("the JavaScript engine is not built: run sdk/js/engine/build.sh")
	}
	for name, c := range map[string]struct {
		code, want string
		snapshot   bool
	}{
		"plain": {`var __millrace_main = { default: (r) => ({ value: r.text() + "!" }) };`, `"value":"v!"`, true},
	} {
		code, out := filepath.Join(t.TempDir(), "b.js"), filepath.Join(t.TempDir(), "o.wasm")
		if err := os.WriteFile(code, []byte(c.code), 0o600); err != nil {
			t.Fatal(err)
		}
		output, said, err := oneShot(t, "", "build-js", engine, code, out)
		var answer packed
		if err != nil || json.Unmarshal([]byte(output), &answer) != nil || answer.Snapshot != c.snapshot {
			t.Fatalf("%s: %v\n%s\n%s", name, err, output, said)
		}
		if output, said, err = oneShot(t, `{"key":"k","value":"v"}`, "run", out); err != nil || !strings.Contains(output, c.want) {
			t.Fatalf("%s: %v\n%s\n%s", name, err, output, said)
		}
	}
	code := filepath.Join(t.TempDir(), "b.js")
	if err := os.WriteFile(code, []byte("throw new Error('at the top')"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said, err := oneShot(t, "", "build-js", engine, code, code+".wasm"); err == nil || !strings.Contains(said, "at the top") {
		t.Fatalf("%v\n%s", err, said)
	}
}
