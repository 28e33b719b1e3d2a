package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// balanced is a cluster of four nodes, of which this is node 0, with a controller of one
// in memory and a clock that stands.
type balanced struct {
	*rebalancer
	t       *testing.T
	machine *cluster.StateMachine
	now     time.Time
	n       uint64
	mute    []model.NodeID // they do not tell what they hold
}

func (b *balanced) ProposeController(_ context.Context, cmd []byte) ([]byte, error) {
	b.n++
	return b.machine.Apply(b.n, cmd), nil
}

func newBalanced(t *testing.T) *balanced {
	b := &balanced{t: t, now: time.Unix(1000, 0)}
	log := slog.New(slog.DiscardHandler)
	c := cluster.New(cluster.Options{Node: 0, Proposer: b, Now: func() time.Time { return b.now }, Log: log})
	b.machine = c.StateMachine()
	b.rebalancer = &rebalancer{node: 0, cluster: c, ask: b.answer, log: log, silent: map[model.NodeID]time.Duration{}}
	for n := range model.NodeID(4) {
		if _, err := c.RegisterNode(t.Context(), cluster.Node{ID: n, Host: "h", Port: 1}, "x"); err != nil {
			t.Fatal(err)
		}
	}
	c.SetController(0)
	b.hear(1, 2, 3)
	return b
}

// hear has these nodes announce.
func (b *balanced) hear(nodes ...model.NodeID) {
	b.n++
	for _, n := range nodes {
		b.cluster.Hear(cluster.Announcement{Node: n, Boot: 1, Sequence: b.n, Whole: true})
	}
}

func (b *balanced) answer(_ context.Context, node model.NodeID) (controller.Weight, error) {
	if slices.Contains(b.mute, node) {
		return controller.Weight{}, errors.New("it says nothing")
	}
	return controller.Weight{DiskTotal: 1 << 30}, nil
}

func (b *balanced) set(name, value string) {
	b.t.Helper()
	if err := b.cluster.AlterClusterConfigs(b.t.Context(), model.NoNode, []cluster.ConfigOp{{Name: name, Value: value}}, false); err != nil {
		b.t.Fatal(err)
	}
}

func (b *balanced) create(name string, rows ...[]model.NodeID) *cluster.Topic {
	b.t.Helper()
	at := map[int32][]model.NodeID{}
	for i, row := range rows {
		at[int32(i)] = row
	}
	r, err := b.cluster.CreateTopics(b.t.Context(), []cluster.CreateTopic{{Name: name, Partitions: -1, Replication: -1, Assignments: at}}, false)
	if err != nil || r[0].Err != nil {
		b.t.Fatal(err, r)
	}
	return r[0].Topic
}

// arrive has all that is under way come to its end, and gives how much that was.
func (b *balanced) arrive() (n int) {
	for {
		all := underWay(b.cluster.Metadata())
		if len(all) == 0 {
			return n
		}
		for _, t := range all {
			if err := b.cluster.Moved(b.t.Context(), t.topic.PartitionID(t.partition.Index), t.partition.Move.Revision); err != nil {
				b.t.Fatal(err)
			}
			if !t.partition.Move.In {
				n++
			}
		}
	}
}

// TestRebalance: what the plan says is done, few at a time and whole units, by the node
// that leads the controller, unless it is paused.
func TestRebalance(t *testing.T) {
	b := newBalanced(t)
	ctx := t.Context()
	all := slices.Repeat([][]model.NodeID{{0}}, 12)
	topic := b.create("t", all...)
	b.set("millrace.balance.moves.max", "2")
	nothing := func(when string) {
		t.Helper()
		b.rebalance(ctx)
		if n := b.arrive(); n > 0 {
			t.Errorf("%s: %d partitions moved", when, n)
		}
	}
	b.set("millrace.balance.paused", "true")
	nothing("paused")
	b.set("millrace.balance.paused", "false")
	b.cluster.SetController(1)
	nothing("by another than who leads the controller")
	b.cluster.SetController(0)
	if errs, err := b.cluster.Reassign(ctx, []cluster.Reassignment{{Partition: topic.PartitionID(0), Replicas: []model.NodeID{3}}}); err != nil || errs[0] != nil {
		t.Fatal(err, errs)
	}
	b.rebalance(ctx)
	moving := underWay(b.cluster.Metadata())
	if len(moving) != 2 || moving[0].partition.Move.Balance != "" || !strings.Contains(moving[1].partition.Move.Balance, "node 0 has 11 replicas") || !b.more {
		t.Fatalf("with one that somebody has asked for: %+v, more %t", moving, b.more)
	}
	b.rebalance(ctx)
	if now := underWay(b.cluster.Metadata()); len(now) != 2 {
		t.Errorf("%d are under way", len(now))
	}
	for rounds := 0; b.arrive() > 0; rounds++ {
		if rounds > 12 {
			t.Fatal("it does not end")
		}
		b.rebalance(ctx)
	}
	count := map[model.NodeID]int{}
	now, _ := b.cluster.Metadata().Topic("t")
	for _, p := range now.Partitions {
		count[p.Replicas[0]]++
	}
	if !maps.Equal(count, map[model.NodeID]int{0: 3, 1: 3, 2: 3, 3: 3}) || b.more {
		t.Errorf("replicas: %v, more %t", count, b.more)
	}
}

