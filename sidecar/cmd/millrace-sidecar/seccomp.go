package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowedCalls are the system calls of a Go program with C threads that
// compiles, keeps files, and talks over sockets that it listens on. Not there:
// execve, connect, ptrace, mount, and all that touches other processes.
var allowedCalls = append([]uint32{
	// files
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_CLOSE,
	unix.SYS_CLOSE_RANGE, unix.SYS_FSTAT, unix.SYS_LSEEK, unix.SYS_STATX, unix.SYS_OPENAT, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT,
	unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_FTRUNCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_GETDENTS64,
	unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCNTL, unix.SYS_DUP,
	unix.SYS_DUP3, unix.SYS_PIPE2, unix.SYS_UMASK, unix.SYS_GETCWD,
	// memory
	unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_BRK, unix.SYS_MINCORE,
	unix.SYS_MEMBARRIER, unix.SYS_MEMFD_CREATE, // a module's initial memory is mapped from one
	// threads, time and signals
	unix.SYS_FUTEX, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETTID,
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_TGKILL, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN,
	unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME,
	unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_TIMER_CREATE,
	unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER, unix.SYS_PRCTL, unix.SYS_MLOCK,
	// sockets: socket itself is judged by its family
	unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT4, unix.SYS_ACCEPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT, unix.SYS_SHUTDOWN, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG,
	unix.SYS_RECVMSG, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2,
	unix.SYS_EVENTFD2, unix.SYS_PPOLL,
	// what this process is
	unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_UNAME, unix.SYS_GETRANDOM,
	unix.SYS_PRLIMIT64, unix.SYS_GETRLIMIT, unix.SYS_SYSINFO, unix.SYS_GETRUSAGE,
}, archCalls...)

// missingCalls are answered ENOSYS: what asks for them has another way.
var missingCalls = []uint32{unix.SYS_CLONE3, unix.SYS_PIDFD_OPEN}

// Where the kernel puts what a filter looks at.
const (
	dataNumber   = 0
	dataArch     = 4
	dataArgument = 16 // low half of the first argument, little-endian
)

const (
	verdictAllow = unix.SECCOMP_RET_ALLOW
	verdictKill  = unix.SECCOMP_RET_KILL_PROCESS
	verdictDeny  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	verdictNone  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// x32Bit marks calls of amd64's other ABI, by which a filter could be passed.
const x32Bit = 0x40000000

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

func verdict(v uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v}
}

// unless skips that many instructions unless test holds for k.
func unless(test uint16, k uint32, skip uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | test, K: k, Jf: skip}
}

// program is the filter.
func program() []unix.SockFilter {
	p := []unix.SockFilter{
		load(dataArch),
		{Code: unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ, K: auditArch, Jt: 1},
		verdict(verdictKill),
		load(dataNumber),
		unless(unix.BPF_JGE, x32Bit, 1), verdict(verdictNone),
		// Threads, never processes.
		unless(unix.BPF_JEQ, unix.SYS_CLONE, 4),
		load(dataArgument), unless(unix.BPF_JSET, unix.CLONE_THREAD, 1), verdict(verdictAllow), verdict(verdictDeny),
		// Unix sockets, never networks.
		unless(unix.BPF_JEQ, unix.SYS_SOCKET, 4),
		load(dataArgument), unless(unix.BPF_JEQ, unix.AF_UNIX, 1), verdict(verdictAllow), verdict(verdictDeny),
	}
	for _, call := range allowedCalls {
		p = append(p, unless(unix.BPF_JEQ, call, 1), verdict(verdictAllow))
	}
	for _, call := range missingCalls {
		p = append(p, unless(unix.BPF_JEQ, call, 1), verdict(verdictNone))
	}
	return append(p, verdict(verdictDeny))
}

// filterCalls puts the filter on all threads, for good.
func filterCalls() error {
	p := program()
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	// Needed by the call itself; confine set it for the threads, this is for --walls without it.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("set filter: %w", errno)
	}
	if tid != 0 {
		return fmt.Errorf("set filter: thread %d has another", tid)
	}
	return nil
}
