package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

//go:embed scripts/strong.js
var strongJS []byte

//go:embed scripts/damage.go.txt
var damageGo []byte

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }

func main() {
	keep := flag.Bool("keep", false, "leave the broker running")
	bin := flag.String("bin", "bin", "directory of the binaries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// broker is the demo's broker process.
type broker struct {
	cmd     *exec.Cmd
	bin     string
	dir     string
	brokers string
	admin   string
}

func run(ctx context.Context, bin string, keep bool) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	quakes, strikes, err := fetchData(filepath.Join(filepath.Dir(bin), "build", "data"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "millrace-demo-")
	if err != nil {
		return err
	}
	b, err := startBroker(bin, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, b.stop(), os.RemoveAll(dir))
		}
	}()
	if err := b.deploy(ctx); err != nil {
		return err
	}
	if err := b.feedAndWatch(ctx, quakes, strikes); err != nil {
		return err
	}
	if keep {
		kept = true
		b.explain()
	}
	return nil
}

const readyLimit = 60 * time.Second

func startBroker(bin, dir string) (*broker, error) {
	b := &broker{bin: bin, dir: dir}
	b.cmd = exec.Command(filepath.Join(bin, "millrace"), "start", "--mode", "dev", "--overprovisioned", "--memory", "2G",
		"--data-dir", filepath.Join(dir, "data"), "--kafka-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
		"--rpc-addr", "127.0.0.1:0", "--proxy-addr", "off", "--registry-addr", "off")
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is the demo's to handle
	log, err := os.Create(filepath.Join(dir, "broker.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.cmd.Stderr = log
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n') // an early end gives an empty line
		ready <- line
	}()
	select {
	case line := <-ready:
		if !strings.HasPrefix(line, "ready ") {
			text, _ := os.ReadFile(log.Name()) // for the message only
			return nil, errors.Join(fmt.Errorf("the broker did not start:\n%s", text), b.stop())
		}
		fmt.Printf("broker   %s(%.1f s)\n", strings.TrimSpace(line)+" ", time.Since(began).Seconds())
		for _, f := range strings.Fields(line) {
			if v, ok := strings.CutPrefix(f, "kafka="); ok {
				b.brokers = v
			}
			if v, ok := strings.CutPrefix(f, "admin="); ok {
				b.admin = v
			}
		}
		return b, nil
	case <-time.After(readyLimit):
		return nil, errors.Join(fmt.Errorf("the broker was not ready within %s", readyLimit), b.stop())
	}
}

func (b *broker) stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return b.cmd.Wait()
}

// cli runs `millrace` as a user would and returns what it printed.
func (b *broker) cli(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "millrace"), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MILLRACE_BROKERS="+b.brokers, "MILLRACE_ADMIN="+b.admin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("millrace %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out), nil
}

// deploy makes the topics, then generates, builds and deploys both scripts.
func (b *broker) deploy(ctx context.Context) error {
	if _, err := b.cli(ctx, b.dir, "topic", "create", "quakes", "strikes", "-p", "4"); err != nil {
		return err
	}
	for _, s := range []struct {
		name, language, file, input, what string
		source                            []byte
	}{
		{"strong", "javascript", "main.js", "quakes", "Keeps strong earthquakes, with where they were", strongJS},
		{"damage", "go", "main.go", "strikes", "Keeps wildlife strikes that cost something", damageGo},
	} {
		began := time.Now()
		if _, err := b.cli(ctx, b.dir, "wasm", "generate", s.name, "--language", s.language); err != nil {
			return err
		}
		project := filepath.Join(b.dir, s.name)
		if err := os.WriteFile(filepath.Join(project, s.file), s.source, 0o644); err != nil {
			return err
		}
		if err := describe(filepath.Join(project, "transform.yaml"), s.what); err != nil {
			return err
		}
		_, err := b.cli(ctx, project, "wasm", "deploy", "--name="+s.name, s.file, "--input", s.input, "--mode", "async", "--wait")
		if err != nil {
			return err
		}
		fmt.Printf("deployed %-8s %s: %s -> %s.%s (%.1f s)\n", s.name, s.language, s.input, s.input, s.name, time.Since(began).Seconds())
	}
	return nil
}

var description = regexp.MustCompile(`(?m)^description: .*$`)

// describe puts what a script does into its manifest, where the template says
// what the template's does.
func describe(manifest, what string) error {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	return os.WriteFile(manifest, description.ReplaceAll(text, []byte("description: "+what)), 0o644)
}

func (b *broker) explain() {
	fmt.Printf(`
The broker goes on as process %d, in %s. Try:

  export MILLRACE_BROKERS=%s MILLRACE_ADMIN=%s
  bin/millrace wasm list
  bin/millrace wasm describe strong
  bin/millrace topic consume quakes.strong -n 3
  bin/millrace group describe demo
  curl http://%s/metrics
  kill %d        # ends it; then: rm -rf %s
`, b.cmd.Process.Pid, b.dir, b.brokers, b.admin, b.admin, b.cmd.Process.Pid, b.dir)
}
