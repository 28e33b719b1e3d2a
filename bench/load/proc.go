package load

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// clockTicks is USER_HZ, which Linux fixes at 100 for user space.
const clockTicks = 100

// Usage is what a process and its children have used so far.
type Usage struct {
	CPUSeconds   float64
	RSSBytes     int64
	WrittenBytes int64
}

// Measure sums a process and all of its descendants.
func Measure(pid int) (Usage, error) {
	var u Usage
	for _, p := range append(descendants(pid), pid) {
		one, err := measureOne(p)
		if err != nil && p == pid {
			return Usage{}, err
		}
		u.CPUSeconds += one.CPUSeconds
		u.RSSBytes += one.RSSBytes
		u.WrittenBytes += one.WrittenBytes
	}
	return u, nil
}

func measureOne(pid int) (Usage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Usage{}, err
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 22 {
		return Usage{}, fmt.Errorf("stat of %d: %d fields", pid, len(f))
	}
	var ticks float64
	for _, text := range f[11:15] { // user and system, its own and of children that ended
		n, _ := strconv.ParseFloat(text, 64) // the kernel writes numbers
		ticks += n
	}
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	u := Usage{CPUSeconds: ticks / clockTicks, RSSBytes: pages * int64(os.Getpagesize())}
	io, err := os.ReadFile(filepath.Join(dir, "io"))
	if err != nil {
		return u, nil // not ours to read
	}
	for line := range strings.Lines(string(io)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			u.WrittenBytes, _ = strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return u, nil
}

func descendants(pid int) []int {
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	if err != nil {
		return nil
	}
	var all []int
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for _, c := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(c); err == nil {
				all = append(all, n)
				all = append(all, descendants(n)...)
			}
		}
	}
	return all
}

// MachineCPU gives the CPU seconds that the whole machine has been busy for so
// far, those that a hypervisor took away included.
func MachineCPU() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(first)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", first)
	}
	ticks := 0.0
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal; guests are in user
		n, _ := strconv.ParseFloat(f[i], 64) // the kernel writes numbers
		ticks += n
	}
	return ticks / clockTicks, nil
}

// OwnCPU gives the CPU seconds of this process and of its children that ended.
func OwnCPU() (float64, error) {
	var self, children syscall.Rusage
	err := errors.Join(syscall.Getrusage(syscall.RUSAGE_SELF, &self), syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children))
	sum := 0.0
	for _, t := range []syscall.Timeval{self.Utime, self.Stime, children.Utime, children.Stime} {
		sum += float64(t.Sec) + float64(t.Usec)/1e6
	}
	return sum, err
}
