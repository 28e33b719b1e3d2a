package disk

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a large file held is given back in steps. A file system that discards what
// is freed keeps its device busy with it: 3 GB at once held up synced writes of
// 4 KiB for 0.5 s, 30 to 60 ms each, steps of 4 MiB for 1 to 3 ms.
const (
	reapStep  = 4 << 20
	reapPause = 10 * time.Millisecond
	// reapAfter leaves who still reads a removed file the time to end.
	reapAfter = 5 * time.Second
	// reapMax is how many removed files may wait, each with a descriptor; what more
	// there is goes at once.
	reapMax = 64
)

var (
	reapOnce sync.Once
	reaped   = make(chan removed, reapMax)
)

type removed struct {
	f  *os.File
	at time.Time
}

// Remove implements FS. Of a large file the name goes at once, the space soon.
func (OS) Remove(name string) error {
	f := openLarge(name)
	err := os.Remove(name)
	if f == nil {
		return err
	}
	if err == nil {
		reapOnce.Do(func() { go reapAll() })
		select {
		case reaped <- removed{f, time.Now()}:
			return nil
		default:
		}
	}
	f.Close()
	return err
}

// openLarge opens what is worth steps: a file with no other name, larger than one.
func openLarge(name string) *os.File {
	f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size() > reapStep {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink == 1 {
			return f
		}
	}
	f.Close()
	return nil
}

// reapAll cuts removed files until they are empty. An error is the last close's to
// make good: it frees whatever is left.
func reapAll() {
	for r := range reaped {
		time.Sleep(time.Until(r.at.Add(reapAfter)))
		f := r.f
		for size := sizeOf(f); size > 0; {
			size = max(0, size-reapStep)
			if f.Truncate(size) != nil || f.Sync() != nil {
				break
			}
			time.Sleep(reapPause)
		}
		f.Close()
	}
}

func sizeOf(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}
