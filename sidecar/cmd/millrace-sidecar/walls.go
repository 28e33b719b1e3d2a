package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/plugins"
	"github.com/millrace-io/millrace/plugins/control"
)

// The walls go up in two steps, for a Go process has many threads and some of
// its properties belong to one thread: confine sets those on a thread of its
// own, which then executes this program again, whereby the thread becomes the
// process, with the same pid; finish sets the rest in the new process.

const (
	envWalls    = "MILLRACE_SIDECAR_WALLS"     // what confine reached, as JSON
	envSocketFD = "MILLRACE_SIDECAR_SOCKET_FD" // the listener that confine made
	envCacheFD  = "MILLRACE_SIDECAR_CACHE_FD"  // the cache's folder: its path may be closed to the sidecar's user
)

// nobody is the user where none was made for the sidecar.
const nobody = 65534

// confined tells whether this process is the one that confine executed.
func confined() bool { return os.Getenv(envWalls) != "" }

// confine returns only errors: on success another image runs.
func confine(s settings) error {
	env := []string{"TMPDIR=" + os.TempDir(), "PATH=" + os.Getenv("PATH")}
	for _, name := range append(plugins.LaunchEnv(), "GOMAXPROCS", "GOTRACEBACK") {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	env = append(env, pluginEnv()...)
	if s.socket != "" {
		fd, err := listenForChild(s)
		if err != nil {
			return err
		}
		env = append(env, envSocketFD+"="+strconv.Itoa(fd))
	}
	if s.cacheDir != "" {
		fd, err := openCache(s.cacheDir)
		if err != nil {
			return err
		}
		env = append(env, envCacheFD+"="+strconv.Itoa(fd))
	}
	if !s.walls {
		return execute(env, []control.Wall{{Name: "all", Text: "turned off by --walls=false"}})
	}
	runtime.LockOSThread() // until the end: exec, or exit after an error
	walls := []control.Wall{network(), noNewPrivileges()}
	who, wall := becomeUser(s)
	err := execute(env, append(walls, wall))
	if who {
		// The other user may not execute this file: go on as who we are.
		wall = down("user", fmt.Errorf("cannot execute as the other user: %w", err))
		if back := unix.Setresuid(0, 0, 0); back != nil {
			return errors.Join(err, back)
		}
		giveFolders(s, 0, 0)
		err = execute(env, append(walls, wall))
	}
	return err
}

// pluginEnv is what go-plugin tells its servers.
func pluginEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool { return !strings.HasPrefix(e, "PLUGIN_") })
}

func execute(env []string, walls []control.Wall) error {
	text, err := json.Marshal(walls)
	if err != nil {
		return fmt.Errorf("describe the walls: %w", err)
	}
	err = unix.Exec("/proc/self/exe", os.Args, append(slices.Clone(env), envWalls+"="+string(text)))
	return fmt.Errorf("execute this program again: %w", err)
}

// listenForChild makes the socket, whose descriptor survives exec.
func listenForChild(s settings) (int, error) {
	gid, err := groupID(s.group)
	if err != nil {
		return 0, err
	}
	l, err := plugins.Listen(s.socket, gid)
	if err != nil {
		return 0, err
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		return 0, fmt.Errorf("hand over the socket: %w", err)
	}
	fd, err := unix.Dup(int(file.Fd())) // without close-on-exec
	if err != nil {
		return 0, fmt.Errorf("hand over the socket: %w", err)
	}
	return fd, nil
}

// openCache makes the cache's folder and opens it, with a descriptor that
// survives exec.
func openCache(dir string) (int, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("make the compile cache: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, fmt.Errorf("open the compile cache %s: %w", dir, err)
	}
	return fd, nil
}