// TestRebalanceGone: who is silent for long is replaced, by whom others hear of; time in
// which this node stood still does not count, nor does what a node says that cannot be read.
func TestRebalanceGone(t *testing.T) {
	b := newBalanced(t)
	ctx := t.Context()
	b.create("t", []model.NodeID{3, 1, 2})
	b.set("millrace.balance.gone.ms", "60000")
	b.now = b.now.Add(time.Minute)
	b.hear(1, 2)
	b.listen(time.Hour)
	b.rebalance(ctx)
	if n := b.arrive(); n > 0 {
		t.Fatalf("%d moved at once", n)
	}
	if v := b.view(); v.State != api.BalanceWaiting || !strings.Contains(v.Reason, "node 3 is down") || v.Nodes[3].State != "down" {
		t.Errorf("%+v", v)
	}
	b.mute = []model.NodeID{2}
	b.until = time.Time{}
	for range time.Minute / (2 * silenceLook) {
		b.listen(time.Hour)
	}
	v := b.view()
	if v.State != api.BalanceInProgress || v.Nodes[3].State != "gone" || v.Nodes[2].DiskTotal != -1 || len(v.Planned) != 1 || !strings.Contains(v.Reason, "node 2 does not tell") {
		t.Errorf("%+v", v)
	}
	b.rebalance(ctx)
	if v := b.view(); len(v.UnderWay) != 1 || v.UnderWay[0].Why != "node 3 has been gone for 1m0s" || !slices.Equal(v.UnderWay[0].To, []model.NodeID{1, 2, 0}) {
		t.Errorf("under way: %+v", v.UnderWay)
	}
	b.arrive()
	b.mute = nil
	b.hear(3)
	b.listen(time.Second)
	if v := b.view(); v.State != api.BalanceReady || v.Nodes[3].State != "active" || v.Nodes[3].SilentSeconds != 0 || v.Nodes[0].Replicas != 1 || v.Nodes[1].Leaders != 1 {
		t.Errorf("it is back: %+v", v)
	}
	if err := (&clusterView{cluster: b.cluster}).PauseBalance(ctx, true); err != nil || b.view().State != api.BalancePaused {
		t.Errorf("%v, %+v", err, b.view())
	}
}

func (b *balanced) view() api.Balance {
	b.t.Helper()
	v, err := (&clusterView{cluster: b.cluster, rebalancer: b.rebalancer}).Balance(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// TestNextMoves: units stay whole, and only what is urgent does not wait for others' moves.
func TestNextMoves(t *testing.T) {
	moves := func(urgent int, units ...int) (all []controller.BalanceMove) {
		for i, u := range units {
			all = append(all, controller.BalanceMove{Unit: u, Urgent: i < urgent})
		}
		return all
	}
	for _, c := range []struct {
		moves    []controller.BalanceMove
		most     int
		own, all int
		want     int
	}{
		{nil, 3, 0, 0, 0},
		{moves(0, 0, 1, 2), 2, 0, 0, 2},
		{moves(0, 0, 1, 2), 4, 1, 2, 2},
		{moves(0, 0, 1, 2), 4, 0, 4, 0},
		{moves(0, 0, 1, 2), 4, 0, 9, 0},
		{moves(0, 0, 0, 1, 1), 3, 0, 0, 2},
		{moves(0, 0, 0, 1, 1), 4, 0, 0, 4},
		{moves(0, 0, 0, 0, 1), 3, 0, 1, 0},
		{moves(0, 0, 0, 0, 1), 2, 0, 0, 3},
		{moves(2, 0, 1, 2), 4, 3, 9, 1},
		{moves(2, 0, 1, 2), 8, 3, 9, 2},
		{moves(2, 0, 0, 2), 1, 0, 9, 2},
		{moves(3, 0, 0, 2), 1, 1, 1, 0},
	} {
		if got := nextMoves(c.moves, c.most, c.own, c.all); len(got) != c.want {
			t.Errorf("%+v: %d", c, len(got))
		}
	}
}

// TestWeight: what a node says of itself comes out as it went in, and nothing of what is
// cut or was not said.
func TestWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := controller.Weight{DiskUsed: rapid.Int64Min(0).Draw(t, "used"), DiskTotal: rapid.Int64Min(0).Draw(t, "total"), Held: map[model.PartitionID]int64{}}
		for range rapid.IntRange(0, 5).Draw(t, "replicas") {
			id := model.PartitionID{Topic: model.TopicID(bytes.Repeat([]byte{rapid.Byte().Draw(t, "topic")}, 16)), Index: rapid.Int32Min(0).Draw(t, "index")}
			w.Held[id] = rapid.Int64Min(0).Draw(t, "bytes")
		}
		b := encodeWeight(w)
		got, err := decodeWeight(append(b, rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "of a later version")...))
		if err != nil || !reflect.DeepEqual(got, w) {
			t.Fatalf("%+v, %v; want %+v", got, err, w)
		}
		if _, err := decodeWeight(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); !errors.Is(err, errWeight) {
			t.Fatalf("cut: %v", err)
		}
		_, _ = decodeWeight(rapid.SliceOf(rapid.Byte()).Draw(t, "anything")) // it does not panic
	})
}
