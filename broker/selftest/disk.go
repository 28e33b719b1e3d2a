package selftest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/disk"
)

const (
	latencyBytes    = 4 << 10   // what the Raft log writes for one record
	throughputBytes = 128 << 10 // half of a segment's step
	// scratchBytesMin is written whatever the time: what there is to read from.
	scratchBytesMin = 8 * throughputBytes
)

// scratch is the file of the disk tests. size is how much of it has been written.
type scratch struct {
	fs     disk.FS
	name   string
	direct bool
	size   int64
}

// disk runs the disk tests: each needs what the one before has written.
func (r *Runner) disk(ctx context.Context, d time.Duration) {
	s := &scratch{fs: r.o.FS, name: r.scratch}
	defer func() {
		if err := errors.Join(r.o.FS.Remove(r.scratch), r.o.FS.SyncDir(r.o.Dir)); err != nil {
			r.o.Log.Warn("scratch file of a self-test not removed", "file", r.scratch, "err", err)
		}
	}()
	r.measure(ctx, api.SelfTestResult{Test: "disk write", RequestBytes: throughputBytes}, func(ctx context.Context, result *api.SelfTestResult) error {
		if err := s.create(); err != nil {
			return err
		}
		return s.write(ctx, d, result)
	})
	if s.size == 0 {
		return // the result says why
	}
	r.measure(ctx, api.SelfTestResult{Test: "disk latency", RequestBytes: latencyBytes}, func(ctx context.Context, result *api.SelfTestResult) error {
		return s.latency(ctx, d, result)
	})
	r.measure(ctx, api.SelfTestResult{Test: "disk read", RequestBytes: throughputBytes}, func(ctx context.Context, result *api.SelfTestResult) error {
		return s.read(ctx, d, result)
	})
}

func (s *scratch) create() error {
	f, err := s.fs.Create(s.name)
	if err != nil {
		return err
	}
	return f.Close()
}

// open opens the file past the page cache, where the file system can.
func (s *scratch) open(synced bool, result *api.SelfTestResult) (disk.File, error) {
	f, err := s.fs.OpenDirect(s.name, synced)
	if s.direct = err == nil; s.direct || !errors.Is(err, disk.ErrNoDirect) {
		return f, err
	}
	result.Note = "through the page cache: the file system has no direct I/O"
	return s.fs.OpenAppend(s.name)
}

// loop runs f until d is over, and counts what each took and moved. at least is done
// whatever the time.
func loop(ctx context.Context, d time.Duration, atLeast int64, result *api.SelfTestResult, bytes int64, f func(i int64) error) error {
	var took spread
	began := time.Now()
	defer func() { fill(result, &took, took.count*bytes, time.Since(began)) }()
	for i := int64(0); i < atLeast || time.Since(began) < d; i++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		before := time.Now()
		if err := f(i); err != nil {
			return err
		}
		took.add(time.Since(before))
	}
	return nil
}

// write writes from the beginning to the end, and again.
func (s *scratch) write(ctx context.Context, d time.Duration, result *api.SelfTestResult) (err error) {
	f, err := s.open(false, result)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
	b := disk.Aligned(throughputBytes)
	_, _ = rand.Read(b) // a device may not compress it; it never fails
	return loop(ctx, d, scratchBytesMin/throughputBytes, result, throughputBytes, func(i int64) error {
		at := i * throughputBytes % ScratchBytesMax
		if _, err := f.WriteAt(b, at); err != nil {
			return fmt.Errorf("write the scratch file: %w", err)
		}
		s.size = max(s.size, at+throughputBytes)
		if !s.direct && at+throughputBytes == ScratchBytesMax {
			return f.Sync()
		}
		return nil
	})
}

// latency writes over what is there, as the Raft log does: each write is durable when it
// returns, and the next waits for it.
func (s *scratch) latency(ctx context.Context, d time.Duration, result *api.SelfTestResult) (err error) {
	f, err := s.open(true, result)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := disk.Aligned(latencyBytes)
	_, _ = rand.Read(b)
	return loop(ctx, d, 1, result, latencyBytes, func(i int64) error {
		if _, err := f.WriteAt(b, i*latencyBytes%s.size); err != nil {
			return fmt.Errorf("write the scratch file: %w", err)
		}
		if s.direct {
			return nil
		}
		return f.Sync()
	})
}

func (s *scratch) read(ctx context.Context, d time.Duration, result *api.SelfTestResult) (err error) {
	f, err := s.open(false, result)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := disk.Aligned(throughputBytes)
	return loop(ctx, d, 1, result, throughputBytes, func(i int64) error {
		if _, err := f.ReadAt(b, i*throughputBytes%s.size); err != nil {
			return fmt.Errorf("read the scratch file: %w", err)
		}
		return nil
	})
}
