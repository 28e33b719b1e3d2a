package segment

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path/filepath"
	"sync"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

// file is what a Segment shares with its Views: the open handle, the index of a
// sealed segment, and the count of those who need the file to stay.
type file struct {
	fs        disk.FS
	dir       string
	name      string // full
	indexName string // full

	mu      sync.Mutex
	reader  disk.File // opened by a View; nil while nobody reads
	writer  disk.File // of the Segment, until what it wrote is synced
	refs    int       // Views
	kept    bool      // by the Segment: it writes, or waits for its sync
	doomed  bool
	checked bool  // the file header was
	index   index // of a sealed segment; nil when it must be read
}

// open gives a handle to read from, opening the file if need be. The caller holds
// a reference or has the file kept.
func (f *file) open(m *Meta) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.writer != nil {
		return f.writer, nil
	}
	if f.reader == nil {
		reader, err := f.fs.Open(f.name)
		if errors.Is(err, iofs.ErrNotExist) {
			return nil, f.corrupt(0, m.Base, m.End-1, "file is missing")
		}
		if err != nil {
			return nil, fmt.Errorf("open segment: %w", err)
		}
		f.reader = reader
	}
	if !f.checked {
		if err := f.check(m); err != nil {
			return nil, err
		}
		f.checked = true
	}
	return f.reader, nil
}

func (f *file) check(m *Meta) error {
	var b [HeaderSize]byte
	n, err := f.reader.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read segment %s: %w", f.name, err)
	}
	err = m.checkHeader(b[:n])
	if err == nil || errors.Is(err, ErrFormat) {
		return err
	}
	return f.corrupt(0, m.Base, m.End-1, err.Error())
}

func (f *file) acquire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refs++
}

func (f *file) release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refs--
	return f.settle()
}

// keep gives the handle to write with and holds it until unkeep or doom. Only the
// Segment's loop calls it.
func (f *file) keep(open func(name string) (disk.File, error)) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.writer == nil {
		writer, err := open(f.name)
		if err != nil {
			return nil, err
		}
		f.writer, f.kept = writer, true
	}
	return f.writer, nil
}

func (f *file) unkeep() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = false
	return f.settle()
}

// doom removes the file once nobody reads it.
func (f *file) doom() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doomed, f.kept = true, false
	return f.settle()
}

// settle closes a file that nobody holds, and removes it if it is doomed.
func (f *file) settle() error {
	if f.refs > 0 || f.kept {
		return nil
	}
	var err error
	for _, handle := range []*disk.File{&f.reader, &f.writer} {
		if *handle != nil {
			err = errors.Join(err, (*handle).Close())
			*handle = nil
		}
	}
	if !f.doomed {
		return err
	}
	for _, name := range []string{f.name, f.indexName} {
		if e := f.fs.Remove(name); e != nil && !errors.Is(e, iofs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove segment: %w", e))
		}
	}
	return err
}

// sealedIndex gives a sealed segment's index, reading or rebuilding it once.
func (f *file) sealedIndex(v *View) index {
	f.mu.Lock()
	x := f.index
	f.mu.Unlock()
	if x != nil {
		return x
	}
	x, covered, err := readIndex(f.fs, f.dir, &v.Meta)
	if err != nil || covered != v.Meta.Length {
		x = v.rebuildIndex()
	}
	if x == nil {
		x = index{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index = x
	return x
}

func (f *file) setIndex(x index) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index = x
}

// forgetIndex frees a sealed segment's index: it can be read again.
func (f *file) forgetIndex() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index = nil
}

func (f *file) corrupt(pos int64, first, last model.Offset, reason string) error {
	return &CorruptError{Damage{File: filepath.Base(f.name), Pos: pos, First: first, Last: last, Reason: reason}}
}
