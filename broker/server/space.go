package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/produce"
)

const (
	reserveFile = "RESERVE"
	// spaceEvery is how often free space is measured: what the log, its tables and
	// the segments write at 2 GB/s in between is a small part of the guard's default
	// of 256 MiB. A measurement takes microseconds.
	spaceEvery = 25 * time.Millisecond
)

// space refuses writes while the disk is low, before the log can meet ENOSPC,
// and holds a reserve that is given back when even that was not enough: the
// node can then always write what it needs to recover.
type space struct {
	dir            string
	guard, reserve int64
	log            *slog.Logger
	ask            func(dir string) (room, error) // statfs, but in tests
	refusal        atomic.Pointer[error]
	free, total    atomic.Int64
	held           bool   // owned by run
	trouble        string // last told; owned by run
}

// room is what a file system has, in bytes.
type room struct{ free, total int64 }

func statfs(dir string) (room, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return room{}, fmt.Errorf("measure free space of %s: %w", dir, err)
	}
	return room{free: int64(st.Bavail) * st.Bsize, total: int64(st.Blocks) * st.Bsize}, nil
}

// openSpace allocates the reserve, when there is room for it, and measures. A
// reserve that an earlier start has allocated is held already.
func openSpace(dir string, guard, reserve int64, log *slog.Logger) *space {
	s := &space{dir: dir, guard: guard, reserve: reserve, log: log, ask: statfs}
	_, err := os.Stat(filepath.Join(dir, reserveFile))
	s.held = err == nil
	s.measure()
	return s
}

// tell logs what is wrong once, not at each measurement.
func (s *space) tell(message string, err error) {
	if text := message + err.Error(); text != s.trouble {
		s.trouble = text
		s.log.Error(message, "dir", s.dir, "err", err)
	}
}

// Check is nil while writes may be accepted.
func (s *space) Check() error {
	if e := s.refusal.Load(); e != nil {
		return *e
	}
	return nil
}

// Free is the number of bytes that were free when last measured.
func (s *space) Free() int64 { return s.free.Load() }

// Total is the size of the file system in bytes, as last measured.
func (s *space) Total() int64 { return s.total.Load() }

func (s *space) run(ctx context.Context) {
	t := time.NewTicker(spaceEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.measure()
		}
	}
}

func (s *space) measure() {
	now, err := s.ask(s.dir)
	if err != nil {
		s.tell("free space unknown", err)
		return
	}
	free := now.free
	s.free.Store(free)
	s.total.Store(now.total)
	refused := s.Check() != nil
	switch {
	case free < s.guard && !refused:
		err := fmt.Errorf("%w: %d bytes free in %s, %d are kept free", produce.ErrStorage, free, s.dir, s.guard)
		s.refusal.Store(&err)
		s.log.Error("disk low, writes refused", "free_bytes", free, "guard_bytes", s.guard)
	case free >= s.guard+s.guard/8 && refused: // some slack, or it would flap
		s.refusal.Store(nil)
		s.log.Info("disk has space again, writes accepted", "free_bytes", free)
	}
	s.keepReserve(free)
}

// keepReserve gives the reserve back when a stranger has taken what the guard
// kept, and takes it again once there is room.
func (s *space) keepReserve(free int64) {
	path := filepath.Join(s.dir, reserveFile)
	switch {
	case free < s.guard/4 && s.held:
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.tell("reserve not given back", err)
			return
		}
		s.held = false
		s.log.Error("disk full, reserve given back", "bytes", s.reserve)
	case !s.held && s.reserve > 0 && free > s.guard+s.reserve+s.guard/8:
		if err := allocate(path, s.reserve); err != nil {
			s.tell("reserve not taken", err)
			return
		}
		s.held, s.trouble = true, ""
	}
}

func allocate(path string, bytes int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path)) // a part of it is of no use
		}
	}()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("allocate %d bytes in %s: %w", bytes, path, err)
	}
	return nil
}
