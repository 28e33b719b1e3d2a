package node

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNoClock says that a process's clock cannot be moved on this machine: it is not
// linux/amd64, or its kernel lets nobody write to a process's code.
var ErrNoClock = errors.New("a process's clock cannot be moved here")

// clockCode takes the place of the vDSO's clock_gettime: it asks the kernel, and adds
// seconds to what the wall clock says. Other clocks are left alone.
//
//	mov  eax, 228 (clock_gettime)
//	syscall
//	test edi, edi (CLOCK_REALTIME is 0)
//	jne  ret
//	add  qword [rsi], seconds
//	ret: ret
var clockCode = []byte{0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0x85, 0xff, 0x75, 0x07, 0x48, 0x81, 0x06, 0, 0, 0, 0, 0xc3}

// clockSeconds is where in clockCode the seconds stand.
const clockSeconds = 14

// JumpClock has the broker's wall clock differ by so much, in seconds, from the machine's
// from now on, as if somebody had set it; 0 sets it right. Monotonic time goes on. It is
// gone when the process ends. A Go program asks the vDSO for the time, the piece of code
// that the kernel lends each process: this one's copy is changed. It must not run under
// strace.
func (n *Node) JumpClock(by time.Duration) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return ErrNoClock
	}
	at, err := clockAddress(n.Pid())
	if err != nil {
		return fmt.Errorf("find the clock of process %d: %w", n.Pid(), err)
	}
	code := bytes.Clone(clockCode)
	binary.LittleEndian.PutUint32(code[clockSeconds:], uint32(int32(by/time.Second)))
	// No thread may stand in what is written.
	for range 100 {
		n.Signal(syscall.SIGSTOP)
		var free bool
		if free, err = n.stoppedOutside(at, at+uint64(len(code))); err == nil && free {
			err = writeMemory(n.Pid(), at, code)
		}
		n.Signal(syscall.SIGCONT)
		if err != nil || free {
			return err
		}
	}
	return errors.New("some thread is always asking for the time")
}

// clockAddress finds clock_gettime in a process's vDSO.
func clockAddress(pid int) (uint64, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	var from, to uint64
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
				return 0, err
			}
		}
	}
	if from == 0 {
		return 0, fmt.Errorf("%w: it has no vDSO", ErrNoClock)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	image := make([]byte, to-from)
	if _, err := mem.ReadAt(image, int64(from)); err != nil {
		return 0, err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, err
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" && s.Size >= uint64(len(clockCode)) {
			return from + s.Value, nil
		}
	}
	return 0, fmt.Errorf("%w: the vDSO has no clock_gettime of %d bytes", ErrNoClock, len(clockCode))
}

// stoppedOutside waits until all threads stand still, and tells whether none of them does
// so between the two addresses.
func (n *Node) stoppedOutside(from, to uint64) (bool, error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", n.Pid()))
		if err != nil || len(threads) == 0 {
			return false, fmt.Errorf("process %d has no threads: %w", n.Pid(), errors.Join(err, os.ErrProcessDone))
		}
		moving, inside := false, false
		for _, thread := range threads {
			at, still, err := standsAt(thread)
			if err != nil {
				return false, err
			}
			moving = moving || !still
			inside = inside || at >= from && at < to
		}
		if !moving {
			return !inside, nil
		}
		<-time.After(time.Millisecond)
	}
	return false, errors.New("its threads do not stand still")
}

// standsAt gives where a thread goes on when it may.
func standsAt(thread string) (at uint64, still bool, err error) {
	stat, err := os.ReadFile(filepath.Join(thread, "stat"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0, true, nil // it has ended
	}
	if err != nil {
		return 0, false, err
	}
	// PID (NAME) STATE ...
	rest := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(rest) == 0 || rest[0] != "T" {
		return 0, false, nil
	}
	// NUMBER ARGUMENTS SP PC, or -1 SP PC outside of a call.
	call, err := os.ReadFile(filepath.Join(thread, "syscall"))
	if err != nil {
		return 0, false, err
	}
	fields := strings.Fields(string(call))
	if len(fields) < 3 {
		return 0, false, nil
	}
	at, err = strconv.ParseUint(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
	return at, err == nil, err
}

// writeMemory writes to memory of a process, also where it may only read it itself.
func writeMemory(pid int, at uint64, b []byte) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err = mem.WriteAt(b, int64(at)); err != nil {
		err = fmt.Errorf("%w: %w", ErrNoClock, err)
	}
	return errors.Join(err, mem.Close())
}
