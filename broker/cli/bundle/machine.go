package bundle

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machineFiles are taken as they are, below Root.
var machineFiles = []string{
	"proc/cpuinfo", "proc/meminfo", "proc/interrupts", "proc/softirqs", "proc/loadavg", "proc/uptime", "proc/stat", "proc/vmstat", "proc/diskstats",
	"proc/partitions", "proc/version", "proc/net/dev", "proc/net/snmp", "proc/net/netstat", "proc/net/sockstat",
	"proc/pressure/cpu", "proc/pressure/io", "proc/pressure/memory", "etc/os-release",
	"sys/kernel/mm/transparent_hugepage/enabled", "sys/fs/cgroup/cpu.max", "sys/fs/cgroup/memory.max",
}

// sysctls are the kernel's settings that matter to a broker, below proc/sys.
var sysctls = []string{
	"kernel/ostype", "kernel/osrelease", "kernel/version", "kernel/pid_max", "kernel/numa_balancing", "fs/aio-nr", "fs/aio-max-nr", "fs/file-nr", "fs/file-max", "fs/nr_open",
	"vm/swappiness", "vm/dirty_ratio", "vm/dirty_background_ratio", "vm/dirty_bytes", "vm/dirty_background_bytes", "vm/max_map_count",
	"vm/overcommit_memory", "vm/min_free_kbytes", "net/core/somaxconn", "net/core/rmem_max", "net/core/wmem_max", "net/core/netdev_max_backlog",
	"net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem", "net/ipv4/tcp_max_syn_backlog", "net/ipv4/ip_local_port_range", "net/ipv4/tcp_congestion_control",
}

// processFiles are of each broker on this machine. Never its environment or command line.
var processFiles = []string{"status", "limits", "io", "stat", "sched", "smaps_rollup", "cgroup"}

// machine takes facts of the machine that the bundle is written on.
func (b *bundle) machine(ctx context.Context) {
	b.Say("reading this machine's state")
	root := b.Root
	if root == "" {
		root = "/"
	}
	for _, name := range machineFiles {
		b.file("machine/"+name, func(w io.Writer) error { return copyFile(w, filepath.Join(root, name)) })
	}
	b.file("machine/proc/mounts", func(w io.Writer) error {
		var mounts bytes.Buffer
		err := copyFile(&mounts, filepath.Join(root, "proc/mounts"))
		_, wrote := w.Write(mountSecret.ReplaceAll(mounts.Bytes(), []byte("$1=[hidden]")))
		return errors.Join(err, wrote)
	})
	b.file("machine/sysctl.txt", func(w io.Writer) error {
		for _, name := range sysctls {
			if v, err := os.ReadFile(filepath.Join(root, "proc/sys", name)); err == nil {
				fmt.Fprintf(w, "%s = %s\n", strings.ReplaceAll(name, "/", "."), strings.TrimSpace(string(v)))
			}
		}
		return nil
	})
	b.processes(filepath.Join(root, "proc"))
	b.dataDirs(ctx)
}

// mountSecret finds what some file systems take in their options.
var mountSecret = regexp.MustCompile(`(?i)\b(pass(?:word|wd)?|secret|credentials?|key|token)=[^,\s]*`)

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.LimitReader(f, fileBytesMax+1))
	return errors.Join(err, f.Close())
}

// processesMax is how many of this machine's brokers and sidecars are looked at.
const processesMax = 16

// processes looks for brokers and sidecars among this machine's processes.
func (b *bundle) processes(proc string) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		b.missing("machine/processes", err)
	}
	found := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(proc, e.Name(), "comm"))
		if name := strings.TrimSpace(string(comm)); err != nil || !strings.HasPrefix(name, "millrace") || pid == os.Getpid() {
			continue
		}
		if found++; found > processesMax {
			b.missing("machine/processes", fmt.Errorf("there are more than %d: the others are left out", processesMax))
			return
		}
		for _, name := range processFiles {
			b.file(fmt.Sprintf("machine/processes/%d/%s", pid, name), func(w io.Writer) error {
				return copyFile(w, filepath.Join(proc, e.Name(), name))
			})
		}
	}
}

// dataDirs lists where nodes of this machine keep their data.
func (b *bundle) dataDirs(ctx context.Context) {
	dirs := map[string]bool{}
	if b.DataDir != "" {
		dirs[b.DataDir] = true
	} else if c, err := b.Admin(); err == nil {
		ctx, cancel := context.WithTimeout(ctx, askTimeMax)
		defer cancel()
		if n, err := c.Node(ctx); err == nil && n.DataDir != "" {
			dirs[n.DataDir] = true
		}
	}
	for dir := range dirs {
		b.file("machine/data-dir.txt", func(w io.Writer) error { return list(w, dir) })
	}
}

// entriesMax bounds a list of files.
const entriesMax = 200_000

var errTooMany = fmt.Errorf("it has more than %d entries: the rest is left out", entriesMax)

// list writes name and size of what is below dir, and how full its file system is.
func list(out io.Writer, dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w; is it on another machine?", dir, err)
	}
	w := bufio.NewWriter(out)
	size := uint64(st.Bsize)
	fmt.Fprintf(w, "%s: file system of %d bytes, %d available, %d of %d inodes free\n", dir, st.Blocks*size, st.Bavail*size, st.Ffree, st.Files)
	entries := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintf(w, "! %v\n", err)
			return nil // the others may be read
		}
		if entries++; entries > entriesMax {
			return errTooMany
		}
		info, err := e.Info()
		if err != nil {
			return nil // it went meanwhile
		}
		fmt.Fprintf(w, "%s %12d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format("2006-01-02T15:04:05Z"), path)
		return nil
	})
	return errors.Join(err, w.Flush())
}

// logs takes the broker's log where journald keeps it.
func (b *bundle) logs(ctx context.Context) {
	if b.LogUnit == "" {
		return
	}
	b.Say("reading the log of %s", b.LogUnit)
	ctx, cancel := context.WithTimeout(ctx, askTimeMax)
	defer cancel()
	b.fileOf("logs/"+b.LogUnit+".log", b.LogBytesMax, func(w io.Writer) error {
		c := exec.CommandContext(ctx, "journalctl", "--unit", b.LogUnit, "--since", b.LogsSince, "--output", "short-iso-precise", "--no-pager", "--utc", "--quiet")
		complaint := capped{left: 4 << 10}
		c.Stdout, c.Stderr = w, &complaint
		if err := c.Run(); err != nil {
			return fmt.Errorf("read the log by journalctl: %w: %s; where the broker logs elsewhere, add its log yourself", err, strings.TrimSpace(complaint.String()))
		}
		return nil
	})
}
