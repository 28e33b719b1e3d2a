package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// SmallDisk mounts a file system of so many bytes for the test; as a user who may not,
// it skips it.
func SmallDisk(t testing.TB, bytes int64) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("no file system may be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// TakeAll grows a file in dir until its disk has nothing left; GiveBack removes it.
func TakeAll(t testing.TB, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, stranger), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) >= 4096; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
}

// stranger is the name of the file that takes a disk's space.
const stranger = "stranger"

// GiveBack gives back what TakeAll took.
func GiveBack(t testing.TB, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, stranger)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}
