package load

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/disk"
)

// deviceBytes is the size of the file that DeviceLatency writes into.
const deviceBytes = 16 << 20

// DeviceLatency writes a page of 4 KiB into a file that was written before, past
// the page cache and synced by itself, at rate per second for took: what a broker
// that syncs cannot go below. The file stays, for the next time.
func DeviceLatency(ctx context.Context, name string, rate int, took time.Duration) (Quantiles, error) {
	fs := disk.OS{}
	if _, err := fs.Stat(name); err != nil {
		if err := zeroed(fs, name); err != nil {
			return Quantiles{}, err
		}
	}
	f, err := fs.OpenDirect(name, true)
	if err != nil {
		return Quantiles{}, err
	}
	defer f.Close()
	page := disk.Aligned(disk.DirectAlign)
	p := newPacer()
	defer p.close()
	var lat []time.Duration
	began := time.Now()
	for i := 0; time.Since(began) < took && ctx.Err() == nil; i++ {
		p.until(began.Add(time.Duration(i) * time.Second / time.Duration(rate)))
		sent := time.Now()
		if _, err := f.WriteAt(page, int64(i)*disk.DirectAlign%deviceBytes); err != nil {
			return Quantiles{}, err
		}
		lat = append(lat, time.Since(sent))
	}
	return quantiles(lat), ctx.Err()
}

func zeroed(fs disk.FS, name string) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, deviceBytes)); err != nil {
		return fmt.Errorf("fill %s: %w", name, err)
	}
	return f.Sync()
}
