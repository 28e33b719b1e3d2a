package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/millrace-io/millrace/broker/disk"
)

var (
	// ErrDamaged says that bytes which were acknowledged cannot be read any more.
	// Restore the replica from a peer, or remove it.
	ErrDamaged = errors.New("raft journal is damaged")
	// ErrClosed is the answer of a closed journal.
	ErrClosed = errors.New("raft journal is closed")
	// ErrTooLarge says that an entry does not fit into a file: use larger files.
	ErrTooLarge = errors.New("entry is larger than a journal file takes")
	// ErrForeign says that a directory's files are of another format or journal.
	ErrForeign = errors.New("not a journal of this version")
)

// Name is what dragonboat writes into its directory: whoever opens it must agree.
const Name = "millrace-journal"

// binaryFormat says that the entries are ours.
const binaryFormat = 0x4d524a01

const (
	// FileBytesMin and FileBytesMax bound Options.FileBytes: a file is read whole at
	// the start.
	FileBytesMin int64 = 64 << 10
	FileBytesMax int64 = 256 << 20
	// filesMin is how many files BytesMax must allow: the current one, the next, and
	// two that wait to be recycled.
	filesMin = 4
	// blockBytesMax is when an open batch takes nothing more, in bytes.
	blockBytesMax = 4 << 20
	// sealAfter is how long the device is idle before a seal is written: what a torn
	// write and damage may be taken for each other in.
	sealAfter = 20 * time.Millisecond
)

// Options says where a journal is and how large it may become.
type Options struct {
	FS  disk.FS
	Dir string
	// FileBytes is the size of a file. It may change from start to start.
	FileBytes int64
	// BytesMax bounds all files together. A replica that needs an old file when half
	// of it is used is written again.
	BytesMax int64
	Log      *slog.Logger
	// Fatal is told of the first failed write or sync, before anybody else is. The
	// process must end: nothing is acknowledged any more.
	Fatal func(error)
	// Pinned asks for a snapshot of a replica whose entries keep an old file. It must
	// not wait.
	Pinned func(raftio.NodeInfo)
	// Synced, if set, is told of every write: its bytes, and how long it took. It is
	// called with the device held and must be quick.
	Synced func(bytes int, took time.Duration)
}

// Stats are sums since Open.
type Stats struct {
	// Syncs are the writes, each with its sync, that somebody waited for.
	Syncs uint64
	// Seals are those that nobody did.
	Seals uint64
	// Bytes are those of Syncs and Seals.
	Bytes uint64
	// Waits counts the times that a write waited for a file to be prepared.
	Waits uint64
	// Moved counts the replicas that were written again to free a file.
	Moved uint64
	// Files and FileBytes are what the directory holds now.
	Files     int
	FileBytes int64
	// Direct tells whether writes go past the page cache.
	Direct bool
}

// Journal implements raftio.ILogDB. Its methods may be called from any goroutine;
// calls about one replica that change its log come one at a time.
type Journal struct {
	o       Options
	log     *slog.Logger
	session uint64
	files   files
	seal    time.Duration

	nodesMu sync.RWMutex
	nodes   map[name]*node
	damaged map[name]error

	device chan struct{} // a lock, held to write, of the three below and the current file
	before []name        // of the last block
	sealed bool          // nothing was written since the last seal
	idle   *time.Timer

	mu    sync.Mutex // taken inside device
	space sync.Cond  // the open batch was taken
	open  *batch
	spare []byte // the other buffer
	err   error  // of the device, or ErrClosed

	wake                chan struct{} // to the writer: the open batch has something, and somebody else was writing
	trimWake            chan struct{}
	stop                chan struct{} // closed by Close
	prepared            chan struct{} // closed when no other file will be prepared
	dead                chan struct{} // closed once the device has failed
	failOnce, closeOnce sync.Once
	wg                  sync.WaitGroup

	starved atomic.Bool  // a write waits for the next file
	writing atomic.Int64 // since when a write is under way, in nanoseconds after opened; 0: none
	opened  time.Time

	syncs, seals, bytes, waits, moved atomic.Uint64
}

var _ raftio.ILogDB = (*Journal)(nil)

