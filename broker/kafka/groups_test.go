package kafka

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/coordinator"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/produce"
)

// groupLog is a node's logs as the coordinator asks for them.
type groupLog struct{ *fakeLog }

type groupAppending struct{ Pending }

func (a groupAppending) Err() error { return a.Result().Err }

func (l groupLog) Append(id model.PartitionID, batch []byte, _ time.Duration) coordinator.Appending {
	return groupAppending{l.Start(produce.Ask{Partition: id, Records: batch, Internal: true})}
}

func (l groupLog) Read(ctx context.Context, id model.PartitionID, from model.Offset, bytesMax int) (coordinator.Chunk, error) {
	a := l.Fetch(ctx, fetch.Ask{BytesMax: bytesMax, Partitions: []fetch.PartitionAsk{{Partition: id, From: max(0, from), BytesMax: bytesMax}}})[0]
	return coordinator.Chunk{Records: a.Records, Start: a.LogStart, End: a.HighWatermark}, a.Err
}

func (l groupLog) Barrier(context.Context, model.PartitionID) error { return nil }

// groupCluster makes a node coordinate what it creates.
type groupCluster struct {
	*fakeNode
	groups *coordinator.Service
}

func (c *groupCluster) CreateTopics(ctx context.Context, asks []cluster.CreateTopic, validateOnly bool) ([]cluster.TopicResult, error) {
	results, err := c.fakeNode.CreateTopics(ctx, asks, validateOnly)
	for _, t := range c.Metadata().Topics() {
		for _, p := range t.Partitions {
			c.groups.Lead(coordinator.Leadership{Partition: t.PartitionID(p.Index), Epoch: 1, Serving: true})
		}
	}
	return results, err
}

