package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"runtime/debug"
	"strconv"

	"github.com/millrace-io/millrace/plugins"
	"github.com/millrace-io/millrace/sidecar/engine"
)

// settings are the flags of serve.
type settings struct {
	socket   string
	group    string
	cacheDir string
	memory   int64
	workers  int
	user     string
	walls    bool
}

func parseServe(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.StringVar(&s.socket, "socket", "", "serve on this unix socket instead of to the process that launched this one")
	flags.StringVar(&s.group, "group", "", "open the socket to this group (mode 0660 instead of 0600)")
	flags.StringVar(&s.cacheDir, "cache-dir", "", "keep compiled modules here (mode 0700); empty keeps none")
	flags.Int64Var(&s.memory, "memory", engine.MemoryBytesDefault, "bytes of memory for all guests together")
	flags.IntVar(&s.workers, "workers", 0, "guests that run at one time; 0 = one for each CPU")
	flags.StringVar(&s.user, "user", "millrace-sidecar", "user to become when started by root; nobody if there is none of that name")
	flags.BoolVar(&s.walls, "walls", true, "confine this process: user, network, privileges, limits, system calls")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return s, nil
}

// gcPercent lets the heap, a few MB beside the guests' memory, grow to 36 MB before it
// is collected: with Go's own setting that was some times a second.
const gcPercent = 800

// serve builds the walls, which executes this program again, then serves.
func serve(ctx context.Context, args []string) (any, error) {
	s, err := parseServe(args)
	if err != nil {
		return nil, err
	}
	if !confined() {
		return nil, confine(s)
	}
	log := slog.Default()
	debug.SetGCPercent(gcPercent)
	walls := finish(s.walls)
	for _, w := range walls {
		if !w.Up {
			log.Warn("wall is down", "wall", w.Name, "reason", w.Text)
		}
	}
	o := engine.Options{
		CacheDir: inheritedCache(), Build: build, Walls: walls, MemoryBytesMax: s.memory, Workers: s.workers, Log: log,
	}
	e, err := engine.New(o)
	if err != nil && o.CacheDir != "" {
		log.Warn("compile cache is off", "dir", s.cacheDir, "reason", err)
		o.CacheDir = ""
		e, err = engine.New(o)
	}
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if s.socket == "" {
		go endWithBroker()
		return nil, plugins.Serve(e)
	}
	l, err := inheritedListener()
	if err != nil {
		return nil, err
	}
	log.Info("serving", "socket", s.socket)
	return nil, plugins.ServeSocket(ctx, e, l)
}

// endWithBroker ends this process when the broker is gone, in whatever way: a
// guest that runs for ever must not outlive it. Nobody reads a log then.
func endWithBroker() {
	lifeline := plugins.Lifeline()
	if lifeline == nil {
		return
	}
	_, _ = io.Copy(io.Discard, lifeline)
	if dir := os.TempDir(); ownFolder(dir) {
		os.RemoveAll(dir) // a broker that was killed cannot do it
	}
	os.Exit(0)
}

// inheritedListener is the socket that was made before the walls.
func inheritedListener() (net.Listener, error) {
	fd, err := strconv.Atoi(os.Getenv(envSocketFD))
	if err != nil {
		return nil, fmt.Errorf("no socket was handed over: %w", err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("take over the socket: %w", err)
	}
	return l, nil
}

// groupID finds a group by name or number; empty is none.
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, fmt.Errorf("--group %s: %w", name, err)
	}
	return strconv.Atoi(g.Gid)
}
