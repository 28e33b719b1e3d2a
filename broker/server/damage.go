package server

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// damagesMax is how many damaged ranges of a partition are remembered: enough to
// say what to do, which is the same for more.
const damagesMax = 16

// damages are ranges of stored logs that were found unreadable, as partitions were
// opened or read. mu guards byID: whoever reads adds, the admin API asks.
type damages struct {
	log   *slog.Logger
	count func(topic string)
	mu    sync.Mutex
	byID  map[model.PartitionID][]partition.Damage
}

func newDamages(log *slog.Logger, count func(topic string)) *damages {
	return &damages{log: log, count: count, byID: map[model.PartitionID][]partition.Damage{}}
}

// opened remembers what Open found, which Open has logged itself.
func (d *damages) opened(ctx context.Context, h *core.Handle) error {
	var found []partition.Damage
	if err := h.Query(ctx, func(p *partition.Partition) { found = p.Damage() }); err != nil {
		return err
	}
	for _, f := range found {
		d.count(h.Topic)
		d.add(h.ID, f)
	}
	return nil
}

// read counts what a read met, and logs what is new. It is fetch's OnCorrupt.
func (d *damages) read(h *core.Handle, err error) {
	d.count(h.Topic)
	found, ok := partition.DamageOf(err)
	if ok && d.add(h.ID, found) {
		d.log.Error("stored log is damaged", "topic", h.Topic, "partition", h.ID.Index, "file", found.File, "pos", found.Pos,
			"first", int64(found.First), "last", int64(found.Last), "reason", found.Reason)
	}
}

func (d *damages) add(id model.PartitionID, found partition.Damage) (news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.byID[id]
	if slices.Contains(known, found) || len(known) == damagesMax {
		return false
	}
	d.byID[id] = append(known, found)
	return true
}

// of lists a partition's damage that its log, from start on, still holds.
func (d *damages) of(id model.PartitionID, start func() model.Offset) []partition.Damage {
	d.mu.Lock()
	known := slices.Clone(d.byID[id])
	d.mu.Unlock()
	if len(known) == 0 {
		return nil
	}
	from := start()
	return slices.DeleteFunc(known, func(f partition.Damage) bool { return f.Last < from })
}

// forget drops what is known of a partition that left this node, or is about to
// be opened again.
func (d *damages) forget(id model.PartitionID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byID, id)
}
