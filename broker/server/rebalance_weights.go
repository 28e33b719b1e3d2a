package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/raft"
)

// weightsWait bounds the question to one node what it holds.
const weightsWait = 5 * time.Second

// weights gives what the nodes hold that are up and answer: what they said a moment ago,
// if all of them did.
func (b *rebalancer) weights(ctx context.Context, m *cluster.Metadata, now time.Time) map[model.NodeID]controller.Weight {
	b.mu.Lock()
	said, good := maps.Clone(b.said), now.Before(b.until)
	b.mu.Unlock()
	if good && !b.someMissing(m, said) {
		return said
	}
	ctx, cancel := context.WithTimeout(ctx, weightsWait)
	defer cancel()
	var mu sync.Mutex
	said = map[model.NodeID]controller.Weight{}
	var wg sync.WaitGroup
	for i := range m.Nodes {
		id := m.Nodes[i].ID
		if !b.cluster.Alive(id) {
			continue
		}
		wg.Go(func() {
			w, err := b.ask(ctx, id)
			if err != nil {
				b.log.Debug("weight not told", "node", id, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			said[id] = w
		})
	}
	wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said, b.until = said, now.Add(weightsFor)
	return maps.Clone(said)
}

// someMissing tells whether a node is up that has not said what it holds.
func (b *rebalancer) someMissing(m *cluster.Metadata, said map[model.NodeID]controller.Weight) bool {
	for i := range m.Nodes {
		if _, told := said[m.Nodes[i].ID]; !told && b.cluster.Alive(m.Nodes[i].ID) {
			return true
		}
	}
	return false
}

// askWeight asks a node, or this one, what it holds.
func (s *Server) askWeight(ctx context.Context, node model.NodeID) (controller.Weight, error) {
	if node == s.n.ID {
		return s.weight(ctx)
	}
	b, err := s.raft.Call(ctx, node, raft.MethodWeights, nil)
	if err != nil {
		return controller.Weight{}, err
	}
	w, err := decodeWeight(b)
	if err != nil {
		return w, fmt.Errorf("of node %d: %w", node, err)
	}
	return w, nil
}

// answerWeight answers raft.MethodWeights.
func (s *Server) answerWeight(ctx context.Context) ([]byte, error) {
	w, err := s.weight(ctx)
	if err != nil {
		return nil, err
	}
	return encodeWeight(w), nil
}

// weight is what this node holds, but for replicas that are not open.
func (s *Server) weight(ctx context.Context) (controller.Weight, error) {
	used, total, err := diskUse(s.n.DataDir)
	if err != nil {
		return controller.Weight{}, err
	}
	w := controller.Weight{DiskUsed: used, DiskTotal: total, Held: map[model.PartitionID]int64{}}
	s.cores.Handles(func(h *core.Handle) bool {
		var bytes int64
		if err := h.Query(ctx, func(p *partition.Partition) { bytes = p.Bytes() }); err == nil {
			w.Held[h.ID] = bytes
		}
		return ctx.Err() == nil
	})
	return w, ctx.Err()
}

// diskUse gives the bytes of a directory's file system as df does: what only root may use
// is no part of it.
func diskUse(dir string) (used, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("measure the disk of %s: %w", dir, err)
	}
	used = int64(st.Blocks-st.Bfree) * st.Bsize
	return used, used + int64(st.Bavail)*st.Bsize, nil
}

// A weight is {version u8, disk used u64, disk total u64, count u32} and per replica {topic
// id, index u32, bytes u64}, little endian. A later version may only add after it.
const (
	weightVersion = 1
	weightHead    = 1 + 8 + 8 + 4
	weightRow     = len(model.TopicID{}) + 4 + 8
)

// errWeight says that a node's weight cannot be read.
var errWeight = errors.New("not a node's weight")

func encodeWeight(w controller.Weight) []byte {
	b := make([]byte, 0, weightHead+len(w.Held)*weightRow)
	b = append(b, weightVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(w.DiskUsed))
	b = binary.LittleEndian.AppendUint64(b, uint64(w.DiskTotal))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(w.Held)))
	for id, bytes := range w.Held {
		b = append(b, id.Topic[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(id.Index))
		b = binary.LittleEndian.AppendUint64(b, uint64(bytes))
	}
	return b
}

func decodeWeight(b []byte) (controller.Weight, error) {
	var w controller.Weight
	if len(b) < weightHead || b[0] < weightVersion {
		return w, fmt.Errorf("%w: %d bytes", errWeight, len(b))
	}
	w.DiskUsed, w.DiskTotal = int64(binary.LittleEndian.Uint64(b[1:])), int64(binary.LittleEndian.Uint64(b[9:]))
	count, rows := int(binary.LittleEndian.Uint32(b[17:])), b[weightHead:]
	if w.DiskUsed < 0 || w.DiskTotal < 0 || len(rows)/weightRow < count {
		return controller.Weight{}, fmt.Errorf("%w: %d replicas in %d bytes, %d of %d bytes used", errWeight, count, len(rows), w.DiskUsed, w.DiskTotal)
	}
	w.Held = make(map[model.PartitionID]int64, count)
	for ; count > 0; count-- {
		id := model.PartitionID{Topic: model.TopicID(rows), Index: int32(binary.LittleEndian.Uint32(rows[len(model.TopicID{}):]))}
		bytes := int64(binary.LittleEndian.Uint64(rows[weightRow-8:]))
		if bytes < 0 || id.Index < 0 {
			return controller.Weight{}, fmt.Errorf("%w: %d bytes of %s", errWeight, bytes, id)
		}
		w.Held[id], rows = bytes, rows[weightRow:]
	}
	return w, nil
}
