package raft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/raft/transport"
)

// slowDisk holds up the writes of one node's log.
type slowDisk struct {
	node  atomic.Int64 // whose; -1: nobody's
	delay time.Duration
	freed chan struct{}
	held  chan struct{} // told once that a write is held up
}

func (d *slowDisk) synced(n int) {
	if int64(n) != d.node.Load() {
		return
	}
	select {
	case d.held <- struct{}{}:
	default:
	}
	if d.delay > 0 {
		<-time.After(d.delay)
		return
	}
	<-d.freed
}

// TestTransferFromSlowDisk: a leader whose disk is slow, or stands still, gives its place
// to whom it means. When it goes on it has nothing of its own to add, and what it asked
// meanwhile deposes nobody.
func TestTransferFromSlowDisk(t *testing.T) {
	for name, delay := range map[string]time.Duration{"slow": 400 * time.Millisecond, "stands still": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testTransferFromSlowDisk(t, delay)
		})
	}
}

func testTransferFromSlowDisk(t *testing.T, delay time.Duration) {
	disk := &slowDisk{delay: delay, freed: make(chan struct{}), held: make(chan struct{}, 1)}
	disk.node.Store(-1)
	p := &peers{net: transport.NewMemory(), shard: shard, synced: disk.synced}
	for n := range p.hosts {
		p.dirs[n], p.machines[n] = t.TempDir(), &counting{}
		p.open(t, n, fmt.Sprintf("node-%d:1", n))
	}
	free := sync.OnceFunc(func() { close(disk.freed) })
	defer func() {
		free() // a node that is held up could not close
		for _, h := range p.hosts {
			h.Close()
		}
	}()
	for n, h := range p.hosts {
		for m := range p.hosts {
			h.SetAddress(model.NodeID(m), fmt.Sprintf("node-%d:1", m))
		}
		p.start(t, n)
	}
	all := []int{0, 1, 2}
	leader := p.propose(t, "together", all...)
	p.agreed(t)
	rest := slices.DeleteFunc(slices.Clone(all), func(n int) bool { return n == leader })

	disk.node.Store(int64(leader))
	lost, err := p.hosts[leader].Propose(p.shard, []byte("before"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	<-disk.held
	if d := p.hosts[leader].Writing(); d <= 0 {
		t.Errorf("a write is held up, and none is under way: %s", d)
	}
	began := time.Now()
	if err := p.hosts[leader].Transfer(p.shard, model.NodeID(rest[0])); err != nil {
		t.Fatal(err)
	}
	if got := p.propose(t, "after", rest...); got != rest[0] {
		t.Errorf("node %d leads, node %d was to", got, rest[0])
	}
	t.Logf("another took a command after %s", time.Since(began))
	if delay == 0 { // it thinks that it leads, and asks the third
		ask := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(p.shard)), 0)
		if _, err := p.hosts[leader].Call(t.Context(), model.NodeID(rest[1]), methodTakeOver, ask); err != nil {
			t.Fatal(err)
		}
		<-time.After(takeOverFirst << takeOverTries / 4)
		if got := p.propose(t, "still", rest...); got != rest[0] {
			t.Errorf("node %d leads, deposed by who led before", got)
		}
	}
	disk.node.Store(-1)
	free()
	_ = lost.Failed() // it may have gone either way: both are right, if all agree
	p.propose(t, "together again", all...)
	p.agreed(t)
}
