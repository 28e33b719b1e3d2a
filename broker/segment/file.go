package segment

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path/filepath"
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

// file is what a Segment shares with its Views: the file, and the index once the
// segment is sealed.
type file struct {
	*disk.Shared
	fs  disk.FS
	dir string
	// index is a sealed segment's; nil when it must be read. What it points to never
	// changes: two Views that read it at once store the same.
	index atomic.Pointer[index]
}

func newFile(p Place, m *Meta) *file {
	shared := disk.NewShared(p.FS, filepath.Join(p.Dir, m.Name()), filepath.Join(p.Dir, m.IndexName()))
	return &file{Shared: shared, fs: p.FS, dir: p.Dir}
}

// open gives a handle to read from, to who holds the file.
func (f *file) open(m *Meta) (disk.File, error) {
	handle, err := f.Reader(func(handle disk.File) error { return f.check(handle, m) })
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
	var b [HeaderSize]byte
	n, err := handle.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read segment %s: %w", f.Name(), err)
	}
	err = m.checkHeader(b[:n])
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
	x, covered, err := readIndex(f.fs, f.dir, &v.Meta)
	if err != nil || covered != v.Meta.Length {
		x = v.rebuildIndex()
	}
	f.index.Store(&x)
	return x
}

func (f *file) corrupt(pos int64, first, last model.Offset, reason string) error {
	return &CorruptError{Damage{File: filepath.Base(f.Name()), Pos: pos, First: first, Last: last, Reason: reason}}
}
