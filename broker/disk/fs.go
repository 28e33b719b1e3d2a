package disk

import (
	"errors"
	"io"
	"path/filepath"
)

var (
	// ErrLocked says that another process holds a lock file.
	ErrLocked = errors.New("locked by another process")
	// ErrPowerCut is what every call answers once a Crashing file system has stopped.
	ErrPowerCut = errors.New("power is cut")
)

// FS is a file system. Methods may be called from any goroutine. A name that does
// not exist gives an error that is fs.ErrNotExist.
type FS interface {
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// Create makes a file, or empties one, for reading and writing. Its name
	// survives once SyncDir of its directory has returned.
	Create(name string) (File, error)
	// OpenAppend opens an existing file for reading and writing; Write appends.
	OpenAppend(name string) (File, error)
	// OpenDirect opens an existing file for reading and writing past the cache:
	// memory (see Aligned), position and length of every ReadAt and WriteAt are
	// multiples of DirectAlign. With synced, what WriteAt wrote survives once it has
	// returned, also where the file grew by it. ErrNoDirect.
	OpenDirect(name string, synced bool) (File, error)
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// Rename moves a file over whatever has the new name, atomically; or a directory,
	// with all that is in it, to a name that nothing has.
	Rename(from, to string) error
	// Link gives a file another name, which nothing has. Neither name is the file's
	// own: it is there until both are removed.
	Link(from, to string) error
	// MkdirAll makes a directory and its parents, and syncs each directory that it
	// adds a name to: what it made survives.
	MkdirAll(name string) error
	// List gives the names in a directory, sorted.
	List(dir string) ([]string, error)
	Stat(name string) (Info, error)
	// SyncDir makes the names in a directory survive.
	SyncDir(dir string) error
	// Lock takes a lock file, making it if need be, until the result is closed or
	// the process ends. ErrLocked when somebody else has it.
	Lock(name string) (io.Closer, error)
	// Free tells how many bytes may still be written below dir.
	Free(dir string) (int64, error)
}

// Info is what Stat tells.
type Info struct {
	Size int64 // bytes; of a directory nothing
	Dir  bool
}

// File is an open file. ReadAt, Size and Sync may be called from any goroutine at any time; the
// other methods have one caller at a time.
type File interface {
	io.ReaderAt
	// Write appends to the end of the file, whole or with an error.
	io.Writer
	io.WriterAt
	// Truncate cuts or extends with zeroes.
	Truncate(size int64) error
	// Sync makes content and size survive.
	Sync() error
	// Preallocate takes disk space for size bytes without changing the file's size.
	Preallocate(size int64) error
	Size() (int64, error)
	io.Closer
}

// RemoveAll deletes what is below name, files before their directories, and name.
// One that does not exist is no error. The parent directory is not synced.
func RemoveAll(fs FS, name string) error {
	info, err := fs.Stat(name)
	if err != nil {
		return ignoreAbsent(err)
	}
	if info.Dir {
		names, err := fs.List(name)
		if err != nil {
			return ignoreAbsent(err)
		}
		for _, n := range names {
			if err := RemoveAll(fs, filepath.Join(name, n)); err != nil {
				return err
			}
		}
	}
	return ignoreAbsent(fs.Remove(name))
}

// ReadFile reads a whole file of at most max bytes.
func ReadFile(fs FS, name string, max int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > max {
		return nil, &tooLargeError{name, size, max}
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), b); err != nil {
		return nil, err
	}
	return b, nil
}
