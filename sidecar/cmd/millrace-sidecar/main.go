// Command millrace-sidecar runs transforms beside a broker: as the child of
// `millrace start`, on a socket of its own, or once for a command of the CLI.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

const usage = `millrace-sidecar runs Millrace's WebAssembly transforms.

  millrace-sidecar serve [--socket PATH] [flags]    serve a broker (without --socket: the one that launched this process)
  millrace-sidecar check MODULE                     tell whether a module can be deployed
  millrace-sidecar build-js ENGINE.wasm BUNDLE.js OUT.wasm
                                                    pack a script with its engine
  millrace-sidecar run MODULE [--manifest FILE]        run a module on JSON lines from standard input, twice
  millrace-sidecar version

Results go to standard output as JSON, all else to standard error.
`

// build is set by the linker.
var build = "dev"

// command runs a verb with its arguments; its answer is printed as JSON.
type command func(ctx context.Context, args []string) (answer any, err error)

var commands = map[string]command{
	"serve":    serve,
	"check":    check,
	"build-js": buildJS,
	"run":      run,
	"version":  func(context.Context, []string) (any, error) { return map[string]string{"version": build}, nil },
}

func main() {
	// The real one: whoever serves a broker hands os.Stderr to it.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	answer, err := commands[os.Args[1]](ctx, os.Args[2:])
	stop()
	if err == nil && answer != nil {
		err = json.NewEncoder(os.Stdout).Encode(answer)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "millrace-sidecar: %v\n", err)
		os.Exit(1)
	}
}
