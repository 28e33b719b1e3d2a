package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system.
type OS struct{}

const (
	fileMode = 0o640
	dirMode  = 0o750
)

// Open implements FS.
func (OS) Open(name string) (File, error) { return opened(openOS(name, os.O_RDONLY)) }

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return opened(openOS(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC))
}

// OpenAppend implements FS.
func (OS) OpenAppend(name string) (File, error) { return opened(openOS(name, os.O_RDWR)) }

// opened keeps a nil file from becoming a File that is not nil.
func opened(f *osFile, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Link implements FS.
func (OS) Link(from, to string) error { return os.Link(from, to) }

// making are the directories that are being made, each with what is closed once it is
// durable: who finds one there must not take it for that.
var making sync.Map // string -> chan struct{}

// MkdirAll implements FS.
func (o OS) MkdirAll(name string) error {
	name = filepath.Clean(name)
	if info, err := os.Stat(name); err == nil {
		if !info.IsDir() {
			return &os.PathError{Op: "mkdir", Path: name, Err: unix.ENOTDIR}
		}
		if made, ok := making.Load(name); ok {
			<-made.(chan struct{})
		}
		return nil
	}
	parent := filepath.Dir(name)
	if parent != name {
		if err := o.MkdirAll(parent); err != nil {
			return err
		}
	}
	made := make(chan struct{})
	if _, busy := making.LoadOrStore(name, made); busy {
		return o.MkdirAll(name)
	}
	defer close(made)
	defer making.Delete(name)
	if err := os.Mkdir(name, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return o.SyncDir(parent)
}

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Stat implements FS.
func (OS) Stat(name string) (Info, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	return Info{Size: info.Size(), Dir: info.IsDir()}, nil
}

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// osLock holds its file open; the kernel releases the lock with the last handle,
// also when the process dies.
type osLock struct{ f *os.File }

func (l osLock) Close() error { return l.f.Close() }

// Lock implements FS.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return osLock{f}, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return nil, fmt.Errorf("lock %s: %w", name, err)
}

// Free implements FS.
func (OS) Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// osFile appends at end by itself: O_APPEND would forbid WriteAt.
type osFile struct {
	f      *os.File
	device uint64
	mu     sync.Mutex // guards end, for Size beside Write
	end    int64
}

func openOS(name string, flags int) (*osFile, error) {
	f, err := os.OpenFile(name, flags, fileMode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	o := &osFile{f: f, end: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		o.device = uint64(st.Dev)
	}
	return o, nil
}

func (f *osFile) ReadAt(b []byte, at int64) (int, error) { return f.f.ReadAt(b, at) }

func (f *osFile) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.f.WriteAt(b, f.end)
	f.end += int64(n)
	return n, err
}

func (f *osFile) WriteAt(b []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.f.WriteAt(b, at)
	f.end = max(f.end, at+int64(n))
	return n, err
}

func (f *osFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.f.Truncate(size); err != nil {
		return err
	}
	f.end = size
	return nil
}

func (f *osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.f.Name(), Err: err}
		}
	}
}

func (f *osFile) Preallocate(size int64) error {
	err := unix.Fallocate(int(f.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a hint that this file system does not take
	}
	if err != nil {
		return &os.PathError{Op: "fallocate", Path: f.f.Name(), Err: err}
	}
	return nil
}

func (f *osFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Close() error { return f.f.Close() }
