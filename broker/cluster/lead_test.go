package cluster

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-io/millrace/broker/model"
)

// announcers are nodes that tell each other who leads, over a network that loses,
// repeats and reorders.
type announcers struct {
	nodes   []*Cluster
	network []sent
	elected []model.LeaderEpoch // of each partition, the newest epoch
	leads   []int               // who leads under it
	serving []bool
}

type sent struct {
	to int
	a  Announcement
}

func announcer(n int) *Cluster {
	return New(Options{Node: model.NodeID(n), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

func partitionNo(p int) model.PartitionID {
	return model.PartitionID{Topic: model.TopicID{9}, Index: int32(p)}
}

// step does one thing that may happen.
func (w *announcers) step(t *rapid.T) {
	p := rapid.IntRange(0, len(w.elected)-1).Draw(t, "partition")
	n := rapid.IntRange(0, len(w.nodes)-1).Draw(t, "node")
	switch rapid.SampledFrom([]string{"elect", "serve", "leave", "changes", "whole", "deliver", "deliver", "lose", "restart"}).Draw(t, "step") {
	case "elect": // the one before hears of it, or does not yet
		if w.serving[p] && rapid.Bool().Draw(t, "deposed") {
			w.nodes[w.leads[p]].Lead(Leadership{Partition: partitionNo(p), Epoch: w.elected[p]})
		}
		w.elected[p]++
		w.leads[p], w.serving[p] = n, false
	case "serve":
		w.serving[p] = true
		w.nodes[w.leads[p]].Lead(Leadership{Partition: partitionNo(p), Epoch: w.elected[p], Serving: true})
	case "leave":
		if w.serving[p] {
			w.serving[p] = false
			w.nodes[w.leads[p]].Lead(Leadership{Partition: partitionNo(p), Epoch: w.elected[p]})
		}
	case "changes":
		w.tell(n, false)
	case "whole":
		w.tell(n, true)
	case "deliver": // and keep it, so that it may come again, or now only
		if len(w.network) > 0 {
			i := rapid.IntRange(0, len(w.network)-1).Draw(t, "message")
			m := w.network[i]
			a, err := DecodeAnnouncement(m.a.Encode())
			if err != nil {
				t.Fatal(err)
			}
			w.nodes[m.to].Hear(a)
		}
	case "lose":
		if len(w.network) > 0 {
			i := rapid.IntRange(0, len(w.network)-1).Draw(t, "message")
			w.network = append(w.network[:i], w.network[i+1:]...)
		}
	case "restart":
		w.nodes[n] = announcer(n)
		for q := range w.elected {
			w.serving[q] = w.serving[q] && w.leads[q] != n
		}
	}
}

func (w *announcers) tell(from int, whole bool) {
	a, ok := w.nodes[from].Announce(whole)
	for to := range w.nodes {
		if ok {
			w.network = append(w.network, sent{to, a})
		}
	}
}

// TestAnnouncements: whatever was lost, late or heard twice, once each node's whole
// announcement has come everybody knows who serves what.
func TestAnnouncements(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const partitions = 4
		w := &announcers{
			elected: make([]model.LeaderEpoch, partitions), leads: make([]int, partitions), serving: make([]bool, partitions),
		}
		for n := range 3 {
			w.nodes = append(w.nodes, announcer(n))
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			w.step(t)
		}
		for p := range w.elected { // whoever was deposed has heard of it by now
			for n := range w.nodes {
				if n != w.leads[p] || !w.serving[p] {
					if node, epoch := w.nodes[n].Leader(partitionNo(p)); node == model.NodeID(n) {
						w.nodes[n].Lead(Leadership{Partition: partitionNo(p), Epoch: epoch})
					}
				}
			}
		}
		w.network = nil
		for n := range w.nodes {
			w.tell(n, true)
		}
		for _, i := range rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8}).Draw(t, "order") {
			w.nodes[w.network[i].to].Hear(w.network[i].a)
		}
		w.check(t)
	})
}

func (w *announcers) check(t *rapid.T) {
	for p := range w.elected {
		want := model.NoNode
		if w.serving[p] {
			want = model.NodeID(w.leads[p])
		}
		for n, c := range w.nodes {
			got, epoch := c.Leader(partitionNo(p))
			if got != want || w.serving[p] && epoch != w.elected[p] {
				t.Fatalf("node %d thinks that partition %d is led by %d in epoch %d; it is %d in %d", n, p, got, epoch, want, w.elected[p])
			}
		}
	}
}

