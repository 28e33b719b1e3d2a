package journal_test

import (
	"maps"
	"sync"

	"github.com/millrace-io/millrace/broker/disk"
)

// watching counts every operation, also one that fails, then passes it on.
type watching struct {
	disk.FS
	mu   sync.Mutex
	seen map[disk.Op]int
}

func watch(fs disk.FS) *watching { return &watching{FS: fs, seen: map[disk.Op]int{}} }

func (w *watching) count(op disk.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[op]++
}

func (w *watching) counts() map[disk.Op]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.seen)
}

func (w *watching) file(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return &watchedFile{f, w}, nil
}

func (w *watching) Open(name string) (disk.File, error) {
	w.count(disk.OpOpen)
	return w.file(w.FS.Open(name))
}

func (w *watching) OpenAppend(name string) (disk.File, error) {
	w.count(disk.OpOpen)
	return w.file(w.FS.OpenAppend(name))
}

func (w *watching) OpenDirect(name string, synced bool) (disk.File, error) {
	w.count(disk.OpOpen)
	return w.file(w.FS.OpenDirect(name, synced))
}

func (w *watching) Create(name string) (disk.File, error) {
	w.count(disk.OpCreate)
	return w.file(w.FS.Create(name))
}

func (w *watching) Rename(from, to string) error {
	w.count(disk.OpRename)
	return w.FS.Rename(from, to)
}

func (w *watching) Remove(name string) error {
	w.count(disk.OpRemove)
	return w.FS.Remove(name)
}

func (w *watching) SyncDir(name string) error {
	w.count(disk.OpSyncDir)
	return w.FS.SyncDir(name)
}

func (w *watching) List(name string) ([]string, error) {
	w.count(disk.OpList)
	return w.FS.List(name)
}

func (w *watching) Stat(name string) (disk.Info, error) {
	w.count(disk.OpStat)
	return w.FS.Stat(name)
}

type watchedFile struct {
	disk.File
	w *watching
}

func (f *watchedFile) ReadAt(b []byte, at int64) (int, error) {
	f.w.count(disk.OpRead)
	return f.File.ReadAt(b, at)
}

func (f *watchedFile) Write(b []byte) (int, error) {
	f.w.count(disk.OpWrite)
	return f.File.Write(b)
}

func (f *watchedFile) WriteAt(b []byte, at int64) (int, error) {
	f.w.count(disk.OpWrite)
	return f.File.WriteAt(b, at)
}

func (f *watchedFile) Truncate(size int64) error {
	f.w.count(disk.OpTruncate)
	return f.File.Truncate(size)
}

func (f *watchedFile) Sync() error {
	f.w.count(disk.OpSync)
	return f.File.Sync()
}
