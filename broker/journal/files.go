package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/millrace-io/millrace/broker/disk"
)

const (
	version     = 1
	suffix      = ".journal"
	sparePrefix = "spare-"
	// zeroBytes is how much of a new file is written at once: small, since somebody
	// may be waiting for a sync of the same device.
	zeroBytes = 256 << 10
)

var fileMagic = [8]byte{'m', 'i', 'l', 'l', 'r', 'j', 'n', 'l'}

// errStopping says that the journal is being closed.
var errStopping = errors.New("stopping")

// file is one of the journal's.
type file struct {
	seq  uint64
	name string
	mix  uint32 // what binds checksums to it
	size int64
	end  int64 // of its blocks; of the current one guarded by device

	direct bool
	dev    disk.File // guarded by device; nil once the file is full

	mu     sync.Mutex // guards reader and raw
	reader disk.File
	raw    disk.File // past the page cache, for a second look
}

// write puts b at a position and returns once it is durable.
func (f *file) write(b []byte, pos int64) error {
	if _, err := f.dev.WriteAt(b, pos); err != nil {
		return err
	}
	if f.direct {
		return nil
	}
	return f.dev.Sync()
}

func (f *file) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, h := range []*disk.File{&f.dev, &f.reader, &f.raw} {
		if *h != nil {
			errs = append(errs, (*h).Close())
			*h = nil
		}
	}
	return errors.Join(errs...)
}

// files are those in the directory. mu guards list, spares and made; current is the
// writer's.
type files struct {
	fs      disk.FS
	dir     string
	log     *slog.Logger
	id      [16]byte
	session uint64
	size    int64 // of new files
	most    int64 // bytes of all files
	direct  atomic.Bool
	ready   chan *file
	current *file
	breathe func() // between two steps of a new file; nil while nobody waits

	mu       sync.Mutex
	list     []*file // ascending, the current one last
	spares   []spare
	next     uint64 // sequence of the next file
	number   uint64 // of the next spare
	prepared int64  // bytes of the file in ready, or on its way there
}

type spare struct {
	name string
	size int64
}

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

func fileName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, suffix) }

// parseName gives the sequence of a file in use.
func parseName(s string) (uint64, bool) {
	hex, ok := strings.CutSuffix(s, suffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(hex, 16, 64)
	return seq, err == nil && seq > 0
}

// place gives room for a block: in the current file, or in the next. prevEnd is not
// 0 for the first block of a file that has one before it.
func (j *Journal) place(size int64) (to *file, pos int64, prevEnd uint32, err error) {
	f := &j.files
	if c := f.current; c != nil && c.dev != nil && c.end+size <= c.size {
		c.end += size
		return c, c.end - size, 0, nil
	}
	next, err := j.nextFile()
	if err != nil {
		return nil, 0, 0, err
	}
	must(page+size <= next.size, "block of %d bytes for a file of %d", size, next.size)
	next.end = page + size
	if c := f.current; c != nil {
		prevEnd = uint32(c.end)
		err = c.full()
	}
	f.begin(next)
	j.wakeTrimmer()
	return next, page, prevEnd, err
}

// nextFile gives the file that was prepared, or waits for it.
func (j *Journal) nextFile() (*file, error) {
	select {
	case next := <-j.files.ready:
		return next, nil
	default:
		j.waits.Add(1)
		j.starved.Store(true)
		defer j.starved.Store(false)
	}
	select {
	case next := <-j.files.ready:
		return next, nil
	case <-j.dead:
	case <-j.prepared: // a Close waits for the file its last block or its seal goes to
		select {
		case next := <-j.files.ready:
			return next, nil
		default:
		}
	}
	return nil, errStopping
}

// full lets go of the handle that is written by.
func (f *file) full() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dev == nil {
		return nil
	}
	err := f.dev.Close()
	f.dev = nil
	return err
}

// begin makes a prepared file the current one.
func (f *files) begin(next *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, next)
	f.current, f.prepared = next, 0
}

// prepareNext makes the next file ready to be written: full of zeroes or of old
// blocks, with its own header, and durable under its name.
func (f *files) prepareNext() (*file, error) {
	f.mu.Lock()
	seq := f.next
	var s spare
	if n := len(f.spares); n > 0 {
		s = f.spares[n-1]
		f.spares = f.spares[:n-1]
	}
	f.prepared = f.size
	f.mu.Unlock()
	n, err := f.prepareAs(seq, s)
	if err != nil {
		f.mu.Lock()
		if s.name != "" {
			f.spares = append(f.spares, s)
		}
		f.prepared = 0
		f.mu.Unlock()
		return nil, fmt.Errorf("prepare journal file %d: %w", seq, err)
	}
	f.mu.Lock()
	f.next = seq + 1
	f.mu.Unlock()
	return n, nil
}

func (f *files) prepareAs(seq uint64, s spare) (*file, error) {
	if s.name != "" && s.size != f.size {
		if err := f.fs.Remove(f.path(s.name)); err != nil {
			return nil, err
		}
		s.name = ""
	}
	if s.name == "" {
		s.name = f.spareName()
		if err := f.zero(f.path(s.name)); err != nil {
			return nil, err
		}
	}
	to := fileName(seq)
	if err := f.writeHeader(f.path(s.name), seq); err != nil {
		return nil, err
	}
	if err := f.fs.Rename(f.path(s.name), f.path(to)); err != nil {
		return nil, err
	}
	if err := f.fs.SyncDir(f.dir); err != nil {
		return nil, err
	}
	dev, err := f.open(f.path(to))
	if err != nil {
		return nil, err
	}
	return &file{seq: seq, name: to, mix: mix(f.session, seq), size: f.size, end: page, direct: f.direct.Load(), dev: dev}, nil
}

