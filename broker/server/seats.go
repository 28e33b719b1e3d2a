package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/move"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

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
			if _, ok := r.seats.Seat(&p); ok {
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

// appliedAsk is a shard and a birth, appliedAnswer a raft index, little endian.
const appliedAsk, appliedAnswer = 12, 8

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
		r.seats.Hear(shard, birth)
	}
	h, ok := r.cores.HandleByShard(shard)
	if have, held := r.raft.Birth(shard); !ok || !held || have != birth {
		return nil, &raft.Refusal{Code: move.RefusedNoReplica, Text: fmt.Sprintf("node %d does not run replica %d of shard %d", r.node, birth, shard)}
	}
	applied, err := move.AppliedBy(ctx, h)
	if err != nil {
		return nil, err
	}
	return binary.LittleEndian.AppendUint64(nil, applied), nil
}

// askApplied asks the node of a replica how far it has applied its log, and tells it that
// the replica is in the group.
func askApplied(ctx context.Context, host *raft.Host, shard model.ShardID, of raft.Member) (uint64, error) {
	body := binary.LittleEndian.AppendUint64(nil, uint64(shard))
	body = binary.LittleEndian.AppendUint32(body, uint32(of.Birth))
	b, err := host.Call(ctx, of.Node, raft.MethodApplied, body)
	if err != nil {
		return 0, err
	}
	if len(b) != appliedAnswer {
		return 0, fmt.Errorf("node %d answers %d bytes, not %d, for what it has applied", of.Node, len(b), appliedAnswer)
	}
	return binary.LittleEndian.Uint64(b), nil
}
