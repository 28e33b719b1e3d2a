package disk

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestContract runs the same story on every implementation.
func TestContract(t *testing.T) {
	kinds := map[string]func(t *testing.T) (FS, string){
		"os":       func(t *testing.T) (FS, string) { return OS{}, t.TempDir() },
		"memory":   func(*testing.T) (FS, string) { return NewMemory(), "/" },
		"crashing": func(*testing.T) (FS, string) { return NewCrashing(), "/" },
		"faulty":   func(*testing.T) (FS, string) { return NewFaulty(NewMemory()), "/" },
	}
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			fs, root := make(t)
			testContract(t, fs, filepath.Join(root, "a", "b"))
		})
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testContract(t *testing.T, fs FS, dir string) {
	if _, err := fs.Open(dir + "/x"); !errors.Is(err, iofs.ErrNotExist) {
		t.Fatalf("open of nothing: %v", err)
	}
	check(t, fs.MkdirAll(dir))
	check(t, fs.MkdirAll(dir))
	f := must[File](t)(fs.Create(dir + "/x"))
	must[int](t)(f.Write([]byte("hello")))
	must[int](t)(f.WriteAt([]byte("J"), 0))
	must[int](t)(f.Write([]byte(" world")))
	check(t, f.Sync())
	check(t, f.Truncate(8))
	must[int](t)(f.Write([]byte("!")))
	check(t, f.Preallocate(1<<16))
	if size := must[int64](t)(f.Size()); size != 9 {
		t.Fatalf("size %d, want 9", size)
	}
	check(t, f.Close())
	check(t, fs.Rename(dir+"/x", dir+"/y"))
	check(t, fs.SyncDir(dir))
	if b := must[[]byte](t)(ReadFile(fs, dir+"/y", 100)); string(b) != "Jello wo!" {
		t.Fatalf("read %q", b)
	}
	if _, err := ReadFile(fs, dir+"/y", 3); err == nil {
		t.Fatal("a file beyond the limit was read")
	}
	f = must[File](t)(fs.OpenAppend(dir + "/y"))
	must[int](t)(f.Write([]byte("?")))
	if n, err := f.ReadAt(make([]byte, 10), 5); n != 5 || err != io.EOF {
		t.Fatalf("read at the end: %d, %v", n, err)
	}
	check(t, f.Close())
	if names := must[[]string](t)(fs.List(dir)); len(names) != 1 || names[0] != "y" {
		t.Fatalf("list %v", names)
	}
	if info := must[Info](t)(fs.Stat(dir + "/y")); info.Size != 10 || info.Dir {
		t.Fatalf("stat %+v", info)
	}
	check(t, fs.Link(dir+"/y", dir+"/z"))
	if err := fs.Link(dir+"/y", dir+"/z"); !errors.Is(err, iofs.ErrExist) {
		t.Fatalf("link to a name in use: %v", err)
	}
	check(t, fs.Remove(dir+"/y"))
	check(t, fs.MkdirAll(dir+"/in/it"))
	check(t, fs.Rename(dir+"/z", dir+"/in/y"))
	check(t, fs.Rename(dir+"/in", dir+"/out"))
	if names := must[[]string](t)(fs.List(dir + "/out")); !slices.Equal(names, []string{"it", "y"}) {
		t.Fatalf("a renamed directory has %v", names)
	}
	if info := must[Info](t)(fs.Stat(dir + "/out/y")); info.Size != 10 {
		t.Fatalf("stat %+v", info)
	}
	lock := must[io.Closer](t)(fs.Lock(dir + "/lock"))
	if _, err := fs.Lock(dir + "/lock"); !errors.Is(err, ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	check(t, lock.Close())
	check(t, must[io.Closer](t)(fs.Lock(dir+"/lock")).Close())
	if free := must[int64](t)(fs.Free(dir)); free <= 0 {
		t.Fatalf("free %d", free)
	}
	if err := fs.Remove(dir); err == nil {
		t.Fatal("removed a directory that is not empty")
	}
	check(t, RemoveAll(fs, dir))
	check(t, RemoveAll(fs, dir))
	if _, err := fs.Stat(dir); !errors.Is(err, iofs.ErrNotExist) {
		t.Fatalf("stat of nothing: %v", err)
	}
}

// TestSyncedSurvives tries that what was synced is there under every seed, and
// that what was not is sometimes lost and sometimes torn.
func TestSyncedSurvives(t *testing.T) {
	c := NewCrashing()
	check(t, c.MkdirAll("/d"))
	f := must[File](t)(c.Create("/d/kept"))
	must[int](t)(f.Write(bytes.Repeat([]byte("a"), 2000)))
	check(t, f.Sync())
	check(t, c.SyncDir("/d"))
	must[int](t)(f.Write(bytes.Repeat([]byte("b"), 2000)))
	must[File](t)(c.Create("/d/unsynced"))
	sizes, names, torn := map[int]bool{}, map[int]bool{}, false
	for seed := range uint64(200) {
		after := c.Crash(seed)
		b := must[[]byte](t)(ReadFile(after, "/d/kept", 1<<20))
		if !bytes.HasPrefix(b, bytes.Repeat([]byte("a"), 2000)) {
			t.Fatalf("seed %d: synced bytes are lost", seed)
		}
		sizes[len(b)] = true
		torn = torn || bytes.IndexByte(b, 0) >= 0
		names[len(must[[]string](t)(after.List("/d")))] = true
	}
	if len(sizes) < 5 || !torn || len(names) != 2 {
		t.Fatalf("a crash is too kind: sizes %d, torn %v, names %v", len(sizes), torn, names)
	}
}

// TestRenameIsAtomic tries that the old or the new content has the name, whole.
func TestRenameIsAtomic(t *testing.T) {
	c := NewCrashing()
	write := func(name, s string) {
		f := must[File](t)(c.Create(name))
		must[int](t)(f.Write([]byte(s)))
		check(t, f.Sync())
		check(t, f.Close())
	}
	write("/v", "old")
	check(t, c.SyncDir("/"))
	write("/v.new", "new")
	check(t, c.Rename("/v.new", "/v"))
	seen := map[string]bool{}
	for seed := range uint64(100) {
		seen[string(must[[]byte](t)(ReadFile(c.Crash(seed), "/v", 10)))] = true
	}
	if len(seen) != 2 || !seen["old"] || !seen["new"] {
		t.Fatalf("saw %v", seen)
	}
}

// TestRenamedDirectory tries that a directory has its old or its new name after a
// crash, and that what was synced in it is there.
func TestRenamedDirectory(t *testing.T) {
	c := NewCrashing()
	check(t, c.MkdirAll("/a"))
	for _, name := range []string{"/a/x", "/a/y"} {
		must[File](t)(c.Create(name))
	}
	check(t, c.SyncDir("/a"))
	must[File](t)(c.Create("/a/z"))
	check(t, c.Rename("/a", "/b"))
	seen := map[string]bool{}
	look := func(fs *Crashing) {
		for _, dir := range []string{"/a", "/b"} {
			names, err := fs.List(dir)
			if err == nil {
				seen[dir] = true
				if len(names) < 2 {
					t.Fatalf("%s has only %v", dir, names)
				}
			}
		}
	}
	for seed := range uint64(50) {
		look(c.Crash(seed))
	}
	if len(seen) != 2 {
		t.Fatalf("saw %v", seen)
	}
	clear(seen)
	check(t, c.SyncDir("/"))
	for seed := range uint64(50) {
		look(c.Crash(seed))
	}
	if len(seen) != 1 || !seen["/b"] {
		t.Fatalf("synced, and saw %v", seen)
	}
}

// TestRemovedDirectory: a directory that had a name in it, as the disk knows, is there.
func TestRemovedDirectory(t *testing.T) {
	c := NewCrashing()
	check(t, c.MkdirAll("/a/b"))
	must[File](t)(c.Create("/a/b/x"))
	check(t, c.SyncDir("/a/b"))
	check(t, RemoveAll(c, "/a"))
	found := 0
	for seed := range uint64(50) {
		after := c.Crash(seed)
		if _, err := after.Stat("/a/b/x"); err != nil {
			continue
		}
		found++
		if names, err := after.List("/a"); err != nil || !slices.Equal(names, []string{"b"}) {
			t.Fatalf("/a/b/x is there, in /a %q, %v", names, err)
		}
	}
	if found == 0 || found == 50 {
		t.Fatalf("found %d times of 50", found)
	}
	check(t, c.SyncDir("/"))
	for seed := range uint64(50) {
		if _, err := c.Crash(seed).Stat("/a/b/x"); err == nil {
			t.Fatal("the removal was synced, and its file is there")
		}
	}
}

// TestFence: what was opened stays valid, and a name means nothing any more.
func TestFence(t *testing.T) {
	memory := NewMemory()
	fence := NewFence(memory)
	f := must[File](t)(fence.Create("/f"))
	must[int](t)(f.Write([]byte("old")))
	fence.Fall()
	if b := make([]byte, 3); must[int](t)(f.ReadAt(b, 0)) != 3 || string(b) != "old" {
		t.Fatalf("read %q", b)
	}
	_, opened := fence.Open("/f")
	_, created := fence.Create("/f")
	_, appended := fence.OpenAppend("/f")
	_, direct := fence.OpenDirect("/f", true)
	for _, err := range []error{opened, created, appended, direct, fence.Remove("/f"), fence.Rename("/f", "/g"), fence.Link("/f", "/g")} {
		if !errors.Is(err, ErrFenced) {
			t.Errorf("behind the fence: %v", err)
		}
	}
	if names := must[[]string](t)(memory.List("/")); len(names) != 1 {
		t.Fatalf("%v", names)
	}
}

func TestStopAt(t *testing.T) {
	c := NewCrashing()
	f := must[File](t)(c.Create("/f"))
	c.StopAt(2)
	must[int](t)(f.Write([]byte("a")))
	if err := f.Sync(); !errors.Is(err, ErrPowerCut) {
		t.Fatalf("sync at the stop: %v", err)
	}
	if _, err := f.Write([]byte("b")); !errors.Is(err, ErrPowerCut) || !c.Stopped() {
		t.Fatalf("write after the stop: %v", err)
	}
	for seed := range uint64(50) {
		if b, err := ReadFile(c.Crash(seed), "/f", 10); err == nil && bytes.Contains(b, []byte("b")) {
			t.Fatal("a write after the stop was found")
		}
	}
}

func TestFaults(t *testing.T) {
	f := NewFaulty(NewMemory())
	file := must[File](t)(f.Create("/f"))
	f.Inject(Fault{Op: OpWrite, Path: "f", Err: unix.ENOSPC, Skip: 1, Times: 1, Partial: 2})
	must[int](t)(file.Write([]byte("one")))
	if n, err := file.Write([]byte("two")); n != 2 || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("%d, %v", n, err)
	}
	must[int](t)(file.Write([]byte("three")))
	f.Inject(Fault{Op: OpSync, Err: unix.EIO})
	if err := file.Sync(); !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	f.Heal()
	f.Inject(Fault{Op: OpRead, At: 1, Mask: 1})
	if b := must[[]byte](t)(ReadFile(f, "/f", 100)); string(b) != "ooetwthree" {
		t.Fatalf("%q", b)
	}
	m := NewMemory()
	m.SetCapacity(4)
	full := must[File](t)(m.Create("/f"))
	if _, err := full.Write([]byte("12345")); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func TestSharedFile(t *testing.T) {
	m := NewMemory()
	s := NewShared(m, "/f", "/f.index", "/absent")
	check(t, must[File](t)(m.Create("/f.index")).Close())
	if _, err := s.Reader(m.Open, func(File) error { return nil }); !errors.Is(err, iofs.ErrNotExist) {
		t.Fatalf("read of nothing: %v", err)
	}
	w := must[File](t)(s.Writer(m.Create))
	must[int](t)(w.Write([]byte("abc")))
	s.Hold()
	refuse := errors.New("refused")
	if r, err := s.Reader(m.Open, func(File) error { return refuse }); err != nil || r != w {
		t.Fatalf("the writer's handle needs no check: %v", err)
	}
	check(t, s.Let())
	if _, err := w.Write([]byte("d")); err != nil {
		t.Fatalf("closed while it is held: %v", err)
	}
	check(t, s.Release())
	if _, err := w.Write([]byte("e")); err == nil {
		t.Fatal("open while nobody needs it")
	}
	s.Hold()
	if _, err := s.Reader(m.Open, func(File) error { return refuse }); !errors.Is(err, refuse) {
		t.Fatalf("check: %v", err)
	}
	r := must[File](t)(s.Reader(m.Open, func(File) error { return nil }))
	check(t, s.Doom())
	if b := make([]byte, 4); must[int](t)(r.ReadAt(b, 0)) != 4 || string(b) != "abcd" {
		t.Fatalf("read %q of a doomed file", b)
	}
	check(t, s.Release())
	if files := m.Files("/"); len(files) != 0 {
		t.Fatalf("%v are left", files)
	}
}

// TestLargeFilesGoInSteps removes one: its name is gone at once, its space once
// nobody can be reading it any more.
func TestLargeFilesGoInSteps(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "large")
	f := must[File](t)(OS{}.Create(name))
	must[int](t)(f.Write(make([]byte, 2*reapStep+1)))
	check(t, OS{}.Remove(name))
	if _, err := (OS{}).Stat(name); !errors.Is(err, iofs.ErrNotExist) {
		t.Fatalf("it is still there: %v", err)
	}
	if size := must[int64](t)(f.Size()); size != 2*reapStep+1 {
		t.Fatalf("who reads it finds %d bytes", size)
	}
	for until := time.Now().Add(4 * reapAfter); must[int64](t)(f.Size()) > 0; <-time.After(reapPause) {
		if time.Now().After(until) {
			t.Fatal("its space was not given back")
		}
	}
	check(t, f.Close())
}
