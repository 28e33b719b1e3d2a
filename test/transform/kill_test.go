package transform

import (
	"os"
	"strconv"
	"testing"

	"github.com/millrace-io/millrace/test/node"
)

// killRounds keeps the fast suite fast; test/soak plays for as long as one likes.
const killRounds = 6

// TestKillUnderLoad plays all scenes at one time, kills broker, sidecar and both
// at random, and recomputes every child.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("MILLRACE_SEED"), 10, 64); err == nil {
		seed = n
	}
	rounds := killRounds
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_ROUNDS")); err == nil {
		rounds = n
	}
	w := New(t, node.Start(t, node.Options{Sidecar: true, Args: StartArgs}), Scenes(), seed)
	w.Load()
	for range rounds {
		w.Round()
	}
	t.Logf("%d sidecars were killed alone", w.SidecarsKilled())
	w.Quiet()
	w.Settle()
	w.Judge()
}
