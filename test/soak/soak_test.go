//go:build soak

package soak

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/millrace-io/millrace/test/node"
	"github.com/millrace-io/millrace/test/transform"
)

const (
	soakTime = 10 * time.Minute
	// legTime is how long a broker's history grows before it is judged: children
	// are recomputed in memory, and a fault is found sooner.
	legTime = 3 * time.Minute
)

// TestSoak plays all scenes on one broker after the other, kills it, its sidecar
// and both under load, and judges each history.
func TestSoak(t *testing.T) {
	whole := soakTime
	if text := os.Getenv("MILLRACE_SOAK"); text != "" {
		var err error
		if whole, err = time.ParseDuration(text); err != nil {
			t.Fatalf("MILLRACE_SOAK: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MILLRACE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MILLRACE_SEED: %v", err)
		}
	}
	for end := time.Now().Add(whole); time.Now().Before(end); seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { leg(t, seed, min(legTime, time.Until(end))) })
		if t.Failed() {
			return // the seed is in its name
		}
	}
}

func leg(t *testing.T, seed uint64, long time.Duration) {
	n := node.Start(t, node.Options{Sidecar: true, Args: transform.StartArgs})
	w := transform.New(t, n, transform.Scenes(), seed)
	w.Load()
	rounds := 0
	for end := time.Now().Add(long); time.Now().Before(end); rounds++ {
		w.Round()
	}
	t.Logf("%d rounds, %d sidecars killed alone", rounds, w.SidecarsKilled())
	w.Quiet()
	w.Settle()
	w.Judge()
}
