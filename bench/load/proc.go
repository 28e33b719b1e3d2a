package load

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	user, _ := strconv.ParseFloat(f[11], 64) // the kernel writes numbers
	system, _ := strconv.ParseFloat(f[12], 64)
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	u := Usage{CPUSeconds: (user + system) / clockTicks, RSSBytes: pages * int64(os.Getpagesize())}
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
