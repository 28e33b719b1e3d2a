package raft

import (
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// TestRecovering: what a replica that takes files is sent is taken up to a limit, all else in any case.
func TestRecovering(t *testing.T) {
	const takes, other, batch = 7, 8, recoveringBytesMax/4 - entryOverhead
	var r recovering
	replicate := func(shard uint64, bytes int) pb.Message {
		return pb.Message{Type: pb.Replicate, ShardID: shard, Entries: []pb.Entry{{Cmd: make([]byte, bytes)}}}
	}
	left := func(m pb.Message) bool { return len(r.sift([]pb.Message{m})) == 1 }
	for range 2 {
		for range 10 {
			if !left(replicate(takes, batch)) {
				t.Fatal("a replica that takes no files is not sent all")
			}
		}
		r.begin(takes)
		for k := range 8 {
			if got, want := left(replicate(takes, batch)), k < 4; got != want {
				t.Errorf("batch %d: taken %t, want %t", k, got, want)
			}
		}
		if !left(replicate(other, batch)) || !left(pb.Message{Type: pb.Heartbeat, ShardID: takes}) || !left(pb.Message{Type: pb.Replicate, ShardID: takes}) {
			t.Error("what needs no memory, or is for another, is dropped")
		}
		r.end(takes)
	}
	if n := r.count.Load(); n != 0 {
		t.Errorf("%d are left", n)
	}
}
