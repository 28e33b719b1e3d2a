package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/raft"
	"github.com/millrace-io/millrace/broker/record"
	"github.com/millrace-io/millrace/sdk/manifest"
)

// lines is a log that a test reads while others write it.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

// complaints are the lines above Info.
func (l *lines) complaints() (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.all.String()) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") {
			found = append(found, line)
		}
	}
	return found
}

// newNode is a node over dir that has not started yet.
func newNode(t *testing.T, dir string) (*Server, *lines) {
	t.Helper()
	n, err := config.Load(config.Sources{Flags: map[string]string{
		"data_dir": dir, "kafka_addr": "127.0.0.1:0", "admin_addr": "127.0.0.1:0", "rpc_addr": "127.0.0.1:0",
		"sidecar": "off", "memory": "1G", "smp": "2", "flush_delay": "1ms",
	}})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	return newServer(n, "test", slog.New(slog.NewTextHandler(log, nil)), lock), log
}

// TestPartialStart: whatever a start has built before it failed is closed, and the
// directory is free for the next.
func TestPartialStart(t *testing.T) {
	dir := t.TempDir()
	s, _ := newNode(t, dir)
	count := len(s.steps())
	if err := s.stop(); err != nil {
		t.Errorf("before the first step: %v", err)
	}
	for n := 1; n <= count; n++ {
		s, log := newNode(t, dir)
		if err := s.identify(); err != nil {
			t.Fatal(err)
		}
		for i, step := range s.steps()[:n] {
			if err := step(t.Context(), *s.identity.Load()); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
		if err := s.stop(); err != nil {
			t.Errorf("after %d steps: %v", n, err)
		}
		if got := log.complaints(); len(got) != 0 {
			t.Errorf("after %d steps: %v", n, got)
		}
	}
}

// TestNode lives: topics come and go, writes outlive a stop in the middle of it,
// and nothing is complained of.
func TestNode(t *testing.T) {
	dir := t.TempDir()
	s, log := newNode(t, dir)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := s.node.Ready(); !r.Ready {
		t.Errorf("%+v", r)
	}
	front := kafkaCluster{s.cluster}
	results, err := front.CreateTopics(t.Context(), []cluster.CreateTopic{
		{Name: "stays", Partitions: 3, Replication: 1}, {Name: "goes", Partitions: 5, Replication: 1},
	}, false)
	if err != nil || results[0].Err != nil || results[1].Err != nil {
		t.Fatal(err, results)
	}
	stays, _ := s.cluster.Metadata().Topic("stays")
	id := stays.PartitionID(1)
	for i := range 10 {
		p := s.produce.Start(produce.Ask{Partition: id, Records: one(fmt.Sprint(i)), Timeout: 5 * time.Second})
		if r := p.Result(); r.Err != nil || r.Base != model.Offset(i) {
			t.Fatalf("%+v", r)
		}
	}
	s.checkViews(t, stays)
	s.checkStoppedScript(t)
	if _, err := s.cluster.DeleteTopics(t.Context(), []cluster.TopicRef{{Name: "goes"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil { // in the middle of the removal
		t.Fatal(err)
	}
	got := slices.DeleteFunc(log.complaints(), func(line string) bool { // what checkStoppedScript has done on purpose
		return strings.Contains(line, "fiber stopped") && strings.Contains(line, "was deleted")
	})
	if len(got) != 0 {
		t.Errorf("complaints: %v", got)
	}
	s, _ = newNode(t, dir)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	a := s.fetch.Fetch(t.Context(), fetch.Ask{BytesMax: 1 << 20, Partitions: []fetch.PartitionAsk{{Partition: id, BytesMax: 1 << 20, CurrentEpoch: model.NoEpoch}}})[0]
	if a.Err != nil || a.HighWatermark != 10 || len(a.Records) == 0 {
		t.Errorf("after the restart: %d, %v", a.HighWatermark, a.Err)
	}
	s.checkLogs(t)
}

// checkLogs finds a Raft log for each partition and no other.
func (s *Server) checkLogs(t *testing.T) {
	t.Helper()
	want := 1 // the controller's
	for _, topic := range s.cluster.Metadata().Topics() {
		want += len(topic.Partitions)
	}
	if got := s.raft.Logs(); len(got) != want {
		t.Errorf("%d logs, want %d", len(got), want)
	}
	entries, err := os.ReadDir(s.path(topicsDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // a partition has none before its first flush
		if !owned(s.cluster.Metadata(), e.Name()) {
			t.Errorf("directory %s is no topic's", e.Name())
		}
	}
}

// checkStoppedScript: a script whose child is gone is a problem of the cluster.
func (s *Server) checkStoppedScript(t *testing.T) {
	t.Helper()
	man, err := manifest.Parse("transform.yaml", []byte("name: scrub\ninputs: [stays]\n"))
	if err != nil {
		t.Fatal(err)
	}
	d := cluster.Deploy{Script: controller.Script{
		Name: "scrub", Digest: model.Digest{1}, Mode: controller.ModeAsync, Inputs: man.Inputs, Outputs: []controller.Output{{Topic: "stays.scrub"}}, Manifest: man.Canonical(),
	}}
	if _, err := s.cluster.DeployScript(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := s.scripts.stopped(t.Context()); len(got) != 0 {
		t.Errorf("stopped from the start: %v", got)
	}
	if _, err := s.cluster.DeleteTopics(t.Context(), []cluster.TopicRef{{Name: "stays.scrub"}}); err != nil {
		t.Fatal(err)
	}
	if got := s.scripts.stopped(t.Context()); len(got) != 1 || got[0] != "scrub" {
		t.Errorf("its child was deleted; stopped: %v", got)
	}
	if _, err := s.cluster.RemoveScript(t.Context(), "scrub"); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) checkViews(t *testing.T, stays *cluster.Topic) {
	t.Helper()
	v := &clusterView{
		node: s.n.ID, cluster: s.cluster, cores: s.cores, fetch: s.fetch, space: s.space,
		faults: s.replicas.faults.all, damages: s.damages, sidecar: s.scripts.sidecar, stopped: s.scripts.stopped,
		quorum: func(ctx context.Context) (raft.Members, error) { return s.raft.Members(ctx, raft.ControllerShard) },
	}
	h, err := v.Health(t.Context())
	if err != nil || !h.Healthy || h.Controller != 0 || len(h.Leaderless) != 0 {
		t.Errorf("health %+v, %v", h, err)
	}
	s.replicas.faults.set(stays.PartitionID(2), errors.New("damaged by the test"))
	if h, _ = v.Health(t.Context()); h.Healthy || len(h.Damaged) != 1 || !strings.Contains(h.Problems[0], "stays-2") {
		t.Errorf("health of a damaged partition %+v", h)
	}
	s.replicas.faults.set(stays.PartitionID(2), nil)
	parts, err := v.Partitions(t.Context(), "stays", false)
	if err != nil || len(parts) != 3 || parts[1].HighWatermark != 10 || parts[1].Leader != 0 || parts[1].Core < 0 {
		t.Errorf("partitions %+v, %v", parts, err)
	}
	if _, err := v.Partitions(t.Context(), "nowhere", false); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("partitions of no topic: %v", err)
	}
	n, err := s.node.Node(t.Context())
	if err != nil || n.ID != 0 || !n.Alive || n.DiskFreeBytes == 0 || n.Cores != 2 {
		t.Errorf("node %+v, %v", n, err)
	}
	s.checkConfigs(t)
	var high float64
	for _, p := range s.samplePartitions() {
		if p.Topic == "stays" {
			high += p.High
		}
	}
	if high != 10 {
		t.Errorf("sampled high watermarks sum to %v", high)
	}
}

func (s *Server) checkConfigs(t *testing.T) {
	t.Helper()
	v := configView{s}
	ctx := context.Background()
	row := v.Schema()[0]
	if _, err := v.Change(ctx, api.ConfigChange{Set: map[string]string{"no.such.setting": "1"}}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("an unknown setting: %v", err)
	}
	got, err := v.Change(ctx, api.ConfigChange{Set: map[string]string{"log.retention.ms": "12345"}})
	if err != nil || len(got.Changed) != 1 {
		t.Errorf("changed %+v, %v (of rows like %q)", got, err, row.Name)
	}
	if got, err = v.Change(ctx, api.ConfigChange{Remove: []string{"log.retention.ms"}, DryRun: true}); err != nil || len(got.Changed) != 0 {
		t.Errorf("a dry run changed %+v, %v", got, err)
	}
	st, err := v.Status(ctx)
	if err != nil || len(st) != 1 || len(st[0].Invalid)+len(st[0].Unknown) != 0 {
		t.Errorf("status %+v, %v", st, err)
	}
}

// one is a batch of a record.
func one(value string) []byte {
	var b record.Builder
	b.Reset(record.Plain(record.None))
	if err := b.Add(time.Now().UnixMilli(), nil, []byte(value), nil); err != nil {
		panic(err)
	}
	_, built, err := b.Build(nil)
	if err != nil {
		panic(err)
	}
	return built
}
