package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-io/millrace/broker/group"
	"github.com/millrace-io/millrace/broker/model"
)

// TestCommitsSurviveFaults commits from several clients at once to a log that
// refuses, loses and delays writes, while leadership comes and goes. Whenever it
// is quiet memory is the log, and no acknowledged offset is older than what an
// earlier acknowledgement promised.
func TestCommitsSurviveFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		faults := rapid.SliceOfN(rapid.SampledFrom([]outcome{
			written, written, written, refusedNow, unknownLost, unknownKept, unknownLate,
		}), 0, 40).Draw(rt, "faults")
		moves := rapid.SliceOfN(rapid.Bool(), 1, 6).Draw(rt, "lead again")
		var wrong error
		// A failure must leave the bubble before rapid hears of it.
		synctest.Test(t, func(t *testing.T) { wrong = runFaults(t, faults, moves) })
		if wrong != nil {
			rt.Fatal(wrong)
		}
	})
}

func runFaults(t *testing.T, faults []outcome, moves []bool) error {
	n := newNode(t)
	defer n.service.Close()
	n.serve()
	n.log.next = func() outcome {
		if len(faults) == 0 {
			return written
		}
		f := faults[0]
		faults = faults[1:]
		return f
	}
	acked := map[int32]model.Offset{}
	for round, again := range moves {
		n.burst(acked, round)
		if again {
			n.lead(false)
			n.serve()
		}
		n.quiet()
		if err := n.compare(acked); err != nil {
			return err
		}
	}
	return nil
}

// burst has one client per partition commit ascending offsets, and notes what
// was acknowledged.
func (n *node) burst(acked map[int32]model.Offset, round int) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	for p := range int32(4) {
		wait.Go(func() {
			for i := range 5 {
				offset := model.Offset(100*round + i + 1)
				if n.commit("g", p, offset) == nil {
					mu.Lock()
					acked[p] = offset
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
}

// quiet waits until the group is loaded.
func (n *node) quiet() {
	for {
		synctest.Wait()
		if l, err := n.service.loop("g"); err == nil && !l.loading.Load() {
			return
		}
		select {
		case <-n.t.Context().Done():
			return
		case <-time.After(retryMax):
		}
	}
}

func (n *node) compare(acked map[int32]model.Offset) error {
	memory := n.offsets("g")
	if logged := n.log.replayed(n.t, n.partition("g"), "g"); !slices.Equal(memory, logged) {
		return fmt.Errorf("memory has %v, the log %v", memory, logged)
	}
	have := map[int32]model.Offset{}
	for _, o := range memory {
		have[o.Partition] = o.Offset.Offset
	}
	for _, p := range slices.Sorted(maps.Keys(acked)) {
		if have[p] < acked[p] {
			return fmt.Errorf("partition %d is at %d, %d was acknowledged", p, have[p], acked[p])
		}
	}
	return nil
}

// FuzzDecode feeds stored bytes that nobody should have written.
func FuzzDecode(f *testing.F) {
	for _, r := range sampleRecords() {
		key, value := encode("g", r)
		f.Add(key, value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		id, r, err := decode(key, value)
		if err != nil || r == nil {
			return
		}
		key2, value2 := encode(id, r)
		id2, _, err := decode(key2, value2)
		if err != nil || id2 != id {
			t.Fatalf("group %q, encoded again %q: %v", id, id2, err)
		}
	})
}

func sampleRecords() []group.Record {
	p := group.TopicPartition{Topic: "t", Partition: 3}
	return []group.Record{
		group.OffsetSet{TopicPartition: p, Offset: group.Offset{Offset: 7, Epoch: 2, Metadata: "m", Committed: 5}},
		group.OffsetSet{TopicPartition: p, Offset: group.Offset{Offset: 7, Epoch: -1, Committed: 5, Expires: 9}},
		group.OffsetDrop{TopicPartition: p},
		group.MetadataSet{ProtocolType: "consumer", Generation: 4, StateTime: 5},
		group.MetadataSet{
			ProtocolType: "consumer", Protocol: "range", Generation: 3, Leader: "a", StateTime: 5,
			Members: []group.MemberSet{
				{ID: "a", InstanceID: "i", ClientID: "c", ClientHost: "/h", RebalanceTimeout: 6e10, SessionTimeout: 1e10,
					Subscription: []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff}, Topics: []string{"t"}, Assignment: []byte("x")},
				{ID: "b", ClientID: "c", ClientHost: "/h", RebalanceTimeout: 6e10, SessionTimeout: 1e10,
					Subscription: []byte("?"), Assignment: []byte{}},
			},
		},
		group.MetadataDrop{},
	}
}
