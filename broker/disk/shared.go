package disk

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"sync"
	"sync/atomic"
)

// Shared is a file that one owner writes and any goroutine reads: it is opened when
// first needed, closed when nobody needs it, and can be doomed while it is read.
type Shared struct {
	fs    FS
	name  string
	along []string // removed with it

	// refs counts holders. It is not under mu: Hold must not wait for a disk that
	// opens the file for somebody else.
	refs atomic.Int64

	mu     sync.Mutex
	reader File // opened for a holder; nil while there is none
	writer File // the owner's
	kept   bool // by the owner
	doomed bool
}

// NewShared describes a file without opening it; along are files that are removed
// together with it.
func NewShared(fs FS, name string, along ...string) *Shared {
	return &Shared{fs: fs, name: name, along: along}
}

// Name is the file's name.
func (s *Shared) Name() string { return s.name }

// Hold keeps the file from being removed until Release. It never waits. Only the
// owner calls it, and not after Doom, or who holds the file already.
func (s *Shared) Hold() { s.refs.Add(1) }

// Release ends a Hold.
func (s *Shared) Release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs.Add(-1)
	return s.settle()
}

// Reader gives a handle to read from, to who holds or keeps the file. A file that
// open opens for it must pass check first.
func (s *Shared) Reader(open func(name string) (File, error), check func(File) error) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writer != nil {
		return s.writer, nil
	}
	if s.reader != nil {
		return s.reader, nil
	}
	f, err := open(s.name)
	if err != nil {
		return nil, err
	}
	if err := check(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.reader = f
	return f, nil
}

// Writer gives the owner's handle, which open opens once, and keeps the file open
// until Let or Doom.
func (s *Shared) Writer(open func(name string) (File, error)) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writer == nil {
		f, err := open(s.name)
		if err != nil {
			return nil, err
		}
		s.writer, s.kept = f, true
	}
	return s.writer, nil
}

// Let ends the owner's keeping: it writes no more, and needs no sync.
func (s *Shared) Let() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = false
	return s.settle()
}

// Doom lets go and removes the file once nobody holds it.
func (s *Shared) Doom() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doomed, s.kept = true, false
	return s.settle()
}

// settle closes a file that nobody needs, and removes it if it is doomed.
func (s *Shared) settle() error {
	if s.refs.Load() > 0 || s.kept {
		return nil
	}
	var err error
	for _, handle := range []*File{&s.reader, &s.writer} {
		if *handle != nil {
			err = errors.Join(err, (*handle).Close())
			*handle = nil
		}
	}
	if !s.doomed {
		return err
	}
	for _, name := range append([]string{s.name}, s.along...) {
		if e := s.fs.Remove(name); e != nil && !errors.Is(e, iofs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove doomed file: %w", e))
		}
	}
	return err
}
