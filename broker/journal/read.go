package journal

import (
	"errors"
	"fmt"
	"io"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
)

// runBytesMax is how much is read at once, in bytes.
const runBytesMax = 1 << 20

// ListNodeInfo implements raftio.ILogDB: replicas that have a bootstrap record.
func (j *Journal) ListNodeInfo() ([]raftio.NodeInfo, error) {
	j.nodesMu.RLock()
	defer j.nodesMu.RUnlock()
	var all []raftio.NodeInfo
	for _, n := range j.nodes {
		n.mu.Lock()
		if n.bootstrap != nil {
			all = append(all, n.name.info())
		}
		n.mu.Unlock()
	}
	return all, nil
}

// GetBootstrapInfo implements raftio.ILogDB.
func (j *Journal) GetBootstrapInfo(shard, replica uint64) (pb.Bootstrap, error) {
	var b pb.Bootstrap
	n := j.node(shard, replica)
	if n == nil {
		return b, raftio.ErrNoBootstrapInfo
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bootstrap == nil {
		return b, raftio.ErrNoBootstrapInfo
	}
	if err := b.Unmarshal(n.bootstrap); err != nil {
		return b, fmt.Errorf("bootstrap record of %v: %w", n.name, err)
	}
	return b, nil
}

// GetSnapshot implements raftio.ILogDB: the newest, or an empty one.
func (j *Journal) GetSnapshot(shard, replica uint64) (pb.Snapshot, error) {
	var ss pb.Snapshot
	n := j.node(shard, replica)
	if n == nil {
		return ss, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.snapshot == nil {
		return ss, nil
	}
	if err := ss.Unmarshal(n.snapshot); err != nil {
		return ss, fmt.Errorf("snapshot record of %v: %w", n.name, err)
	}
	return ss, nil
}

// ReadRaftState implements raftio.ILogDB. Entries are counted from snapshot on.
func (j *Journal) ReadRaftState(shard, replica, snapshot uint64) (raftio.RaftState, error) {
	n := j.node(shard, replica)
	if n == nil {
		return raftio.RaftState{}, raftio.ErrNoSavedLog
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if pb.IsEmptyState(n.state) {
		return raftio.RaftState{}, raftio.ErrNoSavedLog
	}
	s := raftio.RaftState{State: n.state, FirstIndex: snapshot}
	if e := &n.entries; len(e.places) > 0 && e.next() > snapshot+1 {
		s.FirstIndex = max(e.first, snapshot)
		s.EntryCount = e.next() - s.FirstIndex
	}
	return s, nil
}

// IterateEntries implements raftio.ILogDB: entries from low to below high, until
// size is larger than sizeMax, at least one. Commands alias what was read.
func (j *Journal) IterateEntries(ents []pb.Entry, size, shard, replica, low, high, sizeMax uint64) ([]pb.Entry, uint64, error) {
	n := j.node(shard, replica)
	if n == nil {
		return ents, size, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	high = min(high, n.entries.next())
	for low < high && low >= n.entries.first {
		run := n.entries.run(low, high, min(runBytesMax, sizeMax))
		es, err := j.readRun(n.name, low, run)
		if err != nil {
			return nil, 0, err
		}
		for i := range es {
			size += uint64(es[i].SizeUpperLimit())
			ents = append(ents, es[i])
			if size > sizeMax {
				return ents, size, nil
			}
		}
		low += uint64(len(run))
	}
	return ents, size, nil
}

// run gives the places of entries that lie behind each other in one file, from low
// on: at least one, of about bytes.
func (e *entries) run(low, high, bytes uint64) []place {
	from := e.places[low-e.first : high-e.first]
	total := uint64(from[0].length)
	n := 1
	for n < len(from) && total < bytes {
		last := &from[n-1]
		if from[n].file != last.file || from[n].pos != last.pos+last.length {
			break
		}
		total += uint64(from[n].length)
		n++
	}
	return from[:n]
}

// readRun reads entries that lie behind each other, the first of which is low.
func (j *Journal) readRun(n name, low uint64, run []place) ([]pb.Entry, error) {
	f := j.files.find(run[0].file)
	must(f != nil, "%v: entry %d is in file %d, which is gone", n, low, run[0].file)
	last := &run[len(run)-1]
	b := make([]byte, last.pos+last.length-run[0].pos)
	var es []pb.Entry
	err := f.readAt(j.files.fs, j.files.path(f.name), b, int64(run[0].pos))
	if err == nil {
		es, err = decodeRun(nil, b, low, len(run), f.mix)
	}
	if err == nil {
		return es, nil
	}
	// The page cache may hold what the device no longer does, or never did.
	b, again := f.readDirect(j.files.fs, j.files.path(f.name), int64(run[0].pos), len(b))
	if again == nil {
		es, again = decodeRun(nil, b, low, len(run), f.mix)
	}
	if again != nil {
		return nil, fmt.Errorf("%w: read entry %d of %v at %d of %s: %w", ErrDamaged, low, n, run[0].pos, f.name, again)
	}
	j.log.Warn("journal read again past the cache", "file", f.name, "err", err)
	return es, nil
}

// decodeRun checks that b is count entries from low on.
func decodeRun(es []pb.Entry, b []byte, low uint64, count int, mix uint32) ([]pb.Entry, error) {
	for i := range count {
		e, length, err := nextEntry(b, mix)
		if err != nil {
			return es, err
		}
		if e.Index != low+uint64(i) {
			return es, fmt.Errorf("entry %d instead of %d", e.Index, low+uint64(i))
		}
		es = append(es, e)
		b = b[length:]
	}
	return es, nil
}

// readAt reads through the page cache.
func (f *file) readAt(fs disk.FS, path string, b []byte, pos int64) error {
	f.mu.Lock()
	if f.reader == nil {
		r, err := fs.Open(path)
		if err != nil {
			f.mu.Unlock()
			return err
		}
		f.reader = r
	}
	r := f.reader
	f.mu.Unlock()
	n, err := r.ReadAt(b, pos)
	if n == len(b) {
		return nil
	}
	return errors.Join(err, io.ErrUnexpectedEOF)
}

// readDirect reads past it, where that can be done.
func (f *file) readDirect(fs disk.FS, path string, pos int64, n int) ([]byte, error) {
	d, err := fs.OpenDirect(path, false)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	from := pos &^ (page - 1)
	b := disk.Aligned(int(disk.AlignUp(pos + int64(n) - from)))
	if m, err := d.ReadAt(b, from); m < len(b) {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return b[pos-from:][:n:n], nil
}
