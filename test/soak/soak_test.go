//go:build soak

package soak

import (
	"os"
	"slices"
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

// smallFiles makes a broker roll and forget files all the time: of the journal, and
// segments.
var smallFiles = []string{
	"--set", "journal_file_bytes=4M", "--set", "journal_bytes_max=32M", "--set", "log.segment.bytes=262144", "--set", "flush_bytes=64K",
}

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
	faults := transform.Faults()
	if text := os.Getenv("MILLRACE_FAULT"); text != "" {
		i := slices.IndexFunc(faults, func(f transform.Fault) bool { return f.String() == text+" killed" })
		if i < 0 {
			t.Fatalf("MILLRACE_FAULT: %q is not broker, sidecar or both", text)
		}
		faults = faults[i : i+1]
	}
	for end := time.Now().Add(whole); time.Now().Before(end); seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { leg(t, seed, min(legTime, time.Until(end)), faults) })
		if t.Failed() {
			return // the seed is in its name
		}
	}
}

func leg(t *testing.T, seed uint64, long time.Duration, faults []transform.Fault) {
	args := slices.Clip(transform.StartArgs)
	if seed%2 == 1 {
		args = append(args, smallFiles...)
	}
	var env []string
	late := seed%4 < 2
	if late {
		env = []string{"MILLRACE_FLUSH_DELAY=1m"} // the default: crashes find most in the journal alone
	}
	n := node.Start(t, node.Options{Sidecar: true, Args: args, Env: env, Keep: t.ArtifactDir()})
	w := transform.New(t, n, transform.Scenes(), seed)
	w.Load()
	rounds := 0
	for end := time.Now().Add(long); time.Now().Before(end); rounds++ {
		w.Round(faults...)
	}
	t.Logf("%d rounds, small files %v, flushed late %v: %s", rounds, seed%2 == 1, late, w.Struck())
	w.Quiet()
	w.Settle()
	w.Judge()
}
