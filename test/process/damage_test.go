package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/test/node"
)

// damagedRecords of 64 KiB make three segments of 1 MiB.
const damagedRecords = 40

// wound is a way to damage a partition's files while its node is stopped.
type wound struct {
	topic string
	hurt  func(t *testing.T, dir string)
	// whole: everything must be served nevertheless; closed: nothing is.
	whole, closed bool
}

var wounds = []wound{
	{topic: "sound", hurt: func(*testing.T, string) {}, whole: true},
	{topic: "record", hurt: func(t *testing.T, dir string) { flip(t, segmentOf(t, dir, 1), 5*(64<<10)) }},
	{topic: "frame", hurt: func(t *testing.T, dir string) { flip(t, segmentOf(t, dir, 1), 32+8) }},
	{topic: "cut", hurt: func(t *testing.T, dir string) { halve(t, segmentOf(t, dir, 1)) }},
	{topic: "missing", hurt: func(t *testing.T, dir string) { remove(t, segmentOf(t, dir, 1)) }},
	{topic: "tail", hurt: func(t *testing.T, dir string) { flip(t, segmentOf(t, dir, 2), 3*(64<<10)) }},
	{topic: "index", hurt: func(t *testing.T, dir string) {
		for _, name := range glob(t, dir, "*.index") {
			scribble(t, name)
		}
	}, whole: true},
	{topic: "no-index", hurt: func(t *testing.T, dir string) {
		for _, name := range glob(t, dir, "*.index") {
			remove(t, name)
		}
	}, whole: true},
	{topic: "checkpoint", hurt: func(t *testing.T, dir string) { scribble(t, filepath.Join(dir, "checkpoint.0")) }, whole: true},
	{topic: "checkpoints", hurt: func(t *testing.T, dir string) {
		scribble(t, filepath.Join(dir, "checkpoint.0"))
		scribble(t, filepath.Join(dir, "checkpoint.1"))
	}, closed: true},
}

// TestDamage damages files of a stopped node, each in a topic of its own: what
// cannot be read is refused by name, all else is served, the node lives.
func TestDamage(t *testing.T) {
	n := node.Start(t, node.Options{})
	for _, w := range wounds {
		makeTopic(t, n, w.topic, 1, "segment.bytes", "1048576")
		if acked, err := writeTo(t, n, w.topic, damagedRecords); err != nil {
			t.Fatalf("%s: %d written: %v", w.topic, acked, err)
		}
	}
	dirs := topicDirs(t, n)
	n.Stop()
	for _, w := range wounds {
		w.hurt(t, dirs[w.topic])
	}
	n.Restart()
	for _, w := range wounds {
		t.Run(w.topic, func(t *testing.T) { checkWound(t, n, w) })
	}
	text := said(t, n)
	for _, part := range []string{"checkpoint copy is damaged", "segment is damaged", "stored log is damaged", "partition not started"} {
		if !strings.Contains(text, part) {
			t.Errorf("the log does not say %q", part)
		}
	}
	if ended(n) {
		t.Errorf("the node has ended: %v", n.Status())
	}
	n.Stop()
}

func checkWound(t *testing.T, n *node.Node, w wound) {
	h := health(t, n)
	if w.closed {
		named(t, n, w.topic)
		return
	}
	var lost []int64
	for offset := range int64(damagedRecords) {
		got, code := fetchOne(t, n, w.topic, offset)
		switch {
		case code == kerr.CorruptMessage.Code && got == nil:
			lost = append(lost, offset)
		case code != 0:
			t.Errorf("offset %d: %v", offset, kerr.ErrorForCode(code))
		case string(got[:8]) != fmt.Sprintf("%08d", offset):
			t.Errorf("offset %d: served %q", offset, got[:8])
		}
	}
	t.Logf("not served: %v", lost)
	if w.whole {
		if len(lost) > 0 {
			t.Errorf("offsets %v are refused though the segments are whole", lost)
		}
		if slices.Contains(h.Damaged, api.TopicPartition{Topic: w.topic}) {
			t.Errorf("health calls it damaged: %v", h.Problems)
		}
	} else {
		if len(lost) == 0 || len(lost) > damagedRecords/2 || lost[len(lost)-1]-lost[0] != int64(len(lost))-1 {
			t.Errorf("offsets %v are refused, want the damaged range", lost)
		}
		named(t, n, w.topic)
	}
	if _, err := writeOne(t, n, w.topic, damagedRecords); err != nil {
		t.Errorf("write behind the damage: %v", err)
	}
	if got, code := fetchOne(t, n, w.topic, damagedRecords); code != 0 || string(got[:8]) != fmt.Sprintf("%08d", damagedRecords) {
		t.Errorf("read what was written behind the damage: %v", kerr.ErrorForCode(code))
	}
}

// named checks that health names the topic.
func named(t *testing.T, n *node.Node, topic string) {
	t.Helper()
	h := health(t, n)
	told := slices.ContainsFunc(h.Problems, func(p string) bool { return strings.HasPrefix(p, topic+"-0") })
	if !slices.Contains(h.Damaged, api.TopicPartition{Topic: topic}) || !told || h.Healthy {
		t.Errorf("health does not name %s: %v, %v", topic, h.Damaged, h.Problems)
	}
}

// fetchOne asks for one offset and gives the value of the record there.
func fetchOne(t *testing.T, n *node.Node, topic string, offset int64) ([]byte, int16) {
	t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes = 1, 1 // the first batch, whatever its size
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = offset, 1, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	cl := n.Client(kgo.MaxVersions(kversion.V2_8_0())) // topics by name
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	answer, err := req.RequestWith(ctx, cl.Broker(0))
	if err != nil {
		t.Fatalf("fetch %s at %d: %v", topic, offset, err)
	}
	p := answer.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		if len(p.RecordBatches) > 0 {
			t.Errorf("offset %d: %d bytes beside %v", offset, len(p.RecordBatches), kerr.ErrorForCode(p.ErrorCode))
		}
		return nil, p.ErrorCode
	}
	return valueAt(t, p.RecordBatches, offset), 0
}

// valueAt gives the value of the record at offset, from batches of one record.
func valueAt(t *testing.T, b []byte, offset int64) []byte {
	t.Helper()
	batch, _, err := record.Next(b)
	if err != nil {
		t.Fatalf("offset %d: %d bytes: %v", offset, len(b), err)
	}
	var r record.Reader
	var rec record.Record
	if err := r.Reset(batch, len(b)); err != nil || !r.Next(&rec) || int64(rec.Offset) != offset || batch.CRC() != batch.Checksum() {
		t.Fatalf("offset %d: no sound batch with it: %v, %v", offset, err, r.Err())
	}
	return rec.Value
}

// topicDirs finds the directory of every topic's first partition.
func topicDirs(t *testing.T, n *node.Node) map[string]string {
	t.Helper()
	topics, err := kadm.NewClient(n.Client()).ListTopics(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{}
	for name, topic := range topics {
		id := topic.ID
		dirs[name] = filepath.Join(n.O.Dir, "topics", fmt.Sprintf("%x", id[:]), "0")
	}
	return dirs
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	slices.Sort(names)
	return names
}

func segmentOf(t *testing.T, dir string, i int) string {
	t.Helper()
	names := glob(t, dir, "*.log")
	if len(names) < 3 {
		t.Fatalf("%s has %d segments, the test wants 3", dir, len(names))
	}
	return names[i]
}

func flip(t *testing.T, path string, pos int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], pos)
	b[0] ^= 0x40
	_, werr := f.WriteAt(b[:], pos)
	if err = errors.Join(err, werr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func halve(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func scribble(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0x5a
	}
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
