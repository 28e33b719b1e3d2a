package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
)

// log is a Raft group of one: it applies in the order of proposal. fail, when
// set, is returned instead; before runs ahead of a proposal.
type log struct {
	mu      sync.Mutex
	machine *StateMachine
	index   uint64
	cmds    [][]byte
	fail    error
	before  func()
}

func (l *log) ProposeController(_ context.Context, cmd []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return nil, l.fail
	}
	if f := l.before; f != nil {
		l.before = nil
		f()
	}
	return l.apply(cmd), nil
}

func (l *log) apply(cmd []byte) []byte {
	l.index++
	l.cmds = append(l.cmds, bytes.Clone(cmd))
	return l.machine.Apply(l.index, cmd)
}

func newCluster(t *testing.T, nodes int) (*Cluster, *log) {
	t.Helper()
	l := &log{}
	c := New(Options{Node: 0, Proposer: l, Now: func() time.Time { return time.UnixMilli(7) }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	l.machine = c.StateMachine()
	for i := range nodes {
		id, err := c.RegisterNode(t.Context(), Node{ID: model.NodeID(i), Host: "h", Port: int32(9092 + i)}, fmt.Sprintf("cluster-%d", i))
		if err != nil || id != "cluster-0" {
			t.Fatalf("register node %d: %q, %v", i, id, err)
		}
	}
	return c, l
}

func ptr(s string) *string { return &s }

func create(t *testing.T, c *Cluster, ask CreateTopic) *Topic {
	t.Helper()
	r, err := c.CreateTopics(t.Context(), []CreateTopic{ask}, false)
	if err != nil || r[0].Err != nil {
		t.Fatalf("create %s: %v, %v", ask.Name, err, r)
	}
	return r[0].Topic
}

func TestCreateFillsDefaults(t *testing.T) {
	c, _ := newCluster(t, 2)
	must(c.AlterClusterConfigs(t.Context(), model.NoNode, []ConfigOp{{Name: "num.partitions", Value: "3"}, {Name: "default.replication.factor", Value: "2"}, {Name: "log.retention.ms", Value: "60000"}}, false) == nil, "alter")
	topic := create(t, c, CreateTopic{Name: "a", Partitions: -1, Replication: -1, Configs: map[string]*string{"segment.ms": ptr("5"), "retention.bytes": nil}})
	if len(topic.Partitions) != 3 || len(topic.Partitions[0].Replicas) != 2 || topic.Config.RetentionTime != time.Minute || topic.Config.SegmentTime != 5*time.Millisecond || len(topic.Overrides) != 1 {
		t.Fatalf("got %+v", topic)
	}
	m := c.Metadata()
	if byName, _ := m.Topic("a"); byName != topic {
		t.Fatal("the topic answered is not the one in the metadata")
	}
	if byID, _ := m.TopicByID(topic.ID); byID != topic || m.Topics()[0] != topic {
		t.Fatal("lookups disagree")
	}
	if p, ok := m.Partition(topic.PartitionID(2)); !ok || p.Shard != 102 {
		t.Fatalf("partition 2: %+v", p)
	}
	if _, ok := m.Partition(topic.PartitionID(3)); ok {
		t.Fatal("a partition beyond the end is there")
	}
}

func TestCreateRefuses(t *testing.T) {
	c, _ := newCluster(t, 1)
	create(t, c, CreateTopic{Name: "there", Partitions: 1, Replication: 1})
	for want, ask := range map[error]CreateTopic{
		ErrTopicExists:        {Name: "there", Partitions: 1, Replication: 1},
		ErrTopicName:          {Name: "a b", Partitions: 1, Replication: 1},
		ErrInvalidPartitions:  {Name: "a", Partitions: 0, Replication: 1},
		ErrInvalidReplication: {Name: "a", Partitions: 1, Replication: 2},
		ErrInternalTopic:      {Name: TopicScripts, Partitions: 1, Replication: 1},
		ErrUnknownConfig:      {Name: "a", Partitions: 1, Replication: 1, Configs: map[string]*string{"x": ptr("1")}},
		ErrInvalidConfig:      {Name: "a", Partitions: 1, Replication: 1, Configs: map[string]*string{"retention.ms": ptr("x")}},
		ErrInvalidAssignment:  {Name: "a", Partitions: -1, Replication: -1, Assignments: map[int32][]model.NodeID{1: {0}}},
	} {
		for _, dry := range []bool{true, false} {
			r, err := c.CreateTopics(t.Context(), []CreateTopic{ask, {Name: "good", Partitions: 1, Replication: 1}}, true)
			if err != nil || !errors.Is(r[0].Err, want) || r[0].Topic != nil || r[1].Err != nil || r[1].Topic == nil {
				t.Errorf("dry %t, want %v: %v, %+v", dry, want, err, r)
			}
		}
	}
	twice := []CreateTopic{{Name: "x", Partitions: 1, Replication: 1}, {Name: "x", Partitions: 2, Replication: 1}}
	if r, err := c.CreateTopics(t.Context(), twice, false); err != nil || !errors.Is(r[0].Err, ErrDuplicate) || !errors.Is(r[1].Err, ErrDuplicate) {
		t.Errorf("named twice: %v, %+v", err, r)
	}
	if n := len(c.Metadata().Topics()); n != 1 {
		t.Errorf("%d topics are there", n)
	}
}

func TestUnknownOutcomeIsNoSentinel(t *testing.T) {
	c, l := newCluster(t, 1)
	l.fail = context.DeadlineExceeded
	if _, err := c.CreateTopics(t.Context(), []CreateTopic{{Name: "a", Partitions: 1, Replication: 1}}, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestDeleteByNameAndID(t *testing.T) {
	c, _ := newCluster(t, 1)
	a := create(t, c, CreateTopic{Name: "a", Partitions: 1, Replication: 1})
	create(t, c, CreateTopic{Name: "b", Partitions: 1, Replication: 1})
	create(t, c, CreateTopic{Name: TopicOffsets, Internal: true, Partitions: 1, Replication: -1})
	c.Lead(core.Leadership{Partition: a.PartitionID(0), Epoch: 3, Serving: true})
	r, err := c.DeleteTopics(t.Context(), []TopicRef{{ID: a.ID}, {Name: "b"}, {Name: "a"}, {Name: "nobody"}, {Name: TopicOffsets}})
	if err != nil || r[0].Err != nil || r[0].Name != "a" || r[1].Err != nil || !errors.Is(r[2].Err, ErrDuplicate) || !errors.Is(r[3].Err, ErrUnknownTopic) || !errors.Is(r[4].Err, ErrInternalTopic) {
		t.Fatalf("%v, %+v", err, r)
	}
	if n := len(c.Metadata().Topics()); n != 1 {
		t.Fatalf("%d topics are left", n)
	}
	if node, _ := c.Leader(a.PartitionID(0)); node != model.NoNode {
		t.Fatalf("a deleted partition is led by %d", node)
	}
}

func TestGrow(t *testing.T) {
	c, _ := newCluster(t, 1)
	create(t, c, CreateTopic{Name: "a", Partitions: 1, Replication: 1})
	if would, err := c.CreatePartitions(t.Context(), CreatePartitions{Name: "a", Count: 4}, true); err != nil || len(would.Partitions) != 4 {
		t.Fatalf("dry: %+v, %v", would, err)
	}
	if now, _ := c.Metadata().Topic("a"); len(now.Partitions) != 1 {
		t.Fatal("a dry run grew it")
	}
	if grown, err := c.CreatePartitions(t.Context(), CreatePartitions{Name: "a", Count: 4}, false); err != nil || len(grown.Partitions) != 4 {
		t.Fatalf("%+v, %v", grown, err)
	}
	for want, ask := range map[error]CreatePartitions{ErrInvalidPartitions: {Name: "a", Count: 4}, ErrUnknownTopic: {Name: "b", Count: 4}, ErrInvalidAssignment: {Name: "a", Count: 5, Assignments: [][]model.NodeID{{9}}}} {
		if _, err := c.CreatePartitions(t.Context(), ask, false); !errors.Is(err, want) {
			t.Errorf("want %v, got %v", want, err)
		}
	}
}

func TestAlterTopicConfigs(t *testing.T) {
	c, _ := newCluster(t, 1)
	create(t, c, CreateTopic{Name: "a", Partitions: 1, Replication: 1})
	create(t, c, CreateTopic{Name: TopicOffsets, Internal: true, Partitions: 1, Replication: -1})
	alter := func(dry bool, ops ...ConfigOp) (*Topic, error) {
		return c.AlterTopicConfigs(t.Context(), "a", ops, dry)
	}
	if got, err := alter(true, ConfigOp{Name: "cleanup.policy", Kind: OpAppend, Value: "compact"}); err != nil || !got.Config.Compact || !got.Config.Delete {
		t.Fatalf("dry append: %+v, %v", got, err)
	}
	if now, _ := c.Metadata().Topic("a"); now.Config.Compact {
		t.Fatal("a dry run changed it")
	}
	if got, err := alter(false, ConfigOp{Name: "cleanup.policy", Kind: OpAppend, Value: "compact"}, ConfigOp{Name: "retention.ms", Value: "9"}); err != nil || got.Overrides["cleanup.policy"] != "delete,compact" || got.Config.RetentionTime != 9*time.Millisecond {
		t.Fatalf("append: %+v, %v", got, err)
	}
	if got, err := alter(false, ConfigOp{Name: "cleanup.policy", Kind: OpSubtract, Value: "delete"}, ConfigOp{Name: "retention.ms", Kind: OpDelete}); err != nil || got.Config.Delete || got.Config.RetentionTime != 7*24*time.Hour {
		t.Fatalf("subtract: %+v, %v", got, err)
	}
	for _, ops := range [][]ConfigOp{
		{{Name: "cleanup.policy", Kind: OpSubtract, Value: "compact"}},
		{{Name: "retention.ms", Kind: OpAppend, Value: "1"}},
		{{Name: "retention.ms", Value: "1"}, {Name: "retention.ms", Kind: OpDelete}},
		{{Name: "retention.ms", Value: "-5"}},
		{{Name: "min.compaction.lag.ms", Value: "9"}, {Name: "max.compaction.lag.ms", Value: "8"}},
	} {
		if _, err := alter(false, ops...); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("%+v: %v", ops, err)
		}
	}
	if _, err := c.AlterTopicConfigs(t.Context(), TopicOffsets, nil, false); !errors.Is(err, ErrInternalTopic) {
		t.Errorf("an internal topic: %v", err)
	}
	if got, err := c.ReplaceTopicConfigs(t.Context(), "a", map[string]string{"segment.ms": "4"}, false); err != nil || len(got.Overrides) != 1 || !got.Config.Delete {
		t.Errorf("replace: %+v, %v", got, err)
	}
}

// Another proposer's change between reading and applying: it is worked out anew.
func TestAlterRepeatsOnConflict(t *testing.T) {
	c, l := newCluster(t, 1)
	a := create(t, c, CreateTopic{Name: "a", Partitions: 1, Replication: 1})
	l.before = func() {
		cmd, err := controller.Command{SetTopicConfigs: &controller.SetTopicConfigs{ID: a.ID, Revision: a.Revision, Set: map[string]string{"cleanup.policy": "compact"}}}.Encode()
		must(err == nil, "encode: %v", err)
		l.apply(cmd)
	}
	got, err := c.AlterTopicConfigs(t.Context(), "a", []ConfigOp{{Name: "cleanup.policy", Kind: OpAppend, Value: "delete"}}, false)
	if err != nil || got.Overrides["cleanup.policy"] != "compact,delete" {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestClusterConfigsReachTopicsAndNodes(t *testing.T) {
	c, _ := newCluster(t, 2)
	create(t, c, CreateTopic{Name: "a", Partitions: 1, Replication: 1})
	set := func(node model.NodeID, name, value string) error {
		return c.AlterClusterConfigs(t.Context(), node, []ConfigOp{{Name: name, Value: value}}, false)
	}
	must(set(model.NoNode, "log.retention.ms", "5") == nil, "set")
	if a, _ := c.Metadata().Topic("a"); a.Config.RetentionTime != 5*time.Millisecond {
		t.Fatalf("retention is %v", a.Config.RetentionTime)
	}
	must(set(1, "log.retention.ms", "6") == nil, "set")
	if a, _ := c.Metadata().Topic("a"); a.Config.RetentionTime != 5*time.Millisecond {
		t.Fatal("another node's override holds here")
	}
	must(set(0, "log.retention.ms", "7") == nil, "set")
	a, _ := c.Metadata().Topic("a")
	if a.Config.RetentionTime != 7*time.Millisecond {
		t.Fatal("this node's override does not hold")
	}
	for _, v := range c.Metadata().DescribeTopic(a, 0) {
		if v.Row.Name == "retention.ms" && (v.Value != "7" || len(v.Synonyms) != 3) {
			t.Fatalf("described as %+v", v)
		}
	}
	if err := set(model.NoNode, "retention.ms", "5"); !errors.Is(err, ErrUnknownConfig) {
		t.Errorf("a topic's name: %v", err)
	}
	if err := set(9, "log.retention.ms", "5"); !errors.Is(err, ErrInvalidNode) {
		t.Errorf("an unknown node: %v", err)
	}
	must(c.ReplaceClusterConfigs(t.Context(), 0, nil, false) == nil, "replace")
	if m := c.Metadata(); len(m.NodeOverrides[0]) != 0 || m.ClusterOverrides["log.retention.ms"] != "5" {
		t.Errorf("after the replacement: %v, %v", m.NodeOverrides, m.ClusterOverrides)
	}
}

// What another version of Millrace accepted must not stop this one.
func TestOverridesOfAnotherVersion(t *testing.T) {
	c, l := newCluster(t, 1)
	var lines bytes.Buffer
	c.o.Log = slog.New(slog.NewTextHandler(&lines, nil))
	a := create(t, c, CreateTopic{Name: "a", Partitions: 1, Replication: 1})
	for _, cmd := range []controller.Command{
		{SetTopicConfigs: &controller.SetTopicConfigs{ID: a.ID, Revision: a.Revision, Set: map[string]string{"from.the.future": "1", "retention.ms": "5", "compression.type": "brotli"}}},
		{SetClusterConfigs: &controller.SetClusterConfigs{Node: -1, Set: map[string]string{"cluster.future": "1", "num.partitions": "2"}}},
	} {
		b, err := cmd.Encode()
		must(err == nil, "encode: %v", err)
		if _, err := l.ProposeController(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	m := c.Metadata()
	if a, _ := m.Topic("a"); a.Config.RetentionTime != 5*time.Millisecond || a.Config.Compression != "producer" || m.Cluster.Partitions != 2 {
		t.Fatalf("got %+v, %+v", a.Config, m.Cluster)
	}
	if n := strings.Count(lines.String(), "setting=from.the.future"); n != 1 {
		t.Fatalf("the unknown setting is logged %d times", n)
	}
	if _, err := c.AlterTopicConfigs(t.Context(), "a", []ConfigOp{{Name: "from.the.future", Kind: OpDelete}}, false); err != nil {
		t.Fatalf("it cannot be taken back: %v", err)
	}
}

func TestWatchTicksOncePerBurst(t *testing.T) {
	c, _ := newCluster(t, 1)
	changed, cancel := c.Watch()
	for i := range 3 {
		create(t, c, CreateTopic{Name: fmt.Sprint("t", i), Partitions: 1, Replication: 1})
	}
	<-changed
	select {
	case <-changed:
		t.Fatal("three changes ticked twice")
	default:
	}
	c.SetController(0)
	<-changed
	cancel()
	cancel()
	c.SetController(1)
	select {
	case <-changed:
		t.Fatal("a cancelled watch ticks")
	default:
	}
	if c.Metadata().Controller != 1 || len(c.Metadata().Topics()) != 3 {
		t.Fatal("the controller's change lost something")
	}
}

func TestLeader(t *testing.T) {
	c, _ := newCluster(t, 1)
	id := create(t, c, CreateTopic{Name: "a", Partitions: 1, Replication: 1}).PartitionID(0)
	for _, s := range []struct {
		e     core.Leadership
		node  model.NodeID
		epoch model.LeaderEpoch
	}{
		{core.Leadership{Epoch: 2, Serving: false}, model.NoNode, model.NoEpoch},
		{core.Leadership{Epoch: 2, Serving: true}, 0, 2},
		{core.Leadership{Epoch: 1, Serving: false}, 0, 2}, // late
		{core.Leadership{Epoch: 3, Serving: true}, 0, 3},
		{core.Leadership{Epoch: 3, Serving: false}, model.NoNode, 3},
		{core.Leadership{Epoch: 2, Serving: true}, model.NoNode, 3}, // late
	} {
		s.e.Partition = id
		c.Lead(s.e)
		if node, epoch := c.Leader(id); node != s.node || epoch != s.epoch {
			t.Fatalf("after %+v: %d, %d", s.e, node, epoch)
		}
	}
}

func TestScripts(t *testing.T) {
	c, l := newCluster(t, 1)
	create(t, c, CreateTopic{Name: "orders", Partitions: 2, Replication: 1})
	deploy := func(s controller.Script, expect model.Activation) (Deployed, error) {
		s.Digest = model.Digest{1}
		return c.DeployScript(t.Context(), Deploy{Script: s, Expect: expect})
	}
	d, err := deploy(controller.Script{Name: "scrub", Mode: controller.ModeAsync, Inputs: []string{"orders"}, Outputs: []controller.Output{{Topic: "orders.scrub"}}}, 0)
	if err != nil || d.Script.Outputs[0].Partitions != 2 || d.Script.Created != 7 {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, ok := c.Metadata().Topic("orders.scrub"); !ok {
		t.Fatal("the child is not there")
	}
	if _, err := deploy(controller.Script{Name: "loop", Mode: controller.ModeAsync, Inputs: []string{"orders.scrub"}, Outputs: []controller.Output{{Topic: "orders"}}}, 0); !errors.Is(err, ErrCycle) {
		t.Fatalf("a cycle: %v", err)
	}
	if _, err := deploy(controller.Script{Name: "out", Mode: controller.ModeAsync, Inputs: []string{"orders"}, Outputs: []controller.Output{{Topic: TopicPacemaker}}}, 0); !errors.Is(err, ErrInternalTopic) {
		t.Fatalf("an internal output: %v", err)
	}
	for _, name := range []string{"z", "y"} {
		if _, err := deploy(controller.Script{Name: name, Mode: controller.ModeSync, Inputs: []string{"orders"}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	orders, _ := c.Metadata().Topic("orders")
	if len(orders.SyncScripts) != 2 || orders.SyncScripts[0].Name != "y" || orders.SyncScripts[1].Name != "z" {
		t.Fatalf("sync scripts: %+v", orders.SyncScripts)
	}
	child, _ := c.Metadata().Topic("orders.scrub")
	if r, err := c.RemoveScript(t.Context(), "y"); err != nil || !r.Script.Removing {
		t.Fatalf("%+v, %v", r, err)
	} else if err := c.DropScript(t.Context(), "y", r.Script.Activation); err != nil {
		t.Fatal(err)
	}
	if now, _ := c.Metadata().Topic("orders"); len(now.SyncScripts) != 1 || len(orders.SyncScripts) != 2 {
		t.Fatal("the removal is not seen, or an old snapshot changed")
	}
	if now, _ := c.Metadata().Topic("orders.scrub"); now != child {
		t.Fatal("a topic that did not change is another record")
	}
	restored(t, c, l)
}

// restored checks that a snapshot gives another node the same metadata.
func restored(t *testing.T, c *Cluster, l *log) {
	t.Helper()
	snapshot, err := l.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	other, _ := newCluster(t, 0)
	if err := other.StateMachine().Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	again, _ := other.StateMachine().Snapshot()
	if !bytes.Equal(snapshot, again) || other.Metadata().Version != c.Metadata().Version || len(other.Metadata().Topics()) != len(c.Metadata().Topics()) {
		t.Fatal("the restored state is another")
	}
	replayed, rl := newCluster(t, 0)
	rl.machine = replayed.StateMachine()
	for _, cmd := range l.cmds {
		rl.apply(cmd)
	}
	if b, _ := rl.machine.Snapshot(); !bytes.Equal(b, snapshot) {
		t.Fatal("the replayed state is another")
	}
}

func TestApplyRefusesGarbage(t *testing.T) {
	c, l := newCluster(t, 1)
	before := c.Metadata()
	for _, cmd := range []string{"", "{", "{}", `{"v":99}`, `{"v":1}`} {
		r, err := controller.DecodeResult(l.apply([]byte(cmd)))
		if err != nil || !errors.Is(r.Refused.Err(), controller.ErrCommand) {
			t.Errorf("%q: %+v, %v", cmd, r, err)
		}
	}
	if c.Metadata() != before {
		t.Error("garbage published a snapshot")
	}
}

func TestProducerIDsNeverMeet(t *testing.T) {
	c, _ := newCluster(t, 1)
	seen := map[model.ProducerID]bool{}
	for range 5 {
		first, count, err := c.ProducerIDs(t.Context())
		if err != nil || count != producersPerBlock {
			t.Fatal(count, err)
		}
		for i := range count {
			id := first + model.ProducerID(i)
			if seen[id] {
				t.Fatalf("%d is given twice", id)
			}
			seen[id] = true
		}
	}
}

// Readers, leadership and the controller's own change run beside applies; a
// snapshot that was read stays whole. Worth its while under -race.
func TestReadersBesideApplies(t *testing.T) {
	c, _ := newCluster(t, 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for { // at least one round, however late this goroutine first runs
				m := c.Metadata()
				for _, topic := range m.Topics() {
					if byID, ok := m.TopicByID(topic.ID); !ok || byID != topic {
						t.Error("a snapshot is not whole")
					}
					c.Lead(Leadership{Partition: topic.PartitionID(0), Epoch: 1, Serving: i == 0})
					c.Leader(topic.PartitionID(0))
				}
				c.SetController(model.NodeID(i))
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 50 {
		create(t, c, CreateTopic{Name: fmt.Sprint("t", i), Partitions: 1, Replication: 1})
	}
	close(stop)
	wg.Wait()
	if m := c.Metadata(); len(m.Topics()) != 50 || m.Controller == model.NoNode {
		t.Fatalf("%d topics, controller %d", len(m.Topics()), m.Controller)
	}
}