// newGroupNode is a node with groups whose first rebalance does not wait.
func newGroupNode(t *testing.T) *fakeNode {
	t.Helper()
	c := &groupCluster{}
	n := newFakeNode(t, func(o *Options) {
		c.fakeNode = o.Cluster.(*fakeNode)
		c.groups = coordinator.New(coordinator.Options{
			Log: groupLog{c.log}, Cluster: c, Logger: slog.New(slog.DiscardHandler),
		})
		t.Cleanup(c.groups.Close)
		o.Groups = c.groups
	})
	err := n.AlterClusterConfigs(t.Context(), model.NoNode, []cluster.ConfigOp{
		{Name: "group.initial.rebalance.delay.ms", Kind: cluster.OpSet, Value: "0"},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// coordinate waits until the group is served.
func coordinate(t *testing.T, w *wire, name string) {
	t.Helper()
	for {
		ask := newRequest(10, 0).(*kmsg.FindCoordinatorRequest)
		ask.CoordinatorKey = name
		if a := w.ask(ask, 0).(*kmsg.FindCoordinatorResponse); a.ErrorCode != 0 {
			continue
		}
		fetch := newRequest(9, 7).(*kmsg.OffsetFetchRequest)
		fetch.Group = name
		if a := w.ask(fetch, 7).(*kmsg.OffsetFetchResponse); a.ErrorCode == 0 {
			return
		}
	}
}

func TestClientsShareTopic(t *testing.T) {
	n := newGroupNode(t)
	n.topic(t, "words", 4)
	p := client(t, n, kgo.DefaultProduceTopic("words"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	const count = 200
	for i := range count {
		p.Produce(t.Context(), kgo.StringRecord(strconv.Itoa(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	seen := map[string]int{}
	consume := func(c *kgo.Client) {
		for ctx.Err() == nil {
			f := c.PollFetches(ctx)
			mu.Lock()
			f.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
			if len(seen) == count {
				cancel()
			}
			mu.Unlock()
		}
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("words"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	}
	a := client(t, n, append(options, kgo.InstanceID("one"))...)
	b := client(t, n, options...)
	var wait sync.WaitGroup
	wait.Go(func() { consume(a) })
	wait.Go(func() { consume(b) })
	wait.Wait()
	for _, c := range []*kgo.Client{a, b} {
		if err := c.CommitUncommittedOffsets(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	checkWithAdmin(t, n, a, b)
}

// checkWithAdmin looks at the group with an admin's eyes, and takes it apart.
func checkWithAdmin(t *testing.T, n *fakeNode, a, b *kgo.Client) {
	t.Helper()
	adm := kadm.NewClient(client(t, n))
	listed, err := adm.ListGroups(t.Context())
	if err != nil || len(listed) != 1 || listed["readers"].ProtocolType != "consumer" {
		t.Fatalf("listed %+v, %v", listed, err)
	}
	described, err := adm.DescribeGroups(t.Context(), "readers", "nobody")
	if err != nil || len(described["readers"].Members) == 0 || described["nobody"].Err == nil {
		t.Fatalf("described %+v, %v", described, err)
	}
	offsets, err := adm.FetchOffsets(t.Context(), "readers")
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
	if sum != 200 {
		t.Errorf("committed offsets add up to %d, want 200: %+v", sum, offsets)
	}
	if d, err := adm.DeleteGroups(t.Context(), "readers"); err != nil || d["readers"].Err == nil {
		t.Fatalf("a group with members was deleted: %+v, %v", d, err)
	}
	if d, err := adm.DeleteOffsets(t.Context(), "readers", kadm.TopicsSet{"words": {0: {}}}); err != nil || d["words"][0] == nil {
		t.Fatalf("offsets that are in use were deleted: %+v, %v", d, err)
	}
	b.Close()
	a.Close() // a static member does not leave by itself
	if _, err := adm.LeaveGroup(t.Context(), kadm.LeaveGroup("readers").InstanceIDs("one").Reason("test")); err != nil {
		t.Fatal(err)
	}
	if d, err := adm.DeleteOffsets(t.Context(), "readers", kadm.TopicsSet{"words": {0: {}}}); err != nil || d["words"][0] != nil {
		t.Fatalf("offsets: %+v, %v", d, err)
	}
	if d, err := adm.DeleteGroups(t.Context(), "readers", "nobody"); err != nil || d["readers"].Err != nil || d["nobody"].Err == nil {
		t.Fatalf("deleted: %+v, %v", d, err)
	}
}

func TestOffsetsInEveryVersion(t *testing.T) {
	n := newGroupNode(t)
	topic := n.topic(t, "a", 1)
	w := dialWire(t, n.addr)
	coordinate(t, w, "g")
	for v := int16(2); v <= 10; v++ {
		m := newRequest(8, v).(*kmsg.OffsetCommitRequest)
		m.Default()
		m.SetVersion(v)
		m.Group = "g"
		for _, index := range []int32{0, 7} {
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Partition, part.Offset, part.Metadata = index, int64(v), kmsg.StringPtr("m")
			if len(m.Topics) == 0 {
				m.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "a", TopicID: topic.ID}, {Topic: "gone", TopicID: [16]byte{9}}}
			}
			m.Topics[0].Partitions = append(m.Topics[0].Partitions, part)
			m.Topics[1].Partitions = append(m.Topics[1].Partitions, part)
		}
		a := w.ask(m, v).(*kmsg.OffsetCommitResponse)
		gone := codeUnknownTopicOrPartition
		if v >= 10 {
			gone = codeUnknownTopicID
		}
		for i, want := range []int16{0, codeUnknownTopicOrPartition, gone, gone} {
			if got := a.Topics[i/2].Partitions[i%2].ErrorCode; got != want {
				t.Errorf("commit v%d: partition %d has code %d, want %d", v, i, got, want)
			}
		}
	}
	for v := int16(1); v <= 10; v++ {
		checkOffsetFetch(t, w, v, topic.ID, false)
		if v >= 2 {
			checkOffsetFetch(t, w, v, topic.ID, true)
		}
	}
}

// checkOffsetFetch asks for a/0, which is at 10, and a/7, which is not there, or
// for all.
func checkOffsetFetch(t *testing.T, w *wire, v int16, id [16]byte, all bool) {
	t.Helper()
	m := newRequest(9, v).(*kmsg.OffsetFetchRequest)
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, m.Group = "g", "g"
	if !all {
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "a", TopicID: id, Partitions: []int32{7, 0}}}
		m.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "a", Partitions: []int32{7, 0}}}
	}
	m.Groups = []kmsg.OffsetFetchRequestGroup{g}
	a := w.ask(m, v).(*kmsg.OffsetFetchResponse)
	got := map[int32]int64{}
	if v < 8 {
		for _, p := range a.Topics[0].Partitions {
			got[p.Partition] = p.Offset
		}
	} else {
		if v >= 10 && a.Groups[0].Topics[0].TopicID != id {
			t.Errorf("fetch v%d: topic %x", v, a.Groups[0].Topics[0].TopicID)
		}
		for _, p := range a.Groups[0].Topics[0].Partitions {
			got[p.Partition] = p.Offset
		}
	}
	if got[0] != 10 || len(got) == 2 && got[7] != -1 || all == (len(got) == 2) {
		t.Errorf("fetch v%d, all %v: %v", v, all, got)
	}
}

// TestMembershipInEveryVersion takes one member through its life in the versions
// of each generation of clients.
func TestMembershipInEveryVersion(t *testing.T) {
	n := newGroupNode(t)
	w := dialWire(t, n.addr)
	coordinate(t, w, "nobody")
	for v := int16(0); v <= 9; v++ {
		name := "g" + strconv.Itoa(int(v))
		coordinate(t, w, name)
		j := newRequest(11, v).(*kmsg.JoinGroupRequest)
		j.Group, j.ProtocolType, j.SessionTimeoutMillis, j.RebalanceTimeoutMillis = name, "consumer", 10_000, 10_000
		j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("x")}}
		a := w.ask(j, v).(*kmsg.JoinGroupResponse)
		if v >= 4 {
			if a.ErrorCode != codeMemberIDRequired || a.MemberID == "" {
				t.Fatalf("join v%d: %+v", v, a)
			}
			j.MemberID = a.MemberID
			a = w.ask(j, v).(*kmsg.JoinGroupResponse)
		}
		if a.ErrorCode != 0 || a.Generation != 1 || a.LeaderID != a.MemberID || len(a.Members) != 1 || *a.Protocol != "range" {
			t.Fatalf("join v%d: %+v", v, a)
		}
		checkMember(t, w, v, name, a.MemberID)
	}
}

func checkMember(t *testing.T, w *wire, v int16, name, id string) {
	t.Helper()
	s := newRequest(14, min(v, 5)).(*kmsg.SyncGroupRequest)
	s.Group, s.Generation, s.MemberID = name, 1, id
	s.ProtocolType, s.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	s.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: id, MemberAssignment: []byte("all")}}
	if a := w.ask(s, s.Version).(*kmsg.SyncGroupResponse); a.ErrorCode != 0 || string(a.MemberAssignment) != "all" {
		t.Fatalf("sync v%d: %+v", s.Version, a)
	}
	h := newRequest(12, min(v, 4)).(*kmsg.HeartbeatRequest)
	h.Group, h.Generation, h.MemberID = name, 1, id
	if a := w.ask(h, h.Version).(*kmsg.HeartbeatResponse); a.ErrorCode != 0 {
		t.Fatalf("heartbeat v%d: %+v", h.Version, a)
	}
	d := newRequest(15, min(v, 6)).(*kmsg.DescribeGroupsRequest)
	d.Groups = []string{name}
	if a := w.ask(d, d.Version).(*kmsg.DescribeGroupsResponse); a.Groups[0].State != "Stable" || string(a.Groups[0].Members[0].MemberAssignment) != "all" {
		t.Fatalf("describe v%d: %+v", d.Version, a)
	}
	l := newRequest(16, min(v, 5)).(*kmsg.ListGroupsRequest)
	if l.StatesFilter = []string{"stable"}; l.Version >= 5 {
		l.TypesFilter = []string{"Classic"}
	}
	if a := w.ask(l, l.Version).(*kmsg.ListGroupsResponse); len(a.Groups) == 0 {
		t.Fatalf("list v%d: %+v", l.Version, a)
	}
	g := newRequest(13, min(v, 5)).(*kmsg.LeaveGroupRequest)
	g.Group, g.MemberID = name, id
	g.Members = []kmsg.LeaveGroupRequestMember{{MemberID: id}, {MemberID: "x"}}
	a := w.ask(g, g.Version).(*kmsg.LeaveGroupResponse)
	if a.ErrorCode != 0 || g.Version >= 3 && (a.Members[0].ErrorCode != 0 || a.Members[1].ErrorCode != codeUnknownMemberID) {
		t.Fatalf("leave v%d: %+v", g.Version, a)
	}
	x := newRequest(42, min(v, 2)).(*kmsg.DeleteGroupsRequest)
	x.Groups = []string{name, "nobody"}
	if a := w.ask(x, x.Version).(*kmsg.DeleteGroupsResponse); a.Groups[0].ErrorCode != 0 || a.Groups[1].ErrorCode != codeGroupIDNotFound {
		t.Fatalf("delete v%d: %+v", x.Version, a)
	}
}

func TestCoordinatorsOfAllKinds(t *testing.T) {
	n := newGroupNode(t)
	w := dialWire(t, n.addr)
	for v := int16(0); v <= 6; v++ {
		for kind, want := range map[int8]int16{0: 0, 1: codeTransactionalIDDenied, 7: codeInvalidRequest} {
			if v == 0 && kind != 0 {
				continue
			}
			m := newRequest(10, v).(*kmsg.FindCoordinatorRequest)
			m.CoordinatorKey, m.CoordinatorKeys, m.CoordinatorType = "k", []string{"k", "l"}, kind
			a := w.ask(m, v).(*kmsg.FindCoordinatorResponse)
			got, host, port := a.ErrorCode, a.Host, a.Port
			if v >= 4 {
				got, host, port = a.Coordinators[1].ErrorCode, a.Coordinators[1].Host, a.Coordinators[1].Port
			}
			if got != want || want == 0 && (host == "" || port <= 0) {
				t.Errorf("v%d type %d: %+v", v, kind, a)
			}
		}
	}
}

// TestRandomGroupRequestsAreAnswered asks every group key in every version.
func TestRandomGroupRequestsAreAnswered(t *testing.T) {
	n := newGroupNode(t)
	n.topic(t, "a", 1)
	w := dialWire(t, n.addr)
	coordinate(t, w, "")
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, row := range groupRows() {
		for v := row.min; v <= row.max; v++ {
			for range 5 {
				m := randomRequest(rnd, row.key, v)
				if j, ok := m.(*kmsg.JoinGroupRequest); ok {
					j.SessionTimeoutMillis = 1 // else it waits for members that never come
				}
				w.ask(m, v)
			}
		}
	}
}

func TestWithoutGroupsTheyAreNotAdvertised(t *testing.T) {
	n := newFakeNode(t, nil)
	a := dialWire(t, n.addr).ask(newRequest(18, 0), 0).(*kmsg.ApiVersionsResponse)
	for _, k := range a.ApiKeys {
		if k.ApiKey == 11 {
			t.Error("JoinGroup is advertised")
		}
	}
}
