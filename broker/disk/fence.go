package disk

import (
	"errors"
	"sync"
)

// ErrFenced says that the files of a name are somebody else's by now.
var ErrFenced = errors.New("files were replaced")

// Fence is a file system for files that are to be replaced, all together, by others
// of the same names while some still hold the old ones: once it has fallen, nothing
// is opened, made, renamed or removed by name through it any more. Handles stay valid.
type Fence struct {
	FS
	mu     sync.RWMutex
	fallen bool
}

// NewFence gives a fence around fs that stands.
func NewFence(fs FS) *Fence { return &Fence{FS: fs} }

// Fall waits for what is under way and lets nothing pass any more.
func (f *Fence) Fall() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fallen = true
}

func (f *Fence) pass(do func() error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.fallen {
		return ErrFenced
	}
	return do()
}

func (f *Fence) open(do func() (File, error)) (file File, err error) {
	err = f.pass(func() (err error) { file, err = do(); return err })
	return file, err
}

// Open implements FS.
func (f *Fence) Open(name string) (File, error) {
	return f.open(func() (File, error) { return f.FS.Open(name) })
}

// Create implements FS.
func (f *Fence) Create(name string) (File, error) {
	return f.open(func() (File, error) { return f.FS.Create(name) })
}

// OpenAppend implements FS.
func (f *Fence) OpenAppend(name string) (File, error) {
	return f.open(func() (File, error) { return f.FS.OpenAppend(name) })
}

// OpenDirect implements FS.
func (f *Fence) OpenDirect(name string, synced bool) (File, error) {
	return f.open(func() (File, error) { return f.FS.OpenDirect(name, synced) })
}

// Remove implements FS.
func (f *Fence) Remove(name string) error {
	return f.pass(func() error { return f.FS.Remove(name) })
}

// Rename implements FS.
func (f *Fence) Rename(from, to string) error {
	return f.pass(func() error { return f.FS.Rename(from, to) })
}

// Link implements FS.
func (f *Fence) Link(from, to string) error {
	return f.pass(func() error { return f.FS.Link(from, to) })
}
