package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

// seat gives the replica of a partition that this node is to run, if any: the one that
// the metadata names, unless there is another whose vote the group may still need.
func (r *replicas) seat(p *cluster.Partition) (controller.Seat, bool) {
	wanted, ok := p.Seat(r.node)
	have, held := r.raft.Birth(p.Shard)
	if !held || ok && have == wanted.Birth || r.isOut(p, have) {
		return wanted, ok
	}
	return controller.Seat{Node: r.node, Birth: have}, true
}

// runs tells whether the replica that this node has of a partition is the one that it is
// to run.
func (r *replicas) runs(p *cluster.Partition) bool {
	seat, ok := r.seat(p)
	have, _ := r.raft.Birth(p.Shard)
	return ok && have == seat.Birth
}

// isOut tells whether a replica of this node that the metadata does not name is out of its
// group: a move ends only when all those are, and a group takes no second of a node.
func (r *replicas) isOut(p *cluster.Partition, have model.Birth) bool {
	return p.Move == nil || r.entered.birth(p.Shard) > have
}

// replica is what raft is to start.
func (s *start) replica() raft.Replica {
	r := raft.Replica{Shard: s.place.Shard, Birth: s.birth, Members: s.place.Replicas, Joins: s.joins()}
	if r.Joins {
		r.Members = s.place.Holders()
	}
	return r
}

// joins tells whether the group is there. Until its replicas are first others than those
// that it was made of, a replica without log may be one of those who make it.
func (s *start) joins() bool { return s.birth > 0 || s.place.Moved > 0 }

// makeWay removes what an older replica has left. A new one begins with nothing: the
// library panics at files that its log does not know of.
func (r *replicas) makeWay(s *start) error {
	have, held := r.raft.Birth(s.place.Shard)
	if held && have != s.birth {
		if err := r.raft.Remove(s.place.Shard); err != nil {
			return err
		}
		held = false
	}
	if held || s.birth == 0 {
		return nil
	}
	return partition.Destroy(r.fs, r.partitionDir(s.id))
}

// setAsideLeft moves directories of partitions out of the way that this node no longer
// holds: it was stopped before it had removed them.
func (r *replicas) setAsideLeft(m *cluster.Metadata, now time.Time) error {
	for _, t := range m.Topics() {
		for _, p := range t.Partitions {
			if _, ok := r.seat(&p); ok {
				continue
			}
			id := t.PartitionID(p.Index)
			dir := r.partitionDir(id)
			to := filepath.Join(r.dir, removedDir, fmt.Sprintf("%s.%d-%d", filepath.Base(filepath.Dir(dir)), id.Index, now.Unix()))
			err := os.Rename(dir, to)
			switch {
			case errors.Is(err, os.ErrNotExist):
			case err != nil:
				return err
			default:
				if err := partition.Destroy(r.fs, dir); err != nil { // what was staged beside it
					return err
				}
				r.log.Warn("directory of a partition that is elsewhere set aside", "topic", t.Name, "partition", p.Index, "dir", to)
			}
		}
	}
	return nil
}

// entered are the newest replicas of this node that leaders say are in their groups. mu
// guards births.
type entered struct {
	mu     sync.Mutex
	births map[model.ShardID]model.Birth
	news   chan struct{}
}

func newEntered() *entered {
	return &entered{births: map[model.ShardID]model.Birth{}, news: make(chan struct{}, 1)}
}

func (e *entered) birth(shard model.ShardID) model.Birth {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.births[shard]
}

// hear takes a leader's word.
func (e *entered) hear(shard model.ShardID, birth model.Birth) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if birth <= e.births[shard] {
		return
	}
	e.births[shard] = birth
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// appliedAsk is a shard and a birth, appliedAnswer a raft index, little endian.
const appliedAsk, appliedAnswer = 12, 8

// refusedNoReplica is the code of a node that does not run the replica yet.
const refusedNoReplica = 3

// answerApplied answers raft.MethodApplied.
func (s *Server) answerApplied(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) != appliedAsk {
		return nil, fmt.Errorf("%d bytes say whose applied index is asked for, not %d", len(body), appliedAsk)
	}
	shard, birth := model.ShardID(binary.LittleEndian.Uint64(body)), model.Birth(binary.LittleEndian.Uint32(body[8:]))
	if shard == raft.ControllerShard {
		return s.answerKnown(birth)
	}
	if r := s.held.Load(); r != nil {
		return r.answerApplied(ctx, shard, birth)
	}
	return nil, s.starting()
}

func (r *replicas) answerApplied(ctx context.Context, shard model.ShardID, birth model.Birth) ([]byte, error) {
	if birth > 0 {
		r.entered.hear(shard, birth)
	}
	h, ok := r.cores.HandleByShard(shard)
	if have, held := r.raft.Birth(shard); !ok || !held || have != birth {
		return nil, &raft.Refusal{Code: refusedNoReplica, Text: fmt.Sprintf("node %d does not run replica %d of shard %d", r.node, birth, shard)}
	}
	applied, err := appliedBy(ctx, h)
	if err != nil {
		return nil, err
	}
	return binary.LittleEndian.AppendUint64(nil, applied), nil
}

func (e *entered) forget(shard model.ShardID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.births, shard)
}
