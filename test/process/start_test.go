package process

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/bench/load"
	"github.com/millrace-io/millrace/test/node"
)

// stopRounds keeps the fast suite fast.
const stopRounds = 2

// TestTermUnderLoad ends the broker with SIGTERM under load, again and again: it
// drains, closes and ends well, nothing acknowledged is lost, nothing is there
// twice, and the next start has nothing to repair.
func TestTermUnderLoad(t *testing.T) {
	n := node.Start(t, node.Options{})
	makeTopic(t, n, "term", crashPartitions)
	producer := n.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(0), kgo.MaxBufferedRecords(2000), kgo.RetryTimeout(time.Minute))
	ctx := within(t, 2*time.Minute)
	w := newWriter()
	writing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); w.run(writing, producer, "term") }()
	for i := range stopRounds {
		w.awaitProgress(t, fmt.Sprintf("round %d", i))
		began := time.Now()
		n.Stop()
		stopped := time.Now()
		n.Restart()
		t.Logf("stopped in %v, ready again in %v", stopped.Sub(began).Round(time.Millisecond), time.Since(stopped).Round(time.Millisecond))
	}
	w.awaitProgress(t, "after the last restart")
	stop()
	<-done
	w.check(t, n.Client(), "term")
}

// TestDirectoryRefused starts brokers on directories that are not theirs.
func TestDirectoryRefused(t *testing.T) {
	n := node.Start(t, node.Options{})
	refused := func(what string, args ...string) {
		t.Helper()
		other := &node.Node{T: t, O: node.Options{Dir: n.O.Dir, Args: args}, LogPath: filepath.Join(t.TempDir(), "log")}
		t.Cleanup(other.Kill)
		if err := other.TryRestart(); err == nil {
			t.Errorf("%s: it starts", what)
		}
		if text := said(t, other); !strings.Contains(text, what) || strings.Contains(text, "goroutine ") {
			t.Errorf("it does not say %q:\n%s", what, text)
		}
	}
	refused("in use by another process")
	n.Stop()
	refused("belongs to another node", "--node-id", "7")
	identity := filepath.Join(n.O.Dir, "identity.json")
	was, err := os.ReadFile(identity)
	if err != nil {
		t.Fatal(err)
	}
	var id map[string]any
	if err := json.Unmarshal(was, &id); err != nil {
		t.Fatal(err)
	}
	id["format"] = 99
	newer, err := json.Marshal(id)
	if err == nil {
		err = os.WriteFile(identity, newer, 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
	refused("newer format")
	if err := os.WriteFile(identity, was, 0o640); err != nil {
		t.Fatal(err)
	}
	n.Restart()
}

// TestAnotherSMP starts a directory with other numbers of cores: a partition's
// core is its own only while the process runs.
func TestAnotherSMP(t *testing.T) {
	n := node.Start(t, node.Options{Args: []string{"--smp", "1"}})
	makeTopic(t, n, "smp", 5)
	acked := 0
	for _, smp := range []string{"3", "2"} {
		for p := range int32(5) {
			for range 10 {
				r := &kgo.Record{Topic: "smp", Partition: p, Value: numbered(acked / 5)}
				if err := plain(n).ProduceSync(within(t, 10*time.Second), r).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		acked += 10
		n.Stop()
		n.O.Args = []string{"--smp", smp}
		n.Restart()
		for p := range int32(5) {
			if read, err := readPartition(t, n, "smp", p, 0); err != nil || len(read) != acked {
				t.Errorf("--smp %s: %d of %d records in partition %d: %v", smp, len(read), acked, p, err)
			}
		}
	}
}

// TestRelativePaths starts a broker with paths relative to where it is typed,
// though the process changes its directory to start.
func TestRelativePaths(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "my.yaml"), []byte("flush_delay: 7ms\nlow_space_reserve: 1M\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n := node.Start(t, node.Options{Home: home, Dir: "data/here", Args: []string{"--config", "my.yaml"}})
	makeTopic(t, n, "relative", 1)
	if info, err := os.Stat(filepath.Join(home, "data", "here", "RESERVE")); err != nil || info.Size() != 1<<20 {
		t.Errorf("data directory or config was not taken from where the command was typed: %v", err)
	}
	n.Stop()
	n.Restart()
	topics, err := kadm.NewClient(n.Client()).ListTopics(within(t, 10*time.Second))
	if err != nil || !topics.Has("relative") {
		t.Errorf("after a restart: %v, %v", topics.Names(), err)
	}
}

const (
	idlePartitions = 500
	// idleBytesMax is what an idle partition may cost. Without the raft library's
	// soft settings a replica alone takes 1.29 MB.
	idleBytesMax = 256 << 10
)

// TestIdlePartitions measures what partitions cost that nobody uses. Little memory
// keeps the garbage of making them, which is no cost of theirs, out of the figure.
func TestIdlePartitions(t *testing.T) {
	n := node.Start(t, node.Options{Args: []string{"--memory", "128M"}})
	makeTopic(t, n, "one", 1)
	before := rss(t, n)
	makeTopic(t, n, "idle", idlePartitions)
	served(t, n, "idle", idlePartitions)
	after := rss(t, n)
	n.Stop()
	began := time.Now()
	n.Restart()
	each := (after - before) / idlePartitions
	t.Logf("RSS %d MiB, with %d partitions more %d MiB: %d KiB each; after a restart %d MiB, ready in %v",
		before>>20, idlePartitions, after>>20, each>>10, rss(t, n)>>20, time.Since(began).Round(time.Millisecond))
	if each > idleBytesMax {
		t.Errorf("an idle partition takes %d KiB, want at most %d", each>>10, idleBytesMax>>10)
	}
}

func served(t *testing.T, n *node.Node, topic string, partitions int) {
	t.Helper()
	cl := kadm.NewClient(n.Client())
	await(t, 60*time.Second, "every partition has a leader", func() bool {
		ends, err := cl.ListEndOffsets(within(t, 20*time.Second), topic)
		return err == nil && ends.Error() == nil && len(ends[topic]) == partitions
	})
}

func rss(t *testing.T, n *node.Node) int64 {
	t.Helper()
	u, err := load.Measure(n.Pid())
	if err != nil {
		t.Fatal(err)
	}
	return u.RSSBytes
}

// journalWounds are ways to damage the Raft log of a stopped node, given its first
// file and how much of it holds blocks.
var journalWounds = map[string]func(t *testing.T, file string, used int64){
	"header":  func(t *testing.T, file string, _ int64) { flip(t, file, 20) },
	"first":   func(t *testing.T, file string, _ int64) { flip(t, file, 4096+8) },
	"record":  func(t *testing.T, file string, used int64) { flip(t, file, used/2) },
	"seal":    func(t *testing.T, file string, used int64) { flip(t, file, used-40) },
	"cut":     func(t *testing.T, file string, used int64) { truncate(t, file, used/2) },
	"missing": func(t *testing.T, file string, _ int64) { remove(t, file) },
	"gone": func(t *testing.T, file string, _ int64) {
		for _, f := range glob(t, filepath.Dir(file), "*") {
			remove(t, f)
		}
	},
}

// TestRaftLogDamaged damages the Raft log: the broker says so and does not start,
// or does not serve what it has lost entries of, or has everything acknowledged.
func TestRaftLogDamaged(t *testing.T) {
	for name, hurt := range journalWounds {
		t.Run(name, func(t *testing.T) {
			n := node.Start(t, node.Options{Args: []string{"--memory", "128M"}})
			makeTopic(t, n, "kept", 1)
			kept, err := writeTo(t, n, "kept", 50)
			if err != nil {
				t.Fatal(err)
			}
			n.Stop()
			first := glob(t, filepath.Join(n.O.Dir, "raft", "journal"), "*.journal")[0]
			hurt(t, first, usedBytes(t, first))
			if err := n.TryRestart(); err != nil {
				if text := said(t, n); !regexp.MustCompile("raft (log|journal) is damaged|raft log of the cluster's metadata is gone").MatchString(text) {
					t.Errorf("%v, and it does not say that the Raft log is damaged:\n%s", err, text)
				}
				t.Log("it does not start, and says so")
				return
			}
			if h := health(t, n); len(h.Damaged) > 0 {
				t.Logf("it does not serve what is damaged: %v", h.Problems)
				if !strings.Contains(strings.Join(h.Problems, " "), "raft log is damaged") {
					t.Errorf("it does not say that the Raft log is: %v", h.Problems)
				}
				return
			}
			t.Log("it needs nothing of what is damaged")
			checkNumbered(t, n, "kept", kept)
		})
	}
}

// usedBytes is where a file's zeroes begin.
func usedBytes(t *testing.T, file string) int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(bytes.TrimRight(b, "\x00")))
}

func truncate(t *testing.T, file string, size int64) {
	t.Helper()
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
}
