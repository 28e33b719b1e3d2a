package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-io/millrace/bench/load"
)

// side is a broker under measurement.
type side struct {
	name    string
	brokers string
	admin   string
	dir     string
	cmd     *exec.Cmd
	ready   time.Duration // from exec to the broker's word that it serves; of a peer, that tells nobody, as started
	started time.Duration // from exec to the first acknowledged record
	done    []string      // topics to delete when no window is open: a device discards what is freed
}

const startLimit = 60 * time.Second

// memory is what the broker may use: as much as the peer's heap, caches included.
const memory = "1G"

// startMillrace starts a broker on free ports and a new data directory.
func startMillrace(ctx context.Context, binary, dir string, args ...string) (*side, error) {
	s := &side{name: millraceSide, dir: dir}
	all := append([]string{"start", "--data-dir", filepath.Join(dir, "data"), "--mode", "dev",
		"--kafka-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--rpc-addr", "127.0.0.1:0",
		"--proxy-addr", "off", "--registry-addr", "off", "--memory", memory}, args...)
	s.cmd = exec.Command(binary, all...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "broker.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Stderr = log
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return s, fmt.Errorf("broker did not become ready, see %s: %w", log.Name(), err)
	}
	s.ready = time.Since(began)
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, "kafka="); ok {
			s.brokers = v
		}
		if v, ok := strings.CutPrefix(f, "admin="); ok {
			s.admin = v
		}
	}
	return s, s.awaitAck(ctx, began)
}

// startPeer runs the peer's command line by the shell.
func startPeer(ctx context.Context, name, command, dir string) (*side, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	s := &side{name: name, dir: dir, brokers: fmt.Sprintf("127.0.0.1:%d", port)}
	s.cmd = exec.Command("/bin/sh", "-c", "exec "+command)
	s.cmd.Env = append(os.Environ(), "PEER_DIR="+dir, fmt.Sprintf("PEER_PORT=%d", port))
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, s.awaitAck(ctx, began)
}

// awaitAck waits for the first acknowledged record: that is when a broker is up.
func (s *side) awaitAck(ctx context.Context, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers), kgo.AllowAutoTopicCreation(), kgo.RequestRetries(1), kgo.RecordRetries(20))
		if err != nil {
			return err
		}
		try, stop := context.WithTimeout(ctx, 5*time.Second)
		err = cl.ProduceSync(try, &kgo.Record{Topic: "bench-start", Value: []byte("up")}).FirstErr()
		stop()
		cl.Close()
		if err == nil {
			s.started = time.Since(began)
			if s.ready == 0 {
				s.ready = s.started
			}
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s took no record within %s: %w", s.name, startLimit, err)
		}
	}
}

func (s *side) usage() load.Usage {
	u, err := load.Measure(s.cmd.Process.Pid)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: usage of %s: %v\n", s.name, err)
	}
	return u
}

// stopLimit is what a broker of many partitions may take to close them.
const stopLimit = 60 * time.Second

// stop ends the broker and what it started, by its own id. It tells whether it
// ended by itself.
func (s *side) stop() bool {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	done := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(done) }() // its exit status says nothing here
	select {
	case <-done:
		return true
	case <-time.After(stopLimit):
		_ = s.cmd.Process.Kill()
		<-done
		return false
	}
}

// kill ends it as a crash does.
func (s *side) kill() {
	_ = s.cmd.Process.Kill() // it may have ended already
	_ = s.cmd.Wait()         // its exit status says nothing here
}
