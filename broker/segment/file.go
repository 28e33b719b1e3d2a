package segment

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path/filepath"
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

// file is what a Segment shares with its Views: the file, and the index once the
// segment is sealed.
type file struct {
	*disk.Shared
	place Place
	id    block.ID
	// checked: the header was compared once; it never changes.
	checked atomic.Bool
	// index is a sealed segment's; nil when it must be read. What it points to never
	// changes: two Views that read it at once store the same.
	index atomic.Pointer[index]
	// synced: what is written is durable at once.
	synced atomic.Bool
	// sized is how much space the file has. Owned by whoever writes.
	sized int64
}

func newFile(p Place, m *Meta) *file {
	shared := disk.NewShared(p.FS, filepath.Join(p.Dir, m.Name()), filepath.Join(p.Dir, m.IndexName()))
	return &file{Shared: shared, place: p, id: p.Past.NewID()}
}

// openDirect opens a file past the file system's cache, or through it where it can
// do no other.
func (f *file) openDirect(name string) (disk.File, error) {
	handle, err := f.place.FS.OpenDirect(name, true)
	if errors.Is(err, disk.ErrNoDirect) {
		return f.place.FS.OpenAppend(name)
	}
	f.synced.Store(err == nil)
	return handle, err
}

// create makes the file and opens it.
func (f *file) create(name string) (disk.File, error) {
	empty, err := f.place.FS.Create(name)
	if err != nil {
		return nil, err
	}
	if err := empty.Close(); err != nil {
		return nil, err
	}
	return f.openDirect(name)
}

// open gives a handle to read from, to who holds the file.
func (f *file) open(m *Meta) (disk.File, error) {
	handle, err := f.Reader(f.openDirect, func(handle disk.File) error { return f.check(handle, m) })
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return nil, f.corrupt(0, m.Base, m.End-1, "file is missing")
	case err != nil:
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return handle, nil
}

// check compares the file's header with what the segment must begin with.
func (f *file) check(handle disk.File, m *Meta) error {
	if f.checked.Load() {
		return nil
	}
	page := f.place.Memory.Get(block.Page)
	defer page.Release()
	n, err := handle.ReadAt(page.Bytes(), 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read segment %s: %w", f.Name(), err)
	}
	err = m.checkHeader(page.Bytes()[:min(n, HeaderSize)])
	if err == nil {
		f.checked.Store(true)
	}
	if err == nil || errors.Is(err, ErrFormat) {
		return err
	}
	return f.corrupt(0, m.Base, m.End-1, err.Error())
}

// sealedIndex gives a sealed segment's index, reading or rebuilding it once.
func (f *file) sealedIndex(v *View) index {
	if x := f.index.Load(); x != nil {
		return *x
	}
	x, covered, err := readIndex(f.place.FS, f.place.Dir, &v.Meta)
	if err != nil || covered != v.Meta.Length {
		x = v.rebuildIndex()
	}
	f.index.Store(&x)
	return x
}

// corrupt names damage. What was read of the file is read anew by the next who asks.
func (f *file) corrupt(pos int64, first, last model.Offset, reason string) error {
	f.place.Past.Forget(f.id)
	return &CorruptError{Damage{File: filepath.Base(f.Name()), Pos: pos, First: first, Last: last, Reason: reason}}
}