// Open reads what is there and begins a new file. What it cannot read of the
// acknowledged log is in Damaged; the rest can be used.
func Open(o Options) (*Journal, error) {
	if o.FileBytes < FileBytesMin || o.FileBytes > FileBytesMax || o.FileBytes%page != 0 {
		return nil, fmt.Errorf("open journal: files of %d bytes: want %d to %d, in pages of %d", o.FileBytes, FileBytesMin, FileBytesMax, page)
	}
	if o.BytesMax < filesMin*o.FileBytes {
		return nil, fmt.Errorf("open journal: at most %d bytes: want room for %d files of %d", o.BytesMax, filesMin, o.FileBytes)
	}
	j := &Journal{
		o: o, log: o.Log, session: rand.Uint64(), seal: sealAfter, opened: time.Now(),
		nodes: map[name]*node{}, damaged: map[name]error{},
		device: make(chan struct{}, 1), wake: make(chan struct{}, 1), trimWake: make(chan struct{}, 1), stop: make(chan struct{}), prepared: make(chan struct{}), dead: make(chan struct{}),
	}
	j.space.L = &j.mu
	if err := j.recover(); err != nil {
		return nil, fmt.Errorf("open journal in %s: %w", o.Dir, err)
	}
	j.files.breathe = j.breathe
	j.sealed = len(j.before) == 0 // what recovery has kept gets a successor too
	j.idle = time.NewTimer(j.seal)
	j.wg.Go(j.write)
	j.wg.Go(j.prepare)
	j.wg.Go(j.trim)
	if err := j.noteDamage(); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal in %s: note damage: %w", o.Dir, err), j.Close())
	}
	return j, nil
}

// noteDamage saves what recovery has found damaged: the bytes that told of it may
// not be looked at by the next one, or be recycled.
func (j *Journal) noteDamage() error {
	var all []saved
	for key := range j.damaged {
		n := j.nodes[key]
		n.mu.Lock()
		s, err := j.appendItem(n, part{kind: kindBase}, nil)
		n.mu.Unlock()
		if err != nil {
			return errors.Join(err, j.land(all))
		}
		all = append(all, s)
	}
	return j.land(all)
}

// Close writes what is under way, and a seal. A second call does nothing.
func (j *Journal) Close() (err error) {
	j.closeOnce.Do(func() { err = j.end() })
	return err
}

func (j *Journal) end() error {
	j.mu.Lock()
	if j.err == nil {
		j.err = ErrClosed
	}
	j.space.Broadcast()
	j.mu.Unlock()
	close(j.stop)
	j.wg.Wait()
	return j.files.close()
}

// Name implements raftio.ILogDB.
func (j *Journal) Name() string { return Name }

// BinaryFormat implements raftio.ILogDB.
func (j *Journal) BinaryFormat() uint32 { return binaryFormat }

// Damaged names the replicas whose log has lost something, with what. They must
// not be started.
func (j *Journal) Damaged() map[raftio.NodeInfo]error {
	j.nodesMu.RLock()
	defer j.nodesMu.RUnlock()
	all := make(map[raftio.NodeInfo]error, len(j.damaged))
	for n, err := range j.damaged {
		all[raftio.GetNodeInfo(n.shard, n.replica)] = err
	}
	return all
}

// Stats tells what was written so far.
func (j *Journal) Stats() Stats {
	count, bytes := j.files.sum()
	return Stats{
		Syncs: j.syncs.Load(), Seals: j.seals.Load(), Bytes: j.bytes.Load(), Waits: j.waits.Load(), Moved: j.moved.Load(),
		Files: count, FileBytes: bytes, Direct: j.files.direct.Load(),
	}
}

// node finds a replica; nil when nothing of it was saved.
func (j *Journal) node(shard, replica uint64) *node {
	j.nodesMu.RLock()
	defer j.nodesMu.RUnlock()
	return j.nodes[name{shard, replica}]
}

// makeNode finds a replica, or begins one.
func (j *Journal) makeNode(shard, replica uint64) *node {
	if n := j.node(shard, replica); n != nil {
		return n
	}
	j.nodesMu.Lock()
	defer j.nodesMu.Unlock()
	key := name{shard, replica}
	if j.nodes[key] == nil {
		j.nodes[key] = &node{name: key}
	}
	return j.nodes[key]
}

// must stops the process on a broken invariant.
func must(holds bool, format string, args ...any) {
	if !holds {
		panic("journal: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
