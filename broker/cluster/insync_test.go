package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

// TestAnnouncementVersions: what has nothing to say about laggards is what every build
// reads, and what has is given to an older one without.
func TestAnnouncementVersions(t *testing.T) {
	a := Announcement{
		Node: 2, Boot: 7, Sequence: 3, Whole: true,
		Served: []Led{{partitionNo(1), 4}, {partitionNo(2), 4}}, Left: []Led{{partitionNo(3), 6}},
	}
	// As the builds before laggards wrote it.
	const topic = "09000000000000000000000000000000"
	old := "0101" + "02000000" + "0700000000000000" + "0300000000000000" + "02000000" + "01000000" +
		topic + "01000000" + "04000000" + topic + "02000000" + "04000000" + topic + "03000000" + "06000000"
	if got := hex.EncodeToString(a.Encode()); got != old {
		t.Errorf("an announcement without laggards is\n%s, want\n%s", got, old)
	}
	heard, err := DecodeAnnouncement(a.Encode())
	if err != nil || !reflect.DeepEqual(heard, a) {
		t.Errorf("of an older build is heard %+v, %v", heard, err)
	}
	if _, ok := Plain(a.Encode()); ok {
		t.Error("an announcement without sections is made plain")
	}

	plain := a.Encode()
	a.Laggards = []Laggard{{Node: 1, Served: []int{1}}, {Node: 5, Served: []int{0, 1}}}
	b := a.Encode()
	if want := "0111" + old[4:] + "0a000000" + "01000000" + "02" + "05000000" + "03"; hex.EncodeToString(b) != want {
		t.Errorf("with laggards it is\n%x, want\n%s", b, want)
	}
	if heard, err = DecodeAnnouncement(b); err != nil || !reflect.DeepEqual(heard, a) {
		t.Errorf("with laggards is heard %+v, %v", heard, err)
	}
	if got, ok := Plain(b); !ok || !bytes.Equal(got, plain) {
		t.Errorf("an older build is told\n%x, want\n%x", got, plain)
	}
	for end := range b[:len(b)-1] {
		if _, err := DecodeAnnouncement(b[:end]); !errors.Is(err, ErrAnnouncement) {
			t.Fatalf("cut at %d it is taken: %v", end, err)
		}
	}
	b[len(b)-1] = 4 // of a third partition, where two are served
	if _, err := DecodeAnnouncement(b); !errors.Is(err, ErrAnnouncement) {
		t.Errorf("laggards of a partition that is not served are taken: %v", err)
	}
}

// TestInSync: who is there and does not lag by its leader's word is in sync; the word of a leader outlives it until the next has one.
func TestInSync(t *testing.T) {
	now := time.Unix(1, 0)
	at := func(n int) *Cluster { return New(Options{Node: model.NodeID(n), Now: func() time.Time { return now }}) }
	one, two, three := at(1), at(2), at(3)
	p, replicas := partitionNo(0), []model.NodeID{3, 1, 2}
	want := func(c *Cluster, nodes ...model.NodeID) {
		t.Helper()
		if got := c.InSync(p, replicas); !slices.Equal(got, nodes) {
			t.Fatalf("node %d takes %v for in sync, want %v", c.o.Node, got, nodes)
		}
	}
	tell := func(from *Cluster, whole bool, to ...*Cluster) {
		t.Helper()
		a, ok := from.Announce(whole)
		for _, c := range to {
			heard, err := DecodeAnnouncement(a.Encode())
			if err != nil || !ok {
				t.Fatal("nothing is announced", err)
			}
			c.Hear(heard)
		}
	}
	want(two, 3, 1, 2) // it has just come, and has heard of nobody yet
	one.Lead(Leadership{Partition: p, Epoch: 5, Serving: true})
	tell(one, false, two, three)
	one.Lagging(p, 4, []model.NodeID{2}) // of an epoch that is over
	want(one, 3, 1, 2)
	one.Lagging(p, 5, []model.NodeID{3})
	want(one, 1, 2)
	want(two, 3, 1, 2)
	tell(one, false, two, three)
	if _, ok := one.Announce(false); ok {
		t.Error("told twice")
	}
	want(two, 1, 2)
	want(three, 1, 2)

	two.Lead(Leadership{Partition: p, Epoch: 6, Serving: true})
	want(two, 1, 2)
	tell(two, true, one, three)
	want(three, 1, 2)
	two.Lagging(p, 6, nil)
	tell(two, false, one, three)
	want(three, 3, 1, 2)

	two.Lagging(p, 6, []model.NodeID{1})
	tell(two, true, three)
	want(three, 3, 2)
	tell(one, true, two)
	tell(three, true, two)
	now = now.Add(aliveFor)
	tell(three, true, two)
	want(two, 3, 2)
	want(three, 3) // its leader is gone
	if node, epoch := three.Leader(p); node != 2 || epoch != 6 {
		t.Errorf("led by %d under %d", node, epoch)
	}
	if node, epoch := three.Reachable(p); node != model.NoNode || epoch != 6 {
		t.Errorf("clients are sent to %d under %d, which is gone", node, epoch)
	}
	if !two.Gone(1) || two.Gone(3) || two.Gone(2) {
		t.Error("of 1, 2 and 3 only 1 is gone")
	}
}
