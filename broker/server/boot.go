package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/broker/config"
)

// The marks that a process leaves for the image it replaces itself with.
const (
	envBooted  = "MILLRACE_BOOTED"   // "1": the soft settings have been read
	envHome    = "MILLRACE_BOOT_CWD" // where the user typed the command
	envLock    = "MILLRACE_BOOT_LOCK"
	lockFile   = "LOCK"
	runDir     = "run"
	softConfig = "dragonboat-soft-settings.json"
)

// softSettings shrink a raft replica from 1.29 MB to 44 KiB; TaskQueueTargetLength is twice
// the batches that one which takes its files has its log take. The library reads
// them from the working directory while its packages initialise, and only there.
const softSettings = `{"IncomingProposalQueueLength":32,"ReceiveQueueLength":32,"IncomingReadIndexQueueLength":8,` +
	`"InMemEntrySliceSize":8,"MinEntrySliceFreeSize":2,"PendingProposalShards":1,"SendQueueLength":16384,` +
	`"TaskQueueInitialCap":4,"TaskQueueTargetLength":8192,"NodeReloadMillisecond":2000}
`

// Home undoes what Boot did to the working directory. main calls it first of
// all, so that every relative path means what the user typed.
func Home() error {
	if os.Getenv(envBooted) == "" {
		return nil
	}
	if err := os.Chdir(os.Getenv(envHome)); err != nil {
		return fmt.Errorf("return to the directory of the command: %w", err)
	}
	return nil
}

// Boot locks the data directory and makes the process run with the raft
// library's soft settings: it replaces its own image once, in <data-dir>/run,
// with the same pid, arguments and inherited descriptors. It returns the lock.
func Boot(dataDir string) (lock *os.File, err error) {
	if err := os.MkdirAll(dataDir, 0o750); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if os.Getenv(envBooted) != "" {
		return takeLock(dataDir)
	}
	lock, err = lockDir(dataDir)
	if err != nil {
		return nil, err
	}
	return nil, replaceImage(dataDir, lock)
}

// errMarks says that the marks of a boot are not of one: somebody set them.
var errMarks = errors.New("the environment says that this process has replaced its own image, but it has not: unset " +
	envBooted + ", " + envHome + " and " + envLock)

// takeLock takes over the lock of the image that this one replaced.
func takeLock(dataDir string) (*os.File, error) {
	fd, err := strconv.Atoi(os.Getenv(envLock))
	if err != nil {
		return nil, errMarks
	}
	var ours, file unix.Stat_t
	if unix.Fstat(fd, &ours) != nil || unix.Stat(filepath.Join(dataDir, lockFile), &file) != nil ||
		ours.Dev != file.Dev || ours.Ino != file.Ino {
		return nil, errMarks
	}
	unix.CloseOnExec(fd)
	// Of the same open file it is a no-op; of another it fails where it is held.
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", dataDir, err)
	}
	return os.NewFile(uintptr(fd), lockFile), forgetMarks()
}

func forgetMarks() error {
	for _, k := range []string{envBooted, envHome, envLock} {
		if err := os.Unsetenv(k); err != nil {
			return err
		}
	}
	return nil
}

func lockDir(dataDir string) (*os.File, error) {
	path := filepath.Join(dataDir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // the lock's error is the one to tell
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", dataDir, err)
	}
	return f, nil
}

// replaceImage returns only when it fails.
func replaceImage(dataDir string, lock *os.File) error {
	home, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the working directory: %w", err)
	}
	run := filepath.Join(dataDir, runDir)
	if err := os.MkdirAll(run, 0o750); err != nil {
		return fmt.Errorf("make %s: %w", run, err)
	}
	if err := os.WriteFile(filepath.Join(run, softConfig), []byte(softSettings), 0o640); err != nil {
		return fmt.Errorf("write raft's soft settings: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own executable: %w", err)
	}
	if _, err := unix.FcntlInt(lock.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("keep the lock over exec: %w", err)
	}
	if err := os.Chdir(run); err != nil {
		return err
	}
	env := append(os.Environ(), envBooted+"=1", envHome+"="+home, fmt.Sprintf("%s=%d", envLock, lock.Fd()))
	return fmt.Errorf("replace own image: %w", syscall.Exec(self, os.Args, env))
}

// memoryShare is the part of --memory that the Go heap and the memory of segments
// may take together, in per cent: the rest is stacks, the runtime's own structures and mapped files.
const memoryShare = 85

// settle applies --smp and --memory to the Go runtime and returns the cores and
// bytes that the rooms divide among them.
func settle(n config.Node, log *slog.Logger) (cores int, memory int64) {
	cores = n.SMP
	if cores <= 0 {
		cores = runtime.NumCPU()
	}
	// A blocking sync holds its P: with fewer, the scheduler starves behind the disk.
	runtime.GOMAXPROCS(max(4, 2*cores))
	memory = n.Memory
	if memory <= 0 {
		memory = machineMemory()
		reserve := n.ReserveMemory
		if reserve < 0 {
			reserve = max(3<<29, memory*7/100)
		}
		memory = max(memory-reserve, memory/2)
	}
	// What segments hold lies outside the heap.
	debug.SetMemoryLimit(memory * int64(memoryShare-n.CachePercent-n.WritePercent) / 100)
	debug.SetGCPercent(gcPercentMax)
	log.Info("resources settled", "cores", cores, "memory_bytes", memory, "gomaxprocs", runtime.GOMAXPROCS(0))
	return cores, memory
}

// machineMemory is the machine's memory in bytes, or the least that a cgroup
// (either version) grants.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	total := int64(1 << 30)
	if err := unix.Sysinfo(&info); err == nil {
		total = int64(info.Totalram) * int64(info.Unit)
	}
	for _, f := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && v > 0 {
			total = min(total, v)
		}
	}
	return total
}
