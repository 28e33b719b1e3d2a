package disk

import (
	"io"
	"slices"
	"strings"
	"sync"
)

// Fault is an error, a shortage or a flipped bit to inject.
type Fault struct {
	Op   Op
	Path string // a part of the name; empty matches all
	Err  error
	// Skip lets that many matching operations pass first; Times bounds how many are
	// hit, 0 being all.
	Skip, Times int
	// Partial is how many bytes a write or read does before it fails.
	Partial int
	// Mask, when not 0, flips bits of the file's byte at At as it is read; the
	// operation itself then succeeds unless Err is set.
	At   int64
	Mask byte
}

// Faulty passes everything to another file system, but for what Inject says.
type Faulty struct {
	fs     FS
	mu     sync.Mutex
	faults []*Fault
}

// NewFaulty wraps fs, without faults yet.
func NewFaulty(fs FS) *Faulty { return &Faulty{fs: fs} }

// Inject adds a fault; the first that matches an operation is the one that hits.
func (f *Faulty) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fault)
}

// Heal takes all faults back.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// hit finds the fault for an operation, if any, and counts it.
func (f *Faulty) hit(op Op, name string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.faults {
		if fault.Op != op || !strings.Contains(name, fault.Path) {
			continue
		}
		if fault.Skip > 0 {
			fault.Skip--
			continue
		}
		if fault.Times == 1 {
			f.faults = slices.Delete(slices.Clone(f.faults), i, i+1)
		}
		if fault.Times > 1 {
			fault.Times--
		}
		return fault
	}
	return nil
}

func (f *Faulty) fails(op Op, name string) error {
	if fault := f.hit(op, name); fault != nil && fault.Err != nil {
		return pathError(op, name, fault.Err)
	}
	return nil
}

func (f *Faulty) file(op Op, name string, open func(string) (File, error)) (File, error) {
	if err := f.fails(op, name); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, f: f, name: name}, nil
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) { return f.file(OpOpen, name, f.fs.Open) }

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) { return f.file(OpCreate, name, f.fs.Create) }

// OpenAppend implements FS.
func (f *Faulty) OpenAppend(name string) (File, error) { return f.file(OpOpen, name, f.fs.OpenAppend) }

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	if err := f.fails(OpRemove, name); err != nil {
		return err
	}
	return f.fs.Remove(name)
}

// Rename implements FS.
func (f *Faulty) Rename(from, to string) error {
	if err := f.fails(OpRename, to); err != nil {
		return err
	}
	return f.fs.Rename(from, to)
}

// Link implements FS.
func (f *Faulty) Link(from, to string) error {
	if err := f.fails(OpLink, to); err != nil {
		return err
	}
	return f.fs.Link(from, to)
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(name string) error {
	if err := f.fails(OpMkdir, name); err != nil {
		return err
	}
	return f.fs.MkdirAll(name)
}

// List implements FS.
func (f *Faulty) List(dir string) ([]string, error) {
	if err := f.fails(OpList, dir); err != nil {
		return nil, err
	}
	return f.fs.List(dir)
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (Info, error) {
	if err := f.fails(OpStat, name); err != nil {
		return Info{}, err
	}
	return f.fs.Stat(name)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(dir string) error {
	if err := f.fails(OpSyncDir, dir); err != nil {
		return err
	}
	return f.fs.SyncDir(dir)
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if err := f.fails(OpLock, name); err != nil {
		return nil, err
	}
	return f.fs.Lock(name)
}

// Free implements FS.
func (f *Faulty) Free(dir string) (int64, error) {
	if err := f.fails(OpFree, dir); err != nil {
		return 0, err
	}
	return f.fs.Free(dir)
}

type faultyFile struct {
	File
	f    *Faulty
	name string
}

func (f *faultyFile) ReadAt(b []byte, at int64) (int, error) {
	fault := f.f.hit(OpRead, f.name)
	if fault == nil {
		return f.File.ReadAt(b, at)
	}
	if fault.Err != nil {
		n, _ := f.File.ReadAt(b[:min(fault.Partial, len(b))], at)
		return n, pathError(OpRead, f.name, fault.Err)
	}
	n, err := f.File.ReadAt(b, at)
	if i := fault.At - at; fault.Mask != 0 && i >= 0 && i < int64(n) {
		b[i] ^= fault.Mask
	}
	return n, err
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if fault := f.f.hit(OpWrite, f.name); fault != nil && fault.Err != nil {
		n, _ := f.File.Write(b[:min(fault.Partial, len(b))])
		return n, pathError(OpWrite, f.name, fault.Err)
	}
	return f.File.Write(b)
}

func (f *faultyFile) WriteAt(b []byte, at int64) (int, error) {
	if fault := f.f.hit(OpWrite, f.name); fault != nil && fault.Err != nil {
		n, _ := f.File.WriteAt(b[:min(fault.Partial, len(b))], at)
		return n, pathError(OpWrite, f.name, fault.Err)
	}
	return f.File.WriteAt(b, at)
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.f.fails(OpTruncate, f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Sync() error {
	if err := f.f.fails(OpSync, f.name); err != nil {
		return err
	}
	return f.File.Sync()
}
