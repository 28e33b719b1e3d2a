package process

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

// syncLine is a call that makes the journal durable: a write where the file is open
// with O_DIRECT and O_DSYNC, an fdatasync where it is not.
var syncLine = regexp.MustCompile(`(?:^|\s)(\d+\.\d+) (pwrite64|fdatasync)\(\d+<[^>]*\.journal>`)

// sealsMax is how many seals a pause in the series may add.
const sealsMax = 3

// TestSyncBeforeAck shows, for each of a series of single writes, a sync that
// begins after the request and before its answer, and no more of them than writes.
func TestSyncBeforeAck(t *testing.T) {
	n := node.Start(t, node.Options{})
	cl := n.Client(kgo.ProducerLinger(0), kgo.AllowAutoTopicCreation())
	produce := func() (sent, acked time.Time) {
		sent = time.Now()
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "serial", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		return sent, time.Now()
	}
	produce() // makes the topic
	trace := filepath.Join(t.TempDir(), "trace")
	stop := node.Strace(t, n.Pid(), "-ttt", "-y", "-e", "trace="+node.SyncCalls, "-o", trace)
	const writes = 50
	var sent, acked [writes]time.Time
	for i := range writes {
		sent[i], acked[i] = produce()
	}
	stop()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var syncs []time.Time
	for line := range strings.Lines(string(b)) {
		if m := syncLine.FindStringSubmatch(line); m != nil {
			s, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			syncs = append(syncs, time.UnixMicro(int64(s*1e6)))
		}
	}
	for i := range writes {
		if !anyBetween(syncs, sent[i], acked[i]) {
			t.Errorf("write %d: no sync between request %v and answer %v", i, sent[i], acked[i])
		}
	}
	if len(syncs) > writes+sealsMax {
		t.Errorf("%d syncs for %d serial writes", len(syncs), writes)
	}
	t.Logf("%d syncs for %d serial writes", len(syncs), writes)
}

func anyBetween(ts []time.Time, from, to time.Time) bool {
	for _, x := range ts {
		if x.After(from) && x.Before(to) {
			return true
		}
	}
	return false
}

// syncCases are the files whose syncs may fail, each in its own way noticed.
var syncCases = []struct {
	name string
	// paths are the files, below the data directory; none: all.
	paths func(t *testing.T, dir string) []string
	// acked: a write may be acknowledged, since it is in the Raft log already.
	acked bool
	// records of 64 KiB are written until the process ends.
	records int
}{
	{name: "everything", records: 1},
	{name: "journal", paths: journalFiles, records: 1},
	{name: "next journal file", paths: nextJournalFile, acked: true, records: 600},
	{name: "segments", paths: segmentFiles, acked: true, records: 1},
}

func journalFiles(t *testing.T, dir string) []string {
	return glob(t, filepath.Join(dir, "raft", "journal"), "*.journal")
}

// nextJournalFile is the name that a file has while it is prepared.
func nextJournalFile(_ *testing.T, dir string) (paths []string) {
	for i := range 20 {
		paths = append(paths, filepath.Join(dir, "raft", "journal", fmt.Sprintf("spare-%016x", i)))
	}
	return paths
}

// segmentFiles waits for the first flush, which makes them.
func segmentFiles(t *testing.T, dir string) []string {
	ctx := within(t, 10*time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		paths, err := filepath.Glob(filepath.Join(dir, "topics", "*", "*", "*.log"))
		if err != nil || ctx.Err() != nil {
			t.Fatalf("no segments in %s: %v, %v", dir, err, ctx.Err())
		}
		if len(paths) > 0 {
			return paths
		}
		<-tick.C
	}
}

// TestSyncFails makes syncs fail: no write that needed them is acknowledged any
// more, the process ends within a second and says why, and what was
// acknowledged is there after a restart.
func TestSyncFails(t *testing.T) {
	for _, c := range syncCases {
		t.Run(c.name, func(t *testing.T) {
			n := node.Start(t, node.Options{Args: []string{"--memory", "128M"}})
			makeTopic(t, n, "eio", 1)
			cl := plain(n)
			if err := cl.ProduceSync(within(t, 10*time.Second), &kgo.Record{Topic: "eio", Value: []byte("before")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			args := []string{"-o", "/dev/null", "-e", "trace=" + node.SyncCalls, "-e", "inject=" + node.SyncCalls + ":error=EIO"}
			if c.paths != nil {
				for _, p := range c.paths(t, n.O.Dir) {
					args = append(args, "-P", p)
				}
			}
			node.Strace(t, n.Pid(), args...)
			acked := writeUntilEnd(t, n, cl, c.records)
			if acked > 0 && !c.acked {
				t.Error("a write was acknowledged though its sync failed")
			}
			if text := said(t, n); !strings.Contains(text, "storage failed, the node stops") || !strings.Contains(text, "input/output error") {
				t.Errorf("the broker did not say why it ends:\n%s", text[max(0, len(text)-2000):])
			}
			n.Kill()
			n.Restart()
			read, err := readPartition(t, n, "eio", 0, 0)
			if err != nil || len(read) < 1+acked || string(read[0].Value) != "before" {
				t.Errorf("%d records read, %d were acknowledged: %v", len(read), 1+acked, err)
			}
		})
	}
}

// writeUntilEnd writes records of 64 KiB, one by one, and tells how many were
// acknowledged. The process must end within a second of the last one.
func writeUntilEnd(t *testing.T, n *node.Node, cl *kgo.Client, records int) (acked int) {
	t.Helper()
	began := time.Now()
	for i := 0; i < records && !ended(n); i++ {
		began = time.Now()
		err := cl.ProduceSync(within(t, 5*time.Second), &kgo.Record{Topic: "eio", Value: make([]byte, 64<<10)}).FirstErr()
		if err == nil {
			acked++
		}
	}
	select {
	case <-n.Done():
		t.Logf("ended %v after the last write, %d acknowledged: %v", time.Since(began), acked, n.Status())
	case <-time.After(time.Until(began.Add(time.Second))):
		t.Error("the process still runs a second after its sync failed")
	}
	return acked
}
