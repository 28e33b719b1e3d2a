package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DirectAlign is what memory, position and length of a direct file's reads and
// writes are multiples of, in bytes: no less than any device's block.
const DirectAlign = 4096

// ErrNoDirect says that a file system cannot go past its cache (tmpfs, some
// overlays): open the file buffered and sync it.
var ErrNoDirect = errors.New("file system has no direct I/O")

// Aligned makes a slice of n bytes, zeroed, whose memory direct I/O takes.
func Aligned(n int) []byte {
	if b := make([]byte, n); aligned(b[:0], 0) {
		return b // as allocators place what is large
	}
	b := make([]byte, n+DirectAlign)
	skip := (DirectAlign - int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%DirectAlign)) % DirectAlign
	return b[skip : skip+n : skip+n]
}

// AlignUp gives the next multiple of DirectAlign.
func AlignUp(n int64) int64 { return (n + DirectAlign - 1) &^ (DirectAlign - 1) }

// AlignDown gives the last multiple of DirectAlign that is not behind n.
func AlignDown(n int64) int64 { return n &^ (DirectAlign - 1) }

// aligned tells whether direct I/O takes b at a position.
func aligned(b []byte, at int64) bool {
	return at%DirectAlign == 0 && len(b)%DirectAlign == 0 &&
		uintptr(unsafe.Pointer(unsafe.SliceData(b)))%DirectAlign == 0
}

// directDevices are the devices whose file systems have taken a direct read.
var directDevices sync.Map // uint64 -> struct{}

// OpenDirect implements FS. Some file systems take the flag and refuse the first
// read, so one is tried, once per device.
func (OS) OpenDirect(name string, synced bool) (File, error) {
	flags := os.O_RDWR | unix.O_DIRECT
	if synced {
		flags |= unix.O_DSYNC
	}
	f, err := openOS(name, flags)
	if errors.Is(err, unix.EINVAL) {
		return nil, pathError(OpOpen, name, ErrNoDirect)
	}
	if err != nil {
		return nil, err
	}
	if _, known := directDevices.Load(f.device); known {
		return f, nil
	}
	_, err = f.ReadAt(Aligned(DirectAlign), 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		_ = f.Close() // nothing was written
		return nil, pathError(OpOpen, name, ErrNoDirect)
	}
	if err == nil || errors.Is(err, io.EOF) {
		directDevices.Store(f.device, struct{}{})
	}
	return f, nil // any other error is the first reader's
}

// probeName is the file that HasDirect makes and removes.
const probeName = "DIRECT.probe"

// HasDirect tells whether files in dir can be opened directly.
func HasDirect(fs FS, dir string) (bool, error) {
	name := filepath.Join(dir, probeName)
	f, err := fs.Create(name)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return false, fmt.Errorf("try direct I/O: %w", err)
	}
	f, err = fs.OpenDirect(name, false)
	if err == nil {
		err = f.Close()
	}
	has := err == nil
	if errors.Is(err, ErrNoDirect) {
		err = nil
	}
	if err = errors.Join(err, fs.Remove(name)); err != nil {
		return false, fmt.Errorf("try direct I/O: %w", err)
	}
	return has, nil
}

// OpenDirect implements FS.
func (m *Memory) OpenDirect(name string, synced bool) (File, error) {
	m.mu.Lock()
	refused := m.noDirect
	m.mu.Unlock()
	if refused {
		return nil, pathError(OpOpen, name, ErrNoDirect)
	}
	f, err := m.open(name, false)
	if err != nil {
		return nil, err
	}
	d := f.(*memoryFile)
	d.direct, d.synced = true, synced
	return d, nil
}

// RefuseDirect makes OpenDirect answer ErrNoDirect, as tmpfs does.
func (m *Memory) RefuseDirect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noDirect = true
}

// OpenDirect implements FS.
func (f *Faulty) OpenDirect(name string, synced bool) (File, error) {
	return f.file(OpOpen, name, func(name string) (File, error) { return f.fs.OpenDirect(name, synced) })
}
