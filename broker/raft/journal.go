package raft

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/journal"
	"github.com/millrace-io/millrace/broker/model"
)

// ErrOtherLog says that a data directory was written by a version that kept its
// Raft log otherwise.
var ErrOtherLog = errors.New("this data directory's raft log is of an older kind, which this version does not read: " +
	"copy its topics to a new broker with the version that wrote it, or start with an empty --data-dir")

// journalFactory makes dragonboat use our log.
type journalFactory struct {
	h     *Host
	first bool // it opens the journal, which the others share
}

// Name is part of config.LogDBFactory.
func (*journalFactory) Name() string { return journal.Name }

// Create is part of config.LogDBFactory.
func (f *journalFactory) Create(config.NodeHostConfig, config.LogDBCallback, []string, []string) (raftio.ILogDB, error) {
	if !f.first {
		return sharedLog{knownLog{f.h.journal, &f.h.left}}, nil
	}
	o := &f.h.options
	j, err := journal.Open(journal.Options{
		FS: disk.OS{}, Dir: filepath.Join(o.Dir, journalDir),
		FileBytes: o.JournalFileBytes, BytesMax: o.JournalBytesMax,
		Log: o.Log, Fatal: f.fatal, Pinned: f.pinned, Synced: o.Synced,
	})
	if err != nil {
		return nil, err
	}
	f.h.journal = j
	return knownLog{j, &f.h.left}, nil
}

// fatal does not return: whoever waits for the log would panic on its error before
// the process has ended in order.
func (f *journalFactory) fatal(err error) {
	f.h.options.Fatal(err)
	select {}
}

// pinned is called by the journal: it must not wait.
func (f *journalFactory) pinned(i raftio.NodeInfo) {
	shard := model.ShardID(i.ShardID)
	switch {
	case shard == ControllerShard:
		go f.h.snapshotController()
	case f.h.options.Pinned != nil:
		f.h.options.Pinned(shard)
	}
}

// snapshotController lets the controller's log go. A failure is met again when the
// journal asks the next time.
func (h *Host) snapshotController() {
	n, err := h.of(ControllerShard)
	if err != nil {
		return
	}
	rs, err := n.RequestSnapshot(uint64(ControllerShard), dragonboat.SnapshotOption{OverrideCompactionOverhead: true}, time.Minute)
	if err == nil {
		<-rs.ResultC()
		rs.Release()
	}
}

// Damaged tells what a shard's log has lost, or nil.
func (h *Host) Damaged(shard model.ShardID) error {
	err := h.journal.Damaged()[raftio.GetNodeInfo(uint64(shard), h.own(shard))]
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrLogDamaged, err)
}

// Journal tells what the log has written.
func (h *Host) Journal() journal.Stats { return h.journal.Stats() }

// Writing tells for how long a write to the log has not returned; 0 while there is none.
func (h *Host) Writing() time.Duration { return h.journal.Writing() }

// checkSize refuses what the log could not write.
func (h *Host) checkSize(cmd []byte) error {
	if len(cmd) > h.commandMax {
		return fmt.Errorf("%w: %d bytes, it takes %d; larger journal files take more", ErrTooLarge, len(cmd), h.commandMax)
	}
	return nil
}
