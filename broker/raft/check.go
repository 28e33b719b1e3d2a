package raft

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/lni/dragonboat/v4"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/model"
)

// ErrMachineBehind says that a partition's files are older than what its log has
// forgotten: they were lost, or replaced. The library would panic.
var ErrMachineBehind = errors.New("partition has lost what its raft log has forgotten")

// checkMachine compares what a machine has on disk with what its log relies on. One
// that is behind a snapshot whose note is still there was stopped while it followed
// it: the library has it Recover again.
func (h *Host) checkMachine(shard model.ShardID, m StateMachine) error {
	applied, err := m.Open(nil)
	if err != nil {
		return err
	}
	ss, err := h.journal.GetSnapshot(uint64(shard), h.own(shard))
	if err != nil {
		return err
	}
	if ss.OnDiskIndex <= applied || hasNote(h.options.Dir, shard, ss) {
		return nil
	}
	return fmt.Errorf("%w: it stands at entry %d, the log begins behind %d", ErrMachineBehind, applied, ss.OnDiskIndex)
}

// noteWithin is where a note begins at the latest in one of the library's files: its
// header takes 1 KiB, its sessions 16 bytes.
const noteWithin = 4 << 10

// hasNote tells whether a snapshot is one that a peer sent, and not made good yet: then
// the library has shrunk its file to nothing. dir is Options.Dir.
func hasNote(dir string, shard model.ShardID, ss pb.Snapshot) bool {
	if ss.Dummy {
		return false
	}
	f, err := os.Open(snapshotFile(dir, shard, ss))
	if err != nil {
		return false // the library will say what is wrong with it
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, noteWithin+noteHead+noteBytesMax+4))
	return err == nil && findNote(b)
}

// snapshotFile is where a snapshot's file is now: its record has the path that it had
// when it came, and the data directory may have moved.
func snapshotFile(dir string, shard model.ShardID, ss pb.Snapshot) string {
	const below = 6 // host, deployment, part, replica, snapshot, file
	parts := strings.Split(ss.Filepath, string(filepath.Separator))
	if len(parts) < below {
		return ss.Filepath
	}
	return filepath.Join(append([]string{hostDir(dir, hostOf(shard))}, parts[len(parts)-below:]...)...)
}

// ErrLogDamaged says that a shard's log has lost entries that it held. The replica
// must not go on: new entries would take the indexes of lost ones.
var ErrLogDamaged = errors.New("raft log is damaged")

// CheckLog compares the log of a replica that StartPartition has just started with
// the index that its machine had reached: entries are in the log, synced, before
// any machine sees them, unless it was installed with them.
func (h *Host) CheckLog(shard model.ShardID, applied, installed uint64) error {
	var r dragonboat.ReadonlyLogReader
	n, err := h.of(shard)
	if err == nil {
		r, err = n.GetLogReader(uint64(shard))
	}
	if err != nil {
		return fmt.Errorf("read the log of shard %d: %w", shard, err)
	}
	if _, last := r.GetRange(); last < applied && applied > installed {
		return fmt.Errorf("%w: that of shard %d ends at entry %d, %d was applied already", ErrLogDamaged, shard, last, applied)
	}
	return nil
}