// inheritedCache is the path of the cache's folder; empty if there is none.
func inheritedCache() string {
	fd, err := strconv.Atoi(os.Getenv(envCacheFD))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

func up(name string) control.Wall { return control.Wall{Name: name, Up: true} }

func down(name string, err error) control.Wall { return control.Wall{Name: name, Text: err.Error()} }

// network leaves all networks. Unix sockets are files and go on working.
func network() control.Wall {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWIPC); err != nil {
		return down("network", fmt.Errorf("own network namespace: %w (needs root; system calls keep networks away too)", err))
	}
	return up("network")
}

func noNewPrivileges() control.Wall {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return down("no_new_privs", err)
	}
	return up("no_new_privs")
}

// becomeUser leaves root, in such a way that exec makes it final and that it
// can be undone when exec fails. It answers whether it did.
func becomeUser(s settings) (bool, control.Wall) {
	if os.Geteuid() != 0 {
		return false, control.Wall{Name: "user", Text: "not started by root: it runs as its starter, who should be a user of its own"}
	}
	uid, gid, text := nobody, nobody, ""
	if u, err := user.Lookup(s.user); err == nil {
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
	} else {
		text = fmt.Sprintf("there is no user %s: it runs as nobody", s.user)
	}
	if uid == 0 {
		return false, control.Wall{Name: "user", Text: "--user is root"}
	}
	giveFolders(s, uid, gid)
	groups := []int{}
	if id, err := groupID(s.group); err == nil && id >= 0 {
		groups = append(groups, id)
	}
	err := errors.Join(threadGroups(groups), threadGID(gid))
	if err == nil {
		err = threadUID(uid)
	}
	if err != nil {
		return false, down("user", err)
	}
	return true, control.Wall{Name: "user", Up: true, Text: text}
}

// giveFolders makes the folders in which the sidecar writes the user's own: the
// cache, and the one that the broker made for it.
func giveFolders(s settings, uid, gid int) {
	if s.cacheDir != "" {
		_ = filepath.WalkDir(s.cacheDir, func(path string, _ os.DirEntry, err error) error {
			if err == nil {
				err = os.Lchown(path, uid, gid)
			}
			return err
		})
	}
	if temp := os.TempDir(); ownFolder(temp) {
		_ = os.Chown(temp, uid, gid)
	}
}

// ownFolder tells whether a folder for temporary files was made by the broker
// for this process alone.
func ownFolder(dir string) bool {
	return plugins.Launched() && strings.HasPrefix(filepath.Base(dir), plugins.FolderPrefix)
}

// The calls of package unix would change all threads; these change one. The
// saved user id stays root until exec.
func threadUID(uid int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), 0)
	return asError("become the user", errno)
}

func threadGID(gid int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid))
	return asError("become the group", errno)
}

func asError(what string, errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", what, errno)
}

// limits of the process. Memory has none: the engine reserves 4 GiB of addresses
// for each guest, and counts what guests really have.
var limits = []struct {
	name     string
	resource int
	max      uint64
}{
	{"core", unix.RLIMIT_CORE, 0},           // a core file would hold records
	{"fsize", unix.RLIMIT_FSIZE, 512 << 20}, // a compiled module has some MB
	{"nofile", unix.RLIMIT_NOFILE, 1024},    // a socket and a few files
	{"memlock", unix.RLIMIT_MEMLOCK, 0},
	{"msgqueue", unix.RLIMIT_MSGQUEUE, 0},
}

// finish sets what belongs to the whole process and returns all walls.
func finish(on bool) []control.Wall {
	var walls []control.Wall
	if err := json.Unmarshal([]byte(os.Getenv(envWalls)), &walls); err != nil {
		walls = []control.Wall{down("all", fmt.Errorf("read what was reached: %w", err))}
	}
	os.Unsetenv(envWalls)
	if !on {
		return walls
	}
	var failed error
	for _, l := range limits {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.max, Max: l.max}); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", l.name, err))
		}
	}
	walls = append(walls, wallOf("rlimits", failed))
	return append(walls, wallOf("seccomp", filterCalls()))
}

func wallOf(name string, err error) control.Wall {
	if err != nil {
		return down(name, err)
	}
	return up(name)
}
