package raft

import (
	"fmt"
	"io"

	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

// Entry is a committed command with its place in the Raft log. Cmd is shared
// with the log and the transport: nobody writes to it.
type Entry = partition.Entry

// StateMachine is a partition's replica as raft sees it. Any error it returns
// ends the process.
type StateMachine interface {
	// Open gives the index of the last entry whose effect is durable.
	Open(stop <-chan struct{}) (applied uint64, err error)
	// Apply takes entries in order; their effects are visible when it returns.
	// It may keep Cmd, not the slice.
	Apply(entries []Entry) error
	// Sync returns once everything applied so far is durable.
	Sync() error
	// Note says, to a replica that lacks what the log has forgotten, where the state is
	// to be had, at or past what is applied now. No Apply runs meanwhile. At most 4 KiB.
	Note() ([]byte, error)
	// Recover brings the machine, which may be older or newer, to where a Note says, and
	// returns when that is durable. Entries that it contains may be applied afterwards all
	// the same. It returns an error only when stop is closed.
	Recover(note []byte, stop <-chan struct{}) error
	// Close is the last call.
	Close() error
}

// ControllerMachine is the controller's state machine, held in memory.
type ControllerMachine interface {
	Apply(index uint64, cmd []byte) (result []byte)
	Snapshot() ([]byte, error)
	Restore([]byte) error
}

// diskMachine adapts StateMachine to dragonboat's on-disk contract. entries is
// reused: Apply does not keep it. closed is closed behind the library's last call.
type diskMachine struct {
	machine    StateMachine
	shard      model.ShardID
	recovering *recovering
	entries    []Entry
	closed     chan struct{}
}

func (d *diskMachine) Open(stop <-chan struct{}) (uint64, error) { return d.machine.Open(stop) }

func (d *diskMachine) Update(in []sm.Entry) ([]sm.Entry, error) {
	d.entries = d.entries[:0]
	for _, e := range in {
		d.entries = append(d.entries, Entry{Index: e.Index, Cmd: e.Cmd})
	}
	err := d.machine.Apply(d.entries)
	clear(d.entries)
	return in, err
}

func (d *diskMachine) Lookup(any) (any, error) { return nil, nil }
func (d *diskMachine) Sync() error             { return d.machine.Sync() }

func (d *diskMachine) Close() error {
	defer close(d.closed)
	return d.machine.Close()
}

// PrepareSnapshot is called only for what goes to a peer: all other snapshots are
// records without content. A machine that has nothing to say is about to stop; any
// other error would end the process.
func (d *diskMachine) PrepareSnapshot() (any, error) {
	note, err := d.machine.Note()
	if err != nil {
		return nil, sm.ErrSnapshotAborted
	}
	must(len(note) <= noteBytesMax, "a note of %d bytes", len(note))
	return note, nil
}

// SaveSnapshot passes on the writer's errors, which the library knows.
func (d *diskMachine) SaveSnapshot(note any, w io.Writer, _ <-chan struct{}) error {
	_, err := w.Write(frameNote(note.([]byte)))
	return err
}

// RecoverFromSnapshot returns once the machine has what the note speaks of, or the
// replica is stopped.
func (d *diskMachine) RecoverFromSnapshot(r io.Reader, stop <-chan struct{}) error {
	note, err := readNote(r)
	if err != nil {
		return err
	}
	d.recovering.begin(d.shard)
	err = d.machine.Recover(note, stop)
	d.recovering.end(d.shard)
	if err == nil {
		return nil
	}
	// Any other error ends the process, and one that is not the machine's end would have
	// the library go on with entries that do not follow: what is left is to wait for it.
	<-stop
	return sm.ErrSnapshotStopped
}

// snapshotBytesMax bounds what is read back as a controller snapshot.
const snapshotBytesMax = 1 << 30

// memoryMachine adapts ControllerMachine to dragonboat's in-memory contract.
type memoryMachine struct{ machine ControllerMachine }

func (m memoryMachine) Update(e sm.Entry) (sm.Result, error) {
	return sm.Result{Value: e.Index, Data: m.machine.Apply(e.Index, e.Cmd)}, nil
}

func (m memoryMachine) Lookup(any) (any, error) { return nil, nil }

func (m memoryMachine) SaveSnapshot(w io.Writer, _ sm.ISnapshotFileCollection, _ <-chan struct{}) error {
	b, err := m.machine.Snapshot()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (m memoryMachine) RecoverFromSnapshot(r io.Reader, _ []sm.SnapshotFile, _ <-chan struct{}) error {
	b, err := io.ReadAll(io.LimitReader(r, snapshotBytesMax+1))
	if err != nil {
		return err
	}
	if len(b) > snapshotBytesMax {
		return fmt.Errorf("controller snapshot has more than %d bytes", snapshotBytesMax)
	}
	return m.machine.Restore(b)
}

func (m memoryMachine) Close() error { return nil }