// TestAnnouncedChanges: a change is told once, the newest of several, and a node does
// not listen to itself or to what is older than what it heard.
func TestAnnouncedChanges(t *testing.T) {
	a, b := announcer(1), announcer(2)
	if _, ok := a.Announce(false); ok {
		t.Fatal("told of nothing")
	}
	p, q := partitionNo(0), partitionNo(1)
	a.Lead(Leadership{Partition: p, Epoch: 3, Serving: true})
	a.Lead(Leadership{Partition: q, Epoch: 5, Serving: true})
	a.Lead(Leadership{Partition: q, Epoch: 5})
	first, ok := a.Announce(false)
	if !ok || len(first.Served) != 1 || first.Served[0] != (Led{p, 3}) || len(first.Left) != 1 || first.Left[0] != (Led{q, 5}) {
		t.Fatalf("told %+v", first)
	}
	if again, ok := a.Announce(false); ok {
		t.Fatalf("told again: %+v", again)
	}
	a.Lead(Leadership{Partition: p, Epoch: 3})
	second, ok := a.Announce(false)
	if !ok {
		t.Fatal("a change is not told")
	}
	b.Hear(second)
	b.Hear(first)
	if node, _ := b.Leader(p); node != model.NoNode {
		t.Errorf("an old announcement makes %d lead", node)
	}
	a.Hear(Announcement{Node: 1, Boot: 77, Sequence: 1, Whole: true})
	a.Lead(Leadership{Partition: p, Epoch: 9, Serving: true})
	a.Hear(Announcement{Node: 1, Boot: 78, Sequence: 1, Whole: true})
	if node, epoch := a.Leader(p); node != 1 || epoch != 9 {
		t.Errorf("a node listens to itself: %d leads in epoch %d", node, epoch)
	}
}

// FuzzAnnouncement: what another node sends is taken whole or refused.
func FuzzAnnouncement(f *testing.F) {
	a := Announcement{Node: 2, Boot: 7, Sequence: 3, Whole: true, Unfit: UnfitScripts, Served: []Led{{partitionNo(1), 4}}, Left: []Led{{partitionNo(2), 5}, {partitionNo(3), 6}}}
	f.Add(a.Encode())
	a.Laggards = []Laggard{{1, []int{0}}, {3, []int{0}}}
	f.Add(a.Encode())
	f.Add([]byte{announcementVersion})
	f.Add([]byte{announcementVersion + 1, 0, 28: 0, 29: 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := DecodeAnnouncement(b)
		if err != nil {
			return
		}
		b[1] &= flagWhole | flagLeaving | byte(unfitAny) | flagLaggards // others may come to mean something
		if got := a.Encode(); !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
	})
}

// TestAlive: a node is alive as long as it is heard of.
func TestAlive(t *testing.T) {
	now := time.Unix(1, 0)
	a, b := announcer(1), New(Options{Node: 2, Now: func() time.Time { return now }})
	if b.Alive(1) || !b.Alive(2) {
		t.Error("heard of nobody, and only itself is alive")
	}
	told, _ := a.Announce(true)
	b.Hear(told)
	if now = now.Add(aliveFor - 1); !b.Alive(1) {
		t.Error("given up too soon")
	}
	if now = now.Add(1); b.Alive(1) {
		t.Error("still alive")
	}
}

// TestSteady: leadership is for who has been there a while and wants it.
func TestSteady(t *testing.T) {
	now := time.Unix(1, 0)
	a, b := announcer(1), New(Options{Node: 2, Now: func() time.Time { return now }})
	const while = 2 * aliveFor
	hear := func() {
		told, _ := a.Announce(true)
		b.Hear(told)
	}
	for range 2 {
		for age := time.Duration(0); age < while; age += AnnounceEvery {
			if hear(); b.Steady(1, while) {
				t.Fatalf("steady after %s", age)
			}
			now = now.Add(AnnounceEvery)
		}
		if hear(); !b.Steady(1, while) {
			t.Fatal("not steady")
		}
		a = announcer(1) // it starts again
	}
	for age := time.Duration(0); age <= while; age += AnnounceEvery {
		hear()
		now = now.Add(AnnounceEvery)
	}
	a.Leave()
	if hear(); b.Steady(1, while) || !b.Alive(1) {
		t.Error("a node that leaves is to be left alone, and alive")
	}
}
