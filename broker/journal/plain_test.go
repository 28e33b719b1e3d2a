package journal_test

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"path/filepath"
	"sync"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
)

// plain is the simplest log that is right: it keeps the model, and writes all of it
// anew at each call. It proves the suites that take a file system: they must pass on
// it, and must notice each flaw that is built into it.
type plain struct {
	fs   disk.FS
	flaw flaw
	s    setup
	lock io.Closer

	mu     sync.Mutex
	m      model
	failed error
}

type flaw string

const (
	flawless     flaw = ""
	noSync       flaw = "the file is renamed before it is synced"
	noSyncDir    flaw = "the directory is not synced"
	inPlace      flaw = "the file is written over itself"
	noChecksum   flaw = "what is read is not checked"
	tolerant     flaw = "a short file is an empty log"
	deaf         flaw = "a failed write is not noticed"
	hopeful      flaw = "calls after a failed one go on"
	mute         flaw = "nobody is told of a failure"
	lateState    flaw = "a hard state is kept for the next call that has entries"
	lateSnapshot flaw = "snapshots are kept for the next save"
)

func plainWith(f flaw) opens {
	return func(fs disk.FS, s setup) (store, error) {
		p := &plain{fs: fs, flaw: f, s: s, m: model{}}
		if err := fs.MkdirAll(dir); err != nil {
			return nil, err
		}
		lock, err := fs.Lock(filepath.Join(dir, "LOCK"))
		if err != nil {
			return nil, err
		}
		p.lock = lock
		if err := p.load(); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		return p, nil
	}
}

// saved is a replica in a form that gob takes.
type saved struct {
	Node     raftio.NodeInfo
	Boot     *pb.Bootstrap
	State    pb.State
	Snapshot pb.Snapshot
	Entries  []pb.Entry
	Base     uint64
}

const plainFile = "all"

func (p *plain) load() error {
	name := filepath.Join(dir, plainFile)
	b, err := disk.ReadFile(p.fs, name, 1<<30)
	if errors.Is(err, iofs.ErrNotExist) {
		return p.write(p.m)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) < 4 && p.flaw == tolerant {
		return nil
	}
	if len(b) < 4 || (p.flaw != noChecksum && crc32.ChecksumIEEE(b[4:]) != binary.LittleEndian.Uint32(b)) {
		return fmt.Errorf("read %s: bad checksum", name)
	}
	var all []saved
	if err := gob.NewDecoder(bytes.NewReader(b[4:])).Decode(&all); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	for _, s := range all {
		p.m[s.Node] = &replica{boot: s.Boot, state: s.State, snapshot: s.Snapshot, entries: s.Entries, base: s.Base}
	}
	return nil
}

func (p *plain) write(m model) error {
	var all []saved
	for n, r := range m {
		all = append(all, saved{n, r.boot, r.state, r.snapshot, r.entries, r.base})
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(all); err != nil {
		return err
	}
	name := filepath.Join(dir, plainFile)
	fresh := name + ".new"
	if p.flaw == inPlace {
		fresh = name
	}
	f, err := p.fs.Create(fresh)
	if err != nil {
		return err
	}
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b.Bytes())), b.Bytes()...))
	if err == nil && p.flaw != noSync {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := p.fs.Rename(fresh, name); err != nil {
		return err
	}
	if p.flaw == noSyncDir {
		return nil
	}
	return p.fs.SyncDir(dir)
}

// change makes a call last.
func (p *plain) change(c call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil && p.flaw != hopeful {
		return p.failed
	}
	m := p.m.clone()
	c.apply(m)
	err := error(nil)
	if !p.late(c) {
		err = p.write(m)
	}
	if err != nil && p.flaw != deaf {
		if p.failed == nil && p.flaw != mute && p.s.fatal != nil {
			p.s.fatal(err)
		}
		p.failed = err
		return err
	}
	p.m = m
	return nil
}

// late is the flaw of calls that do not write what they should.
func (p *plain) late(c call) bool {
	switch c := c.(type) {
	case saveState:
		for _, u := range c {
			if len(u.EntriesToSave) > 0 {
				return false
			}
		}
		return p.flaw == lateState
	case saveSnapshots:
		return p.flaw == lateSnapshot
	}
	return false
}

func (p *plain) of(shard, id uint64) *replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m.of(raftio.GetNodeInfo(shard, id))
}

func (p *plain) Name() string                       { return "plain" }
func (p *plain) BinaryFormat() uint32               { return 1 }
func (p *plain) Close() error                       { return p.lock.Close() }
func (p *plain) Damaged() map[raftio.NodeInfo]error { return nil }

func (p *plain) ListNodeInfo() (nodes []raftio.NodeInfo, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, r := range p.m {
		if r.boot != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

func (p *plain) SaveBootstrapInfo(shard, id uint64, b pb.Bootstrap) error {
	return p.change(saveBootstrap{raftio.GetNodeInfo(shard, id), b})
}

func (p *plain) GetBootstrapInfo(shard, id uint64) (pb.Bootstrap, error) {
	if r := p.of(shard, id); r.boot != nil {
		return *r.boot, nil
	}
	return pb.Bootstrap{}, raftio.ErrNoBootstrapInfo
}

func (p *plain) SaveRaftState(updates []pb.Update, _ uint64) error {
	return p.change(saveState(updates))
}

func (p *plain) IterateEntries(entries []pb.Entry, size, shard, id, low, high, maxSize uint64) ([]pb.Entry, uint64, error) {
	r := p.of(shard, id)
	if low <= r.base {
		return entries, size, nil
	}
	for _, e := range r.after(low - 1) {
		if e.Index >= high {
			break
		}
		entries = append(entries, e)
		if size += uint64(e.SizeUpperLimit()); size > maxSize {
			break
		}
	}
	return entries, size, nil
}

func (p *plain) ReadRaftState(shard, id, last uint64) (raftio.RaftState, error) {
	r := p.of(shard, id)
	if pb.IsEmptyState(r.state) {
		return raftio.RaftState{}, raftio.ErrNoSavedLog
	}
	return raftio.RaftState{State: r.state, FirstIndex: max(last, r.base) + 1, EntryCount: uint64(len(r.after(last)))}, nil
}

func (p *plain) RemoveEntriesTo(shard, id, index uint64) error {
	if p.of(shard, id).last() < index {
		return nil
	}
	return p.change(removeTo{raftio.GetNodeInfo(shard, id), index})
}

func (p *plain) CompactEntriesTo(uint64, uint64, uint64) (<-chan struct{}, error) {
	done := make(chan struct{})
	close(done)
	return done, nil
}

func (p *plain) SaveSnapshots(updates []pb.Update) error { return p.change(saveSnapshots(updates)) }

func (p *plain) GetSnapshot(shard, id uint64) (pb.Snapshot, error) {
	return p.of(shard, id).snapshot, nil
}

func (p *plain) RemoveNodeData(shard, id uint64) error {
	return p.change(removeNode{raftio.GetNodeInfo(shard, id)})
}

func (p *plain) ImportSnapshot(ss pb.Snapshot, id uint64) error {
	return p.change(importSnapshot{raftio.GetNodeInfo(ss.ShardID, id), ss})
}
