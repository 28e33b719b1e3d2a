package disk

import (
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Op names an operation for hooks and faults.
type Op string

// The operations. Those that change something are the points at which a Crashing
// file system can stop.
const (
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpStat     Op = "stat"
	OpList     Op = "list"
	OpLock     Op = "lock"
	OpFree     Op = "free"
	OpCreate   Op = "create"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpLink     Op = "link"
	OpMkdir    Op = "mkdir"
	OpSyncDir  Op = "syncdir"
)

// node is a file's content. Guarded by its file system's mutex.
type node struct {
	data    []byte
	durable []byte   // as of the last Sync; only with history
	pending []change // since then, in order; only with history
}

// change is a write of data at off, or a truncation to off when data is nil. One
// that survives already stands among those that may not, to keep their order.
type change struct {
	off      int64
	data     []byte
	survives bool
}

func (c change) apply(b []byte) []byte {
	if c.data == nil {
		return resize(b, c.off)
	}
	if end := c.off + int64(len(c.data)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[c.off:], c.data)
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// nameChange gives name to node, or takes it away (nil); from is the name that a
// rename takes away in the same step. With dir it moves all that is below from. What is
// gone with its directory is so durably once the directory that had that is synced: gone.
type nameChange struct {
	name, from string
	node       *node
	dir        bool
	gone       string
}

// Memory is a file system in memory, for tests and for data that need not last.
// It forgets nothing and loses nothing: see Crashing.
type Memory struct {
	mu       sync.Mutex
	names    map[string]*node
	dirs     map[string]bool
	locks    map[string]bool
	capacity int64 // bytes; Free counts down from it and writes beyond it fail
	used     int64
	noDirect bool

	// history is kept by Crashing alone.
	history bool
	durable map[string]*node // names as of their directory's last sync
	pending []nameChange
	// point is asked before each change. With an error the change fails; unless
	// frozen it may still reach the disk.
	point func(op Op, name string) (frozen bool, err error)
}

// memoryCapacity is what Free of an empty Memory says: 1 TiB.
const memoryCapacity = 1 << 40

// NewMemory gives an empty file system.
func NewMemory() *Memory {
	return &Memory{
		names: map[string]*node{}, dirs: map[string]bool{"/": true, ".": true}, locks: map[string]bool{},
		capacity: memoryCapacity, durable: map[string]*node{},
		point: func(Op, string) (bool, error) { return false, nil },
	}
}

// SetCapacity bounds what all files together may hold, in bytes; writes beyond it
// fail with ENOSPC.
func (m *Memory) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

func pathError(op Op, name string, err error) error {
	return &iofs.PathError{Op: string(op), Path: name, Err: err}
}

func (m *Memory) rename(c nameChange) {
	if m.history {
		m.pending = append(m.pending, c)
	}
	c.apply(m.names)
}

func (c nameChange) apply(names map[string]*node) {
	if c.dir {
		moveBelow(names, c.from, c.name)
		return
	}
	if c.from != "" {
		delete(names, c.from)
	}
	if c.node == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.node
	}
}

// move renames what a change is about, if it is below from.
func (c *nameChange) move(from, to string) {
	for _, name := range []*string{&c.name, &c.from} {
		if rest, ok := strings.CutPrefix(*name, from+string(filepath.Separator)); ok {
			*name = filepath.Join(to, rest)
		}
	}
}

// Open implements FS.
func (m *Memory) Open(name string) (File, error) { return m.open(name, true) }

// OpenAppend implements FS.
func (m *Memory) OpenAppend(name string) (File, error) { return m.open(name, false) }

func (m *Memory) open(name string, readOnly bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	n := m.names[name]
	if n == nil {
		return nil, pathError(OpOpen, name, iofs.ErrNotExist)
	}
	return &memoryFile{m: m, n: n, name: name, readOnly: readOnly}, nil
}

// Create implements FS.
func (m *Memory) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if !m.dirs[filepath.Dir(name)] {
		return nil, pathError(OpCreate, name, iofs.ErrNotExist)
	}
	frozen, stop := m.point(OpCreate, name)
	if frozen {
		return nil, stop
	}
	n := m.names[name]
	if n == nil {
		n = &node{}
		m.rename(nameChange{name: name, node: n})
	} else {
		m.change(n, change{off: 0})
	}
	if stop != nil {
		return nil, stop
	}
	return &memoryFile{m: m, n: n, name: name}, nil
}

