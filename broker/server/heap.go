package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector is the tail of the tail: the heap may grow to nine times what is
// live, but by no more than heapGrowth or what is live again. With 4,096 partitions
// a collection takes 80 ms of both cores: at 2,000 records/s one each 6 s is more
// than one record in a hundred, one each 12 s is not.
const (
	gcPercentMin, gcPercentMax = 100, 800
	heapGrowth                 = 128 << 20
	// heapEvery is how often what is live is looked at; gcPercentSlack how many per
	// cent of the setting it must differ by: setting it stops the world.
	heapEvery, gcPercentSlack = time.Second, 10
)

// gcPercent gives the collector's setting for so many live bytes.
func gcPercent(live uint64) int {
	return int(min(max(heapGrowth*100/max(live, 1), gcPercentMin), gcPercentMax))
}

// keepHeap follows what is live until ctx ends.
func keepHeap(ctx context.Context) {
	t := time.NewTicker(heapEvery)
	defer t.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := gcPercentMax
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		metrics.Read(sample)
		if want := gcPercent(sample[0].Value.Uint64()); max(want-set, set-want)*100 > set*gcPercentSlack {
			debug.SetGCPercent(want)
			set = want
		}
	}
}
