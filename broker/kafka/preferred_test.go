package kafka

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// racked is node 0 in rack a, which leads a topic of two partitions; nodes 1 and 2 have
// replicas in racks b and c, of which the first alone has a listener "out". Each
// partition holds two records of one batch each.
type racked struct {
	*fakeNode
	topic *cluster.Topic
	late  atomic.Int64 // node that is not in sync
	now   atomic.Int64 // seconds
}

func newRacked(t *testing.T) *racked {
	t.Helper()
	r := &racked{}
	r.late.Store(-1)
	r.fakeNode = newFakeNode(t, func(o *Options) {
		o.InSync = func(id model.PartitionID, node model.NodeID) bool {
			return id.Topic == r.topic.ID && int64(node) != r.late.Load()
		}
		o.Now = func() time.Time { return time.Unix(r.now.Load(), 0) }
	})
	own, _ := r.Metadata().Node(0)
	own.Rack = "a"
	enter(t, r.fakeNode, own)
	enter(t, r.fakeNode, cluster.Node{ID: 1, Host: "h", Port: 1, Rack: "b", Listeners: []controller.Listener{{Name: "out", Host: "o", Port: 1}}})
	enter(t, r.fakeNode, cluster.Node{ID: 2, Host: "h", Port: 2, Rack: "c"})
	made, err := r.CreateTopics(t.Context(), []cluster.CreateTopic{{Name: "t", Partitions: 2, Replication: 3}}, false)
	if err != nil || made[0].Err != nil {
		t.Fatal(err, made)
	}
	r.topic = made[0].Topic
	w := dialWire(t, r.addr)
	for i := range 4 {
		a := w.ask(produceRequest("t", -1, int32(i%2), []byte("x")), 9).(*kmsg.ProduceResponse)
		if a.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("%+v", a)
		}
	}
	return r
}

