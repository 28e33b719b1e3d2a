package raft

import (
	"fmt"
	"sync"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// A replica that hears for good that it is out of its group stops by itself, and votes no
// more; others may not know it for good, and wait for its vote. Started again it would
// read in its log what it knew, and stop at once. So one that has left is started as it
// was before it heard: how far a log is decided is knowledge, not state, and Raft lets a
// replica forget it. What it voted for and what it holds it keeps.

// left are the shards whose replica here has stopped by itself.
type left struct{ shards sync.Map }

func (l *left) note(shard model.ShardID, has bool) {
	if has {
		l.shards.Store(shard, true)
	} else {
		l.shards.Delete(shard)
	}
}

// knownLog is the journal as the library reads it.
type knownLog struct {
	raftio.ILogDB
	left *left
}

// ReadRaftState is part of raftio.ILogDB.
func (l knownLog) ReadRaftState(shard, replica, snapshot uint64) (raftio.RaftState, error) {
	s, err := l.ILogDB.ReadRaftState(shard, replica, snapshot)
	if err != nil {
		return s, err
	}
	if _, has := l.left.shards.Load(model.ShardID(shard)); !has {
		return s, nil
	}
	at, err := removal(l.ILogDB, shard, replica, snapshot+1, s.State.Commit)
	if at > 0 {
		s.State.Commit = at - 1
	}
	return s, err
}

// removal gives the index of the entry, from low to high, that takes a replica out of its
// group; 0 if there is none.
func removal(log raftio.ILogDB, shard, replica, low, high uint64) (uint64, error) {
	for low <= high {
		es, _, err := log.IterateEntries(nil, 0, shard, replica, low, high+1, scanBytesMax)
		if err != nil {
			return 0, err
		}
		if len(es) == 0 {
			return 0, fmt.Errorf("%w: entry %d of shard %d is not there", ErrLogDamaged, low, shard)
		}
		for i := range es {
			if !es[i].IsConfigChange() {
				continue
			}
			var cc pb.ConfigChange
			if err := cc.Unmarshal(es[i].Cmd); err != nil {
				return 0, err
			}
			if cc.Type == pb.RemoveNode && cc.ReplicaID == replica {
				return es[i].Index, nil
			}
		}
		low = es[len(es)-1].Index + 1
	}
	return 0, nil
}
