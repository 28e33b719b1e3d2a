package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts and docs/CLI.md anew")

// world is what commands of one transcript meet: a Kafka API, an admin API, a
// home directory.
type world struct {
	admin   *fakeAdmin
	environ []string
	dir     string
	hide    *strings.Replacer // addresses and paths, which differ from run to run
}

func newWorld(t *testing.T) *world {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("fake"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	w := &world{dir: t.TempDir()}
	w.write(t, "scrub.wasm", "\x00asm\x01\x00\x00\x00", 0o600)
	w.write(t, "notes.wasm", "these are notes", 0o600)
	var addr string
	w.admin, addr = newFakeAdmin(t)
	brokers := kafka.ListenAddrs()[0]
	_, port, _ := strings.Cut(brokers, ":")
	w.environ = []string{"HOME=" + w.dir, "PATH=" + os.Getenv("PATH"), "MILLRACE_BROKERS=" + brokers, "MILLRACE_ADMIN=" + addr}
	w.hide = strings.NewReplacer(brokers, "BROKER", addr, "ADMIN", w.dir, "DIR", port, "PORT")
	return w
}

func (w *world) write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// run gives stdout, and stderr with "! " before each line.
func (w *world) run(stdin string, args ...string) (out string, err error) {
	var stdout, stderr bytes.Buffer
	c := New(Deps{Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr, Environ: w.environ, Version: "v1", Rescue: fakeRescue})
	c.SetArgs(args)
	err = c.ExecuteContext(context.Background())
	out = stdout.String()
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	for line := range strings.Lines(stderr.String()) {
		out += "! " + strings.TrimSuffix(line, "\n") + "\n"
	}
	return out, err
}

var changing = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"timestamp": ?1[0-9]{12}`), `"timestamp": NOW`},
	{regexp.MustCompile(`with timestamp 1[0-9]{12}`), "with timestamp NOW"},
	{regexp.MustCompile(`go1\.[0-9.]+`), "GO"},
	{regexp.MustCompile(`(linux|darwin)/[a-z0-9]+`), "SYSTEM"},
	{regexp.MustCompile(`"id": ?"[A-Za-z0-9_-]{22}"`), `"id": "ID"`},
}

// TestTranscripts runs testdata/*.txt: a command after "> ", its stdin after
// "< ", then "----" and what it printed. -rewrite writes what it prints now.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newWorld(t).replay(t, string(raw))
			if *rewrite {
				err = os.WriteFile(file, []byte(got), 0o644)
			} else if got != string(raw) {
				t.Errorf("%s differs; look at `go test ./broker/cli -run Transcripts -rewrite` and git diff. It is now:\n%s", file, got)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (w *world) replay(t *testing.T, text string) string {
	var out strings.Builder
	for block := range strings.SplitSeq(text, "\n> ") {
		block = strings.TrimPrefix(block, "> ")
		head, _, _ := strings.Cut(block, "\n----\n")
		lines := strings.Split(head, "\n")
		var stdin strings.Builder
		for _, l := range lines[1:] {
			stdin.WriteString(strings.TrimPrefix(strings.TrimPrefix(l, "<"), " ") + "\n")
		}
		args := words(t, lines[0])
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "DIR", w.dir)
		}
		said, err := w.run(stdin.String(), args...)
		said = w.hide.Replace(said)
		for _, c := range changing {
			said = c.re.ReplaceAllString(said, c.with)
		}
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		out.WriteString("> " + strings.TrimRight(head, "\n") + "\n----\n" + said)
		if err != nil {
			out.WriteString("[failed]\n")
		}
	}
	return out.String()
}

// words splits a line as a shell does with single quotes.
func words(t *testing.T, line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	if strings.Count(line, "'")%2 == 1 {
		t.Fatalf("open quote in %q", line)
	}
	return out
}