func (r *racked) selector(t *testing.T, class string) {
	t.Helper()
	err := r.AlterClusterConfigs(t.Context(), model.NoNode, []cluster.ConfigOp{
		{Name: "replica.selector.class", Kind: cluster.OpSet, Value: "org.apache.kafka.common.replica." + class},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
}

// fetch asks for partition 0 from a rack, and gives where it should be read and what
// came.
func (r *racked) fetch(t *testing.T, w *wire, v int16, rack string, from int64) (preferred int32, records int) {
	t.Helper()
	f := fetchOf(r.topic, 0, from)
	f.Rack, f.MinBytes = rack, 1
	p := w.ask(f, v).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	if from <= 2 && (p.ErrorCode != 0 || p.HighWatermark != 2 || v >= 5 && p.LogStartOffset != 0) {
		t.Fatalf("%+v", p)
	}
	return p.PreferredReadReplica, len(p.RecordBatches)
}

func TestPreferredReplica(t *testing.T) {
	r := newRacked(t)
	in, out := r.addr, serveAs(t, r.fakeNode, "out").nc.RemoteAddr().String()
	const aware = "RackAwareReplicaSelector"
	for name, c := range map[string]struct {
		selector, addr, rack string
		v                    int16
		from                 int64
		late                 int64
		want                 int32
	}{
		"another rack":        {aware, in, "b", 11, 0, -1, 1},
		"the third":           {aware, in, "c", 18, 1, -1, 2},
		"at the end":          {aware, in, "b", 12, 2, -1, 1},
		"beyond the end":      {aware, in, "b", 12, 3, -1, -1},
		"the leader's rack":   {aware, in, "a", 12, 0, -1, -1},
		"a strange rack":      {aware, in, "z", 12, 0, -1, -1},
		"no rack":             {aware, in, "", 12, 0, -1, -1},
		"an old client":       {aware, in, "b", 10, 0, -1, -1},
		"one that is behind":  {aware, in, "b", 12, 0, 1, -1},
		"another is behind":   {aware, in, "b", 12, 0, 2, 1},
		"a named listener":    {aware, out, "b", 12, 0, -1, 1},
		"a listener it lacks": {aware, out, "c", 12, 0, -1, -1},
		"switched off":        {"LeaderSelector", in, "b", 12, 0, -1, -1},
	} {
		t.Run(name, func(t *testing.T) {
			r.selector(t, c.selector)
			r.late.Store(c.late)
			preferred, records := r.fetch(t, dialWire(t, c.addr), c.v, c.rack, c.from)
			if preferred != c.want || (records > 0) != (c.want < 0 && c.from < 2) {
				t.Errorf("sent to %d with %d bytes, want %d", preferred, records, c.want)
			}
			r.log.mu.Lock()
			last := r.log.asked[len(r.log.asked)-1]
			r.log.mu.Unlock()
			if last.Replicas != (c.v >= 11) {
				t.Errorf("version %d: replicas may answer: %v", c.v, last.Replicas)
			}
		})
	}
}

// TestSentAwayInVain: who comes back where he was sent away from is served for a while.
func TestSentAwayInVain(t *testing.T) {
	r := newRacked(t)
	r.selector(t, "RackAwareReplicaSelector")
	w := dialWire(t, r.addr)
	for _, c := range []struct {
		at, from int64
		want     int32
	}{
		{0, 0, 1},
		{29, 0, -1}, // back
		{30, 1, -1}, // and gets on
		{58, 2, -1},
		{59, 2, 1}, // stayFor has passed
		{60, 1, 1}, // he was elsewhere
		{90, 1, 1}, // awayMax has passed
		{91, 1, -1},
	} {
		r.now.Store(c.at)
		if got, records := r.fetch(t, w, 12, "b", c.from); got != c.want || (records > 0) != (c.want < 0 && c.from < 2) {
			t.Errorf("%d s, from %d: sent to %d with %d bytes, want %d", c.at, c.from, got, records, c.want)
		}
	}
	if got, _ := r.fetch(t, dialWire(t, r.addr), 12, "b", 1); got != 1 {
		t.Errorf("another connection: sent to %d", got)
	}
}

// TestSessionTellsPreferred: a session that goes on tells it, though nothing else is new.
func TestSessionTellsPreferred(t *testing.T) {
	r := newRacked(t)
	w := dialWire(t, r.addr)
	f := fetchOf(r.topic, 0, 2)
	f.Rack, f.SessionEpoch = "b", 0
	first := w.ask(f, 12).(*kmsg.FetchResponse)
	if first.SessionID == 0 || first.Topics[0].Partitions[0].PreferredReadReplica != -1 {
		t.Fatalf("%+v", first)
	}
	f.SessionID, f.Topics = first.SessionID, nil
	for i, want := range []int{0, 1} {
		f.SessionEpoch = int32(i + 1)
		a := w.ask(f, 12).(*kmsg.FetchResponse)
		if len(a.Topics) != want || want > 0 && a.Topics[0].Partitions[0].PreferredReadReplica != 1 {
			t.Errorf("fetch %d of the session: %+v", i+1, a)
		}
		r.selector(t, "RackAwareReplicaSelector")
	}
}

// TestLedElsewhere: only who leads sends consumers on.
func TestLedElsewhere(t *testing.T) {
	r := newRacked(t)
	r.selector(t, "RackAwareReplicaSelector")
	r.Hear(cluster.Announcement{Node: 2, Boot: 1, Sequence: 1, Served: []cluster.Led{{Partition: r.topic.PartitionID(0), Epoch: 2}}})
	if got, records := r.fetch(t, dialWire(t, r.addr), 12, "b", 0); got != -1 || records == 0 {
		t.Errorf("sent to %d with %d bytes", got, records)
	}
}

// TestReplicaBehind: a replica that is behind its consumer says so after a second, not
// before, with the leader's name, and waits for what comes meanwhile.
func TestReplicaBehind(t *testing.T) {
	r := newRacked(t)
	r.log.mu.Lock()
	r.log.replica = true
	r.log.mu.Unlock()
	r.Hear(cluster.Announcement{Node: 2, Boot: 1, Sequence: 1, Served: []cluster.Led{{Partition: r.topic.PartitionID(0), Epoch: 2}}})
	w := dialWire(t, r.addr)
	f := fetchOf(r.topic, 0, 3)
	f.Rack = "b"
	for _, c := range []struct {
		at   int64
		from int64
		want int16
	}{
		{0, 3, codeNone},
		{0, 3, codeNone},
		{1, 3, codeOffsetNotAvailable},
		{1, 3, codeNone}, // he has been told
		{2, 2, codeNone}, // it is there
		{3, 3, codeNone},
		{4, 3, codeOffsetNotAvailable},
	} {
		r.now.Store(c.at)
		f.Topics[0].Partitions[0].FetchOffset = c.from
		p := w.ask(f, 12).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		back := int32(-1)
		if c.want != codeNone {
			back = 2
		}
		if p.ErrorCode != c.want || p.PreferredReadReplica != back || p.HighWatermark != 2 || len(p.RecordBatches) > 0 {
			t.Errorf("%d s, from %d: %+v", c.at, c.from, p)
		}
	}
	f.Topics[0].Partitions[0].FetchOffset, f.MinBytes, f.MaxWaitMillis = 3, 1, 60_000
	w.write(frameOf(f, 8))
	other := dialWire(t, r.addr)
	for range 2 {
		other.ask(produceRequest("t", -1, 0, []byte("y")), 9)
	}
	if p := w.read(f, 8).(*kmsg.FetchResponse).Topics[0].Partitions[0]; p.ErrorCode != codeNone || len(p.RecordBatches) == 0 || p.HighWatermark != 4 {
		t.Errorf("%+v", p)
	}
}

// TestBackToLeader: who is not answered by a replica is told who leads, if he can go there.
func TestBackToLeader(t *testing.T) {
	r := newRacked(t)
	r.log.mu.Lock()
	delete(r.log.partitions, r.topic.PartitionID(0))
	r.log.mu.Unlock()
	in, out := dialWire(t, r.addr), serveAs(t, r.fakeNode, "out")
	for _, c := range []struct {
		w      *wire
		leader model.NodeID
		rack   string
		v      int16
		want   int32
	}{
		{in, 0, "b", 12, -1}, // it is to be this node
		{in, 1, "b", 12, 1},
		{in, 1, "", 12, -1},
		{in, 1, "b", 10, -1},
		{out, 1, "b", 18, 1},
		{out, 2, "b", 18, -1},
	} {
		r.Hear(cluster.Announcement{Node: c.leader, Boot: 1, Sequence: uint64(c.leader), Served: []cluster.Led{{Partition: r.topic.PartitionID(0), Epoch: model.LeaderEpoch(1 + c.leader)}}})
		f := fetchOf(r.topic, 0, 0)
		f.Rack = c.rack
		p := c.w.ask(f, c.v).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if p.ErrorCode != codeNotLeaderOrFollower || p.PreferredReadReplica != c.want {
			t.Errorf("%d leads, rack %q, version %d: %+v", c.leader, c.rack, c.v, p)
		}
	}
}
