package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/admin/client"
	"github.com/millrace-io/millrace/broker/cli/bundle"
)

func (a *app) debugCommand() *cobra.Command {
	return group("debug", "Gather what who looks for a fault asks for", a.debugBundle())
}

func (a *app) debugBundle() *cobra.Command {
	o := bundle.Options{}
	var path string
	var logMiB int64
	c := &cobra.Command{
		Use: "bundle", Short: "Write a zip of the cluster's, the nodes' and this machine's state", Args: cobra.NoArgs,
		Long: `Write a zip of what who looks for a fault asks for first: the cluster's metadata, health, settings and
scripts; topics, offsets and groups as Kafka's clients see them; metrics of each node, twice, and its
profiles; what this machine says of its processors, memory, disks and network; the data directory's file
names and sizes; and the broker's log, where journald has it.

What cannot be had is a line of errors.txt. Profiles are given to the node's own machine only, and so is
the log: run it on each node. Secrets are left out: settings that are marked so or look so, the
environment of scripts, keys and certificates, environments and command lines of processes. No
record of a topic is in it. Names of topics, groups, hosts and files are.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Interval < 0 || o.CPU < 0 || logMiB < 1 {
				return errors.New("--metrics-interval and --cpu-profiler-wait are 0 or more, --logs-size-limit-mib is 1 or more")
			}
			o.LogBytesMax = logMiB << 20
			if path == "" {
				path = time.Now().UTC().Format("20060102T150405Z") + "-bundle.zip"
			}
			return a.writeBundle(cmd.Context(), path, o)
		},
	}
	f := c.Flags()
	f.StringVarP(&path, "output", "o", "", "file to write (default TIME-bundle.zip)")
	f.DurationVar(&o.Interval, "metrics-interval", 10*time.Second, "time between the two readings of the metrics")
	f.DurationVar(&o.CPU, "cpu-profiler-wait", 10*time.Second, "how long to watch what processors do; below 1s: not at all")
	f.StringVar(&o.LogUnit, "logs-unit", "millrace", "systemd unit whose log is taken; empty: none")
	f.StringVar(&o.LogsSince, "logs-since", "yesterday", "take the log from then on, as journalctl reads it")
	f.Int64Var(&logMiB, "logs-size-limit-mib", 100, "most of the log that is taken, in MiB")
	f.StringVar(&o.DataDir, "data-dir", "", "data directory whose files are listed (default that of the node that answers)")
	return c
}

// writeBundle writes a file that only its owner may read; one that exists is not
// written over, and what is not complete does not stay.
func (a *app) writeBundle(ctx context.Context, path string, o bundle.Options) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already; name another file with -o", path)
	}
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	o.Kafka, o.Version = a.kadm, a.deps.Version
	o.Say = func(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }
	o.Admin = func(addrs ...string) (*client.Client, error) {
		s, err := a.settings()
		if err != nil {
			return nil, err
		}
		if len(addrs) == 0 {
			addrs = s.Admin
		}
		return client.New(client.Options{Addrs: addrs, DialTimeout: s.DialTimeout, AnswerTimeout: s.Timeout})
	}
	done, err := bundle.Write(ctx, f, o)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the bundle %s: %w", filepath.Base(path), err), os.Remove(path))
	}
	wrote := struct {
		Path string `json:"path"`
		bundle.Summary
	}{path, done}
	return a.print(wrote, func(w *sheet) {
		w.line("%s has %d files; what could not be had, %d things, is in its errors.txt", path, done.Files, len(done.Errors))
	})
}
