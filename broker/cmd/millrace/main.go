// Command millrace is the broker and every command that asks or steers one.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/millrace-io/millrace/broker/cli"
	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/rescue"
	"github.com/millrace-io/millrace/broker/server"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := server.Home(); err != nil {
		fmt.Fprintln(os.Stderr, "millrace:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := cli.New(cli.Deps{
		Version: version, Commit: commit(),
		Start: func(ctx context.Context, n config.Node) error { return server.Run(ctx, n, version, os.Stdout) },
		Rescue: func(ask rescue.Ask) (*rescue.Outcome, error) {
			return server.RecoverLostMajority(ask, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
		},
	})
	if err := root.ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

// commit is the revision that the build was made from, when it knows.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
