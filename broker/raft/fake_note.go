package raft

import (
	"fmt"

	"github.com/millrace-io/millrace/broker/model"
)

// Install is what befalls a replica that lacks what its leader's log has forgotten:
// its own log goes on behind through, which its machine reaches by a note. It ends
// when the machine's Recover does.
func (f *Fake) Install(shard model.ShardID, through uint64, note []byte, stop <-chan struct{}) error {
	s, err := f.shard(shard)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	must(s.partition != nil && through > s.log.last(), "install through %d, the log of shard %d ends at %d", through, shard, s.log.last())
	s.log.entries, s.log.forgotten, s.log.installed = nil, through, true
	return s.partition.Recover(note, stop)
}
