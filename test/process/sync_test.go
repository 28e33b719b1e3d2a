package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/test/node"
)

const syncCalls = "fsync,fdatasync,sync_file_range"

// strace attaches to every thread of a process and returns when it has.
func strace(t *testing.T, pid int, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command("strace", append([]string{"-f", "-p", strconv.Itoa(pid)}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("strace: %v (make setup installs it)", err)
	}
	attached := make(chan struct{})
	go func() {
		s := bufio.NewScanner(stderr)
		said := false
		for s.Scan() {
			if !said && strings.Contains(s.Text(), "attached") {
				said = true
				close(attached)
			}
		}
	}()
	select {
	case <-attached:
	case <-time.After(10 * time.Second):
		t.Fatal("strace did not attach")
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended with its process
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	return stop
}

var syncLine = regexp.MustCompile(`(?:^|\s)(\d+\.\d+) (?:<\.\.\. )?(fsync|fdatasync)`)

// TestSyncBeforeAck shows, for each of a series of single writes, a sync that
// begins after the request and ends before its answer.
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
	stop := strace(t, n.Pid(), "-ttt", "-T", "-e", "trace="+syncCalls, "-o", trace)
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

// TestSyncFails makes every sync fail: no write is acknowledged any more, and
// the process ends within a second.
func TestSyncFails(t *testing.T) {
	n := node.Start(t, node.Options{})
	first := n.Client(kgo.AllowAutoTopicCreation())
	if err := first.ProduceSync(t.Context(), &kgo.Record{Topic: "eio", Value: []byte("before")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	cl := n.Client(kgo.ProducerLinger(0), kgo.RecordRetries(1), kgo.DisableIdempotentWrite(), kgo.RecordDeliveryTimeout(5*time.Second))
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "eio", Value: []byte("before")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	strace(t, n.Pid(), "-o", "/dev/null", "-e", "trace="+syncCalls, "-e", "inject="+syncCalls+":error=EIO")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	err := cl.ProduceSync(ctx, &kgo.Record{Topic: "eio", Value: []byte("after")}).FirstErr()
	if err == nil {
		t.Error("a write was acknowledged though its sync failed")
	}
	select {
	case <-n.Done():
		t.Logf("ended %v after the write: %v", time.Since(began), n.Status())
	case <-time.After(time.Until(began.Add(time.Second))):
		t.Error("the process still runs a second after its sync failed")
	}
	n.Kill()
	// What was acknowledged before is there after a restart.
	n.Restart()
	reader := n.Client(kgo.ConsumeTopics("eio"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fs := reader.PollFetches(t.Context())
	if err := fs.Err(); err != nil {
		t.Fatal(err)
	}
	if rs := fs.Records(); len(rs) == 0 || string(rs[0].Value) != "before" {
		t.Errorf("read %v, want the acknowledged record first", fmt.Sprint(rs))
	}
}
