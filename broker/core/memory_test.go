package core

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/partition"
)

// applying is an Apply that may wait for its answer.
func (r *rig) applying(cmds ...partition.Command) *applyEvent {
	e := &applyEvent{shard: rigShard, reply: make(chan error, 1)}
	for i := range cmds {
		r.index++
		e.entries = append(e.entries, partition.Entry{Index: r.index, Cmd: cmds[i].Append(nil)})
	}
	r.c.Step(e)
	return e
}

func answered(e *applyEvent) bool {
	select {
	case <-e.reply:
		return true
	default:
		return false
	}
}

// TestBackPressure: what is not written has a budget. From half of it on a flush
// begins before it is due; beyond it raft waits for the device, while what it has
// handed over is served.
func TestBackPressure(t *testing.T) {
	r := newRig(t, config.Topic{}, func(o *Options) { o.WriteBytes, o.FlushBytes = 10_000, 1<<30 })
	r.lead(1)
	record := strings.Repeat("x", 1000)
	if !answered(r.applying(plain(1, record))) || take(r.c.flushes) != nil {
		t.Fatal("a small batch waits for the disk, or makes it write")
	}
	over := r.applying(plain(1, record, record, record, record, record))
	if answered(over) {
		t.Fatalf("answered with %d bytes in memory, %d are allowed", r.c.unwritten, r.c.set.o.WriteBytes)
	}
	if high := r.replica().part.HighWatermark(); high != 6 || r.read(5, false, nil).Err != nil {
		t.Errorf("the log ends at %d, what was applied is not served", high)
	}
	first := take(r.c.flushes)
	if first == nil {
		t.Fatal("nothing is written although memory is full")
	}
	more := r.applying(plain(1, record, record, record, record, record))
	if answered(more) || take(r.c.flushes) != nil {
		t.Fatal("more was taken, or two flushes of a partition run at once")
	}
	if err := r.finish(first); err != nil {
		t.Fatal(err)
	}
	if answered(over) || answered(more) {
		t.Fatalf("answered with %d bytes in memory", r.c.unwritten)
	}
	if err := r.finish(take(r.c.flushes)); err != nil {
		t.Fatal(err)
	}
	if !answered(over) || !answered(more) || r.c.unwritten != 0 {
		t.Fatalf("no answer when all is written: %d bytes are not", r.c.unwritten)
	}
	if !answered(r.applying(plain(1, record, record, record))) {
		t.Error("waits within the budget")
	}
	if take(r.c.flushes) != nil {
		t.Error("flushed before half of the budget was used")
	}
	r.later(20 * time.Second)
	if err := r.finish(take(r.c.flushes)); err != nil {
		t.Fatal(err)
	}
}

// TestFlushEarlyTakesTheLargest: partitions that hold little do not cost a flush
// each because one holds much.
func TestFlushEarlyTakesTheLargest(t *testing.T) {
	r := newRig(t, config.Topic{}, func(o *Options) { o.WriteBytes, o.FlushBytes = 20_000, 1<<30 })
	r.lead(1)
	r.open(rigShard+1, config.Topic{})
	lead := partition.Command{Kind: partition.KindLead, Epoch: 1}
	small, large := plain(1, "x"), plain(1, strings.Repeat("x", 30_000))
	other := &applyEvent{shard: rigShard + 1, reply: make(chan error, 1), entries: []partition.Entry{
		{Index: 1, Cmd: lead.Append(nil)}, {Index: 2, Cmd: small.Append(nil)},
	}}
	r.c.Step(other)
	r.applying(large)
	if j := take(r.c.flushes); j == nil || j.r != r.replica() {
		t.Fatal("the large one is not written")
	}
	if take(r.c.flushes) != nil {
		t.Error("the small one is written too")
	}
}

// TestOwedAnswers: who waits for memory is not told of success by a node that fails,
// and is not forgotten when a partition that holds it leaves.
func TestOwedAnswers(t *testing.T) {
	large := plain(1, strings.Repeat("x", 5000))
	r, faulty, _ := faultyRig(t, config.Topic{})
	r.set.o.WriteBytes = 1000
	r.lead(1)
	e := r.applying(large)
	faulty.Inject(disk.Fault{Op: disk.OpSync, Err: syscall.EIO})
	_ = r.finish(take(r.c.flushes)) // TestFailedFlush looks at it
	if answered(e) || len(r.fatal) != 1 {
		t.Errorf("answered after a failed sync; fatal %v", r.fatal)
	}
	r = newRig(t, config.Topic{}, func(o *Options) { o.WriteBytes = 1000 })
	r.lead(1)
	e = r.applying(large)
	j := take(r.c.flushes)
	drop := &dropEvent{shard: rigShard, reply: make(chan error, 1)}
	r.c.Step(drop)
	if answered(e) {
		t.Error("answered before the flush under way has ended")
	}
	if err := r.finish(j); err != nil {
		t.Fatal(err)
	}
	if !answered(e) || len(drop.reply) != 1 || r.c.unwritten != 0 {
		t.Errorf("the partition has left; %d bytes are counted", r.c.unwritten)
	}
}

// TestBreath: flushes write apart from each other while there is memory to wait in,
// and as fast as the device takes it when there is not.
func TestBreath(t *testing.T) {
	for unwritten, want := range map[int64]time.Duration{
		0: breathMax, 250: breathMax, 375: breathMax / 2, 500: 0, 2000: 0,
	} {
		if got := breath(unwritten, 1000); got != want {
			t.Errorf("%d bytes of 1000: %v apart, want %v", unwritten, got, want)
		}
	}
	if got := breath(0, 0); got != 0 {
		t.Errorf("%v apart without memory", got)
	}
	o := rigOptions(newHandLog())
	o.Cores, o.WriteBytes = 2, 1000
	set := newSet(o)
	if got := set.apart(); got != breathMax {
		t.Errorf("%v apart while nothing is unwritten", got)
	}
	set.cores[1].pressure.Store(375)
	if got := set.apart(); got != breathMax/2 {
		t.Errorf("%v apart while one loop has less room", got)
	}
	set.cores[0].closing.Store(true)
	if got := set.apart(); got != 0 {
		t.Errorf("%v apart at the end", got)
	}
	var p pace
	now := time.Unix(100, 0)
	for i := range 3 {
		if got := p.turn(now, time.Millisecond); got != time.Duration(i+1)*time.Millisecond {
			t.Errorf("turn %d in %v", i, got)
		}
	}
	if got := p.turn(now.Add(time.Second), time.Millisecond); got != time.Millisecond {
		t.Errorf("a turn after a pause in %v", got)
	}
}

// TestFlushThresholds: of partitions that fill at one rate, some are due at half of
// FlushBytes, and none later than at all of it.
func TestFlushThresholds(t *testing.T) {
	r := newRig(t, config.Topic{}, func(o *Options) { o.FlushBytes = 1000 })
	least, most := int64(1000), int64(0)
	for range 200 {
		delete(r.c.dirty, r.replica())
		r.c.markDirty(r.replica(), 0)
		at := r.replica().flushAt
		least, most = min(least, at), max(most, at)
	}
	if least < 500 || most > 1000 || most-least < 300 {
		t.Errorf("flushed at %d to %d bytes", least, most)
	}
}