// zero makes a file full of zeroes. While others use the device it does so in synced
// steps, with a breath between two: what is not synced is paid for by their next sync.
func (f *files) zero(path string) error {
	c, err := f.fs.Create(path)
	if err != nil {
		return err
	}
	zeroes := disk.Aligned(int(min(zeroBytes, f.size)))
	to := c
	d, err := f.fs.OpenDirect(path, f.breathe != nil)
	switch {
	case err == nil:
		to = d
	case !errors.Is(err, disk.ErrNoDirect):
		return errors.Join(err, c.Close())
	}
	for at := int64(0); at < f.size && err == nil || at == 0; at += int64(len(zeroes)) {
		_, err = to.WriteAt(zeroes[:min(int64(len(zeroes)), f.size-at)], at)
		if f.breathe != nil {
			f.breathe()
		}
	}
	err = errors.Join(err, c.Sync(), c.Close())
	if d != nil {
		err = errors.Join(err, d.Close())
	}
	return err
}

// open opens a file for synced writes, and finds out how.
func (f *files) open(path string) (disk.File, error) {
	dev, err := f.fs.OpenDirect(path, true)
	if errors.Is(err, disk.ErrNoDirect) {
		f.direct.Store(false)
		return f.fs.OpenAppend(path)
	}
	f.direct.Store(err == nil)
	return dev, err
}

func (f *files) writeHeader(path string, seq uint64) error {
	dev, err := f.open(path)
	if err != nil {
		return err
	}
	h := file{dev: dev, direct: f.direct.Load()}
	// The sync is for a spare that an earlier process has left: it may not have come to it.
	return errors.Join(h.write(f.header(seq), 0), dev.Sync(), dev.Close())
}

func (f *files) header(seq uint64) []byte {
	b := disk.Aligned(page)
	copy(b, fileMagic[:])
	le := binary.LittleEndian
	le.PutUint32(b[8:], version)
	le.PutUint64(b[16:], seq)
	le.PutUint64(b[24:], f.session)
	copy(b[32:], f.id[:])
	le.PutUint64(b[48:], uint64(f.size))
	le.PutUint32(b[12:], headerSum(b))
	return b
}

func headerSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[8:12], castagnoli), castagnoli, b[16:64])
}

// header of a file that was read.
type header struct {
	seq, session uint64
	id           [16]byte
	size         int64
}

// readHeader checks a file's first page.
func readHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	if len(b) < page || [8]byte(b[:8]) != fileMagic {
		return header{}, errSum
	}
	if headerSum(b) != le.Uint32(b[12:]) {
		return header{}, errSum
	}
	if v := le.Uint32(b[8:]); v != version {
		return header{}, fmt.Errorf("%w: version %d, want %d", ErrForeign, v, version)
	}
	return header{seq: le.Uint64(b[16:]), session: le.Uint64(b[24:]), id: [16]byte(b[32:48]), size: int64(le.Uint64(b[48:]))}, nil
}

// recycle makes the oldest file a spare.
func (f *files) recycle(old *file) error {
	f.mu.Lock()
	must(len(f.list) > 1 && f.list[0] == old, "file %d is not the oldest", old.seq)
	f.list = slices.Delete(f.list, 0, 1)
	f.mu.Unlock()
	if err := old.close(); err != nil {
		return fmt.Errorf("recycle %s: %w", old.name, err)
	}
	return f.retire(old.name, old.size)
}

// retire gives a file that nobody needs a spare's name, or removes it: while the
// trimmer was behind, more were made than are allowed.
func (f *files) retire(name string, size int64) error {
	if _, bytes := f.sum(); bytes+size > f.most {
		if err := errors.Join(f.fs.Remove(f.path(name)), f.fs.SyncDir(f.dir)); err != nil {
			return fmt.Errorf("free %s: %w", name, err)
		}
		return nil
	}
	s := spare{f.spareName(), size}
	if err := errors.Join(f.fs.Rename(f.path(name), f.path(s.name)), f.fs.SyncDir(f.dir)); err != nil {
		return fmt.Errorf("recycle %s: %w", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spares = append(f.spares, s)
	return nil
}

func (f *files) spareName() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.number++
	return fmt.Sprintf("%s%016x", sparePrefix, f.number)
}

// sum counts all files and their bytes.
func (f *files) sum() (count int, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	bytes = f.prepared
	if f.prepared > 0 {
		count = 1
	}
	for _, l := range f.list {
		bytes += l.size
	}
	for _, s := range f.spares {
		bytes += s.size
	}
	return count + len(f.list) + len(f.spares), bytes
}

// inUse is the bytes of the files that hold blocks.
func (f *files) inUse() (bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.list {
		bytes += l.size
	}
	return bytes
}

// find gives a file in use.
func (f *files) find(seq uint32) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := slices.BinarySearchFunc(f.list, seq, func(l *file, s uint32) int { return int(int64(uint32(l.seq)) - int64(s)) })
	if !ok {
		return nil
	}
	return f.list[i]
}

// oldest gives the file to recycle next; nil when there is only the current one.
func (f *files) oldest() *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) < 2 {
		return nil
	}
	return f.list[0]
}

func (f *files) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, l := range f.list {
		errs = append(errs, l.close())
	}
	select {
	case n := <-f.ready:
		errs = append(errs, n.close())
	default:
	}
	return errors.Join(errs...)
}

// newID makes the id of a new journal.
func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}
