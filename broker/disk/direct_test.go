package disk

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Every implementation takes what is aligned, refuses what is not, and reads back
// what was written past the cache.
func TestDirect(t *testing.T) {
	for name, w := range map[string]struct {
		fs  FS
		dir string
	}{
		"os": {OS{}, t.TempDir()}, "memory": {NewMemory(), "/d"}, "faulty": {NewFaulty(NewMemory()), "/d"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(w.dir, "f")
			write(t, w.fs, file, make([]byte, 2*DirectAlign))
			f, err := w.fs.OpenDirect(file, true)
			if errors.Is(err, ErrNoDirect) && name == "os" {
				t.Skip("the file system of the test's directory has no direct I/O")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			page := Aligned(DirectAlign)
			copy(page, "second page")
			if _, err := f.WriteAt(page, DirectAlign); err != nil {
				t.Fatal(err)
			}
			got := Aligned(2 * DirectAlign)
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got[DirectAlign:], page) {
				t.Errorf("read back %q, %v", got[DirectAlign:DirectAlign+16], err)
			}
			if _, err := f.WriteAt(page[1:], DirectAlign); !errors.Is(err, unix.EINVAL) {
				t.Errorf("unaligned memory and length: %v, want EINVAL", err)
			}
			if _, err := f.WriteAt(page, 512+1); !errors.Is(err, unix.EINVAL) {
				t.Errorf("unaligned position: %v, want EINVAL", err)
			}
		})
	}
}

func TestNoDirect(t *testing.T) {
	m := NewMemory()
	m.RefuseDirect()
	write(t, m, "/d/f", []byte("x"))
	if _, err := m.OpenDirect("/d/f", false); !errors.Is(err, ErrNoDirect) {
		t.Errorf("%v, want ErrNoDirect", err)
	}
}

// HasDirect says what OpenDirect would, and leaves nothing behind.
func TestHasDirect(t *testing.T) {
	buffered := NewMemory()
	buffered.RefuseDirect()
	failing := NewFaulty(NewMemory())
	failing.Inject(Fault{Op: OpCreate, Err: unix.EIO})
	for _, c := range []struct {
		fs   FS
		want bool
		err  error
	}{{NewMemory(), true, nil}, {buffered, false, nil}, {failing, false, unix.EIO}} {
		if err := c.fs.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		if has, err := HasDirect(c.fs, "/d"); has != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v, %v; want %v, %v", has, err, c.want, c.err)
		}
		if left, err := c.fs.List("/d"); err != nil || len(left) != 0 {
			t.Errorf("%v is left (%v)", left, err)
		}
	}
	dir := t.TempDir()
	has, err := HasDirect(OS{}, dir)
	if left, e := (OS{}).List(dir); err != nil || e != nil || len(left) != 0 {
		t.Errorf("%v, %v; %v is left", err, e, left)
	}
	f, err := OS{}.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	direct, err := OS{}.OpenDirect(filepath.Join(dir, "f"), false)
	if errors.Is(err, ErrNoDirect) == has {
		t.Errorf("HasDirect says %v, OpenDirect %v", has, err)
	}
	if err == nil {
		_ = direct.Close()
	}
}

// A crash changes nothing of what a file system can do.
func TestCrashKeepsDirect(t *testing.T) {
	c := NewCrashing()
	c.RefuseDirect()
	write(t, c, "/d/f", []byte("x"))
	if _, err := c.Crash(1).OpenDirect("/d/f", false); !errors.Is(err, ErrNoDirect) {
		t.Errorf("%v, want ErrNoDirect", err)
	}
}

// A synced direct write survives every power cut after it, also one over a
// buffered write that may not; a torn one leaves what its sectors held before.
func TestCrashingDirect(t *testing.T) {
	c := NewCrashing()
	write(t, c, "/d/f", bytes.Repeat([]byte("o"), 2*DirectAlign))
	buffered, err := c.OpenAppend("/d/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := buffered.WriteAt(bytes.Repeat([]byte("b"), DirectAlign), 0); err != nil {
		t.Fatal(err)
	}
	direct, err := c.OpenDirect("/d/f", true)
	if err != nil {
		t.Fatal(err)
	}
	page := Aligned(DirectAlign)
	copy(page, bytes.Repeat([]byte("d"), DirectAlign))
	if _, err := direct.WriteAt(page, 0); err != nil {
		t.Fatal(err)
	}
	c.StopAt(1)
	if _, err := direct.WriteAt(page, DirectAlign); !errors.Is(err, ErrPowerCut) {
		t.Fatal(err)
	}
	seen := map[byte]bool{}
	for seed := range uint64(200) {
		got, err := ReadFile(c.Crash(seed), "/d/f", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:DirectAlign], page) {
			t.Fatalf("seed %d: a synced write is gone", seed)
		}
		for _, b := range got[DirectAlign:] {
			seen[b] = true
		}
	}
	if !seen['o'] || !seen['d'] || len(seen) != 2 {
		t.Errorf("the torn write left %v, want old and new bytes only", seen)
	}
}

// write makes a file whose content and name survive.
func write(t *testing.T, fs FS, name string, b []byte) {
	t.Helper()
	if err := fs.MkdirAll(filepath.Dir(name)); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close(), fs.SyncDir(filepath.Dir(name))); err != nil {
		t.Fatal(err)
	}
}