// Remove implements FS.
func (m *Memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if m.dirs[name] {
		if len(m.list(name)) > 0 {
			return pathError(OpRemove, name, unix.ENOTEMPTY)
		}
		frozen, stop := m.point(OpRemove, name)
		if frozen {
			return stop
		}
		delete(m.dirs, name)
		for i, c := range m.pending {
			if filepath.Dir(c.name) == name || c.gone == name {
				m.pending[i].gone = filepath.Dir(name)
			}
		}
		return stop
	}
	n := m.names[name]
	if n == nil {
		return pathError(OpRemove, name, iofs.ErrNotExist)
	}
	frozen, stop := m.point(OpRemove, name)
	if frozen {
		return stop
	}
	m.rename(nameChange{name: name})
	m.unused(n)
	return stop
}

// Rename implements FS.
func (m *Memory) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	if m.dirs[from] {
		return m.renameDir(from, to)
	}
	n := m.names[from]
	if n == nil || !m.dirs[filepath.Dir(to)] {
		return pathError(OpRename, from, iofs.ErrNotExist)
	}
	frozen, stop := m.point(OpRename, to)
	if frozen {
		return stop
	}
	over := m.names[to]
	m.rename(nameChange{name: to, from: from, node: n})
	if over != nil && over != n {
		m.unused(over)
	}
	return stop
}

// unused gives back the space of a file that has lost a name, if that was its last.
func (m *Memory) unused(n *node) {
	for _, other := range m.names {
		if other == n {
			return
		}
	}
	m.used -= int64(len(n.data))
}

func (m *Memory) renameDir(from, to string) error {
	if m.dirs[to] || m.names[to] != nil {
		return pathError(OpRename, to, iofs.ErrExist)
	}
	if !m.dirs[filepath.Dir(to)] {
		return pathError(OpRename, to, iofs.ErrNotExist)
	}
	frozen, stop := m.point(OpRename, to)
	if frozen {
		return stop
	}
	m.rename(nameChange{name: to, from: from, dir: true})
	moveBelow(m.dirs, from, to)
	return stop
}

// moveBelow renames from and all that is below it.
func moveBelow[T any](names map[string]T, from, to string) {
	for name, v := range maps.Clone(names) {
		if rest, ok := strings.CutPrefix(name, from); ok && (rest == "" || rest[0] == filepath.Separator) {
			delete(names, name)
			names[to+rest] = v
		}
	}
}

// Link implements FS.
func (m *Memory) Link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	n := m.names[from]
	if n == nil || !m.dirs[filepath.Dir(to)] {
		return pathError(OpLink, from, iofs.ErrNotExist)
	}
	if m.names[to] != nil || m.dirs[to] {
		return pathError(OpLink, to, iofs.ErrExist)
	}
	frozen, stop := m.point(OpLink, to)
	if frozen {
		return stop
	}
	m.rename(nameChange{name: to, node: n})
	return stop
}

// MkdirAll implements FS.
func (m *Memory) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mkdir(filepath.Clean(name))
}

func (m *Memory) mkdir(name string) error {
	if m.dirs[name] {
		return nil
	}
	if m.names[name] != nil {
		return pathError(OpMkdir, name, unix.ENOTDIR)
	}
	if err := m.mkdir(filepath.Dir(name)); err != nil {
		return err
	}
	if _, err := m.point(OpMkdir, name); err != nil {
		return err
	}
	m.dirs[name] = true
	return nil
}

// List implements FS.
func (m *Memory) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	if !m.dirs[dir] {
		return nil, pathError(OpList, dir, iofs.ErrNotExist)
	}
	return m.list(dir), nil
}

