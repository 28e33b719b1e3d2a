package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace-io/millrace/bench/load"
)

// What awaitDevice asks of the device before a side's turn: a second without a
// stall, or deviceTries seconds.
const (
	deviceRate     = 2000
	deviceStallMax = 8 // ms
	deviceTries    = 30
	// deviceDelay is what a broker takes at the most to remove the files of the
	// topics that were deleted after the turn before.
	deviceDelay = 3 * time.Second
)

// awaitDevice waits until the device has done what the turn before has left it:
// pages to write, freed blocks to discard. It notes what a bare write takes then,
// 4 KiB and its sync at a time, at the rate of the acks' first row.
func awaitDevice(ctx context.Context, dir string, t *table, side string) error {
	select {
	case <-time.After(deviceDelay):
	case <-ctx.Done():
		return ctx.Err()
	}
	unix.Sync()
	var q load.Quantiles
	for range deviceTries {
		var err error
		if q, err = load.DeviceLatency(ctx, filepath.Join(dir, "device"), deviceRate, time.Second); err != nil {
			return fmt.Errorf("probe the device: %w", err)
		}
		if q.Max < deviceStallMax {
			break
		}
	}
	t.add("bare device, synced 4 KiB at 2000/s, p50 ms", side, q.P50)
	t.add("bare device, synced 4 KiB at 2000/s, p99 ms", side, q.P99)
	t.add("bare device, synced 4 KiB at 2000/s, max ms", side, q.Max)
	if q.Max >= deviceStallMax {
		fmt.Fprintf(os.Stderr, "bench: the device still stalls for %.1f ms after %d s\n", q.Max, deviceTries)
	}
	return nil
}