func (m *Memory) list(dir string) []string {
	var names []string
	for name := range m.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	for name := range m.dirs {
		if filepath.Dir(name) == dir && name != dir && name != "." {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

// Stat implements FS.
func (m *Memory) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if m.dirs[name] {
		return Info{Dir: true}, nil
	}
	n := m.names[name]
	if n == nil {
		return Info{}, pathError(OpStat, name, iofs.ErrNotExist)
	}
	return Info{Size: int64(len(n.data))}, nil
}

// SyncDir implements FS.
func (m *Memory) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	if !m.dirs[dir] {
		return pathError(OpSyncDir, dir, iofs.ErrNotExist)
	}
	if _, err := m.point(OpSyncDir, dir); err != nil {
		return err
	}
	kept := m.pending[:0]
	for _, c := range m.pending {
		if filepath.Dir(c.name) != dir && c.gone != dir {
			kept = append(kept, c)
			continue
		}
		c.apply(m.durable)
		if c.dir {
			for i := range kept { // what is not synced in it has moved with it
				kept[i].move(c.from, c.name)
			}
		}
	}
	m.pending = kept
	return nil
}

type memoryLock struct {
	m    *Memory
	name string
}

func (l memoryLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// Lock implements FS.
func (m *Memory) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if !m.dirs[filepath.Dir(name)] {
		return nil, pathError(OpLock, name, iofs.ErrNotExist)
	}
	if m.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	m.locks[name] = true
	if m.names[name] == nil {
		m.rename(nameChange{name: name, node: &node{}})
	}
	return memoryLock{m, name}, nil
}

// Free implements FS.
func (m *Memory) Free(string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.capacity-m.used, 0), nil
}

// Corrupt changes a stored byte behind everyone's back, as a bad disk does.
func (m *Memory) Corrupt(name string, at int64, mask byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[filepath.Clean(name)]
	if n == nil || at >= int64(len(n.data)) {
		return fmt.Errorf("corrupt %s at %d: %w", name, at, iofs.ErrNotExist)
	}
	n.data[at] ^= mask
	if at < int64(len(n.durable)) {
		n.durable[at] ^= mask
	}
	return nil
}

// Files gives the names of all files below dir, sorted.
func (m *Memory) Files(dir string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.names {
		if strings.HasPrefix(name, filepath.Clean(dir)+"/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (m *Memory) change(n *node, c change) {
	before := len(n.data)
	n.data = c.apply(n.data)
	m.used += int64(len(n.data) - before)
	switch {
	case !m.history:
	case c.survives && len(n.pending) == 0:
		n.durable = c.apply(n.durable)
	default:
		n.pending = append(n.pending, c)
	}
}

type memoryFile struct {
	m        *Memory
	n        *node
	name     string
	readOnly bool
	direct   bool
	synced   bool
	closed   bool
}

func (f *memoryFile) writable(op Op) error {
	if f.readOnly || f.closed {
		return pathError(op, f.name, iofs.ErrClosed)
	}
	return nil
}

func (f *memoryFile) ReadAt(b []byte, at int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return 0, pathError(OpRead, f.name, iofs.ErrClosed)
	}
	if f.direct && !aligned(b, at) {
		return 0, pathError(OpRead, f.name, unix.EINVAL)
	}
	if at >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) Write(b []byte) (int, error) { return f.write(b, -1) }

func (f *memoryFile) WriteAt(b []byte, at int64) (int, error) { return f.write(b, at) }

// write puts b at an offset, -1 being the end.
func (f *memoryFile) write(b []byte, at int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.writable(OpWrite); err != nil {
		return 0, err
	}
	if at < 0 {
		at = int64(len(f.n.data))
	}
	if f.direct && !aligned(b, at) {
		return 0, pathError(OpWrite, f.name, unix.EINVAL)
	}
	if f.m.used+at+int64(len(b))-int64(len(f.n.data)) > f.m.capacity {
		return 0, pathError(OpWrite, f.name, unix.ENOSPC)
	}
	frozen, stop := f.m.point(OpWrite, f.name)
	if frozen {
		return 0, stop
	}
	f.m.change(f.n, change{off: at, data: append([]byte{}, b...), survives: f.synced && stop == nil})
	if stop != nil {
		return 0, stop
	}
	return len(b), nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.writable(OpTruncate); err != nil {
		return err
	}
	frozen, stop := f.m.point(OpTruncate, f.name)
	if frozen {
		return stop
	}
	f.m.change(f.n, change{off: size})
	return stop
}

func (f *memoryFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return pathError(OpSync, f.name, iofs.ErrClosed)
	}
	if _, err := f.m.point(OpSync, f.name); err != nil {
		return err
	}
	for _, c := range f.n.pending {
		f.n.durable = c.apply(f.n.durable)
	}
	f.n.pending = nil
	return nil
}

func (f *memoryFile) Preallocate(int64) error { return nil }

func (f *memoryFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memoryFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, iofs.ErrClosed)
	}
	f.closed = true
	return nil
}
