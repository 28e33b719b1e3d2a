package partition

import (
	"fmt"
	"sync"
	"testing"

	"github.com/millrace-io/millrace/broker/block"
	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
)

const (
	catchUpBatches = 1024
	catchUpRecords = 250 // of 1 KiB: batches of 256 KiB
	catchUpAsk     = 1 << 20
)

// BenchmarkCatchUp reads a log of 256 MiB from its start, once or by three readers
// side by side: what is in memory, and what is on the device alone.
func BenchmarkCatchUp(b *testing.B) {
	for _, c := range []struct {
		name    string
		readers int
		kept    bool
		past    int64
	}{{"memory", 1, true, 0}, {"device", 1, false, 64 << 20}, {"device", 3, false, 64 << 20}, {"device, nothing kept", 3, false, 0}} {
		b.Run(fmt.Sprintf("%s/%d", c.name, c.readers), func(b *testing.B) {
			memory := block.NewMemory()
			p, err := Open(Options{
				FS: disk.OS{}, Dir: b.TempDir() + "/p", ID: testID, Config: Config{CacheBytesMax: 1},
				Memory: memory, Past: block.NewCache(memory, c.past),
			})
			if err != nil {
				b.Fatal(err)
			}
			defer p.Abandon()
			apply(b, p, Command{Kind: KindLead, Epoch: 1})
			batch := plainBatch(b, catchUpRecords, 1024)
			for range catchUpBatches {
				apply(b, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{batch}})
			}
			j := p.FlushStart()
			err = j.Run()
			if p.FlushDone(j, err); err != nil {
				b.Fatal(err)
			}
			if !c.kept {
				p.CacheShrink(1 << 40)
			}
			b.SetBytes(int64(c.readers * catchUpBatches * len(batch)))
			var loop sync.Mutex // a partition belongs to one goroutine at a time
			for b.Loop() {
				var wg sync.WaitGroup
				for range c.readers {
					wg.Go(func() { catchUp(b, p, &loop) })
				}
				wg.Wait()
			}
		})
	}
}

func catchUp(b *testing.B, p *Partition, loop *sync.Mutex) {
	dst := make([]byte, 0, 2*catchUpAsk)
	for from := model.Offset(0); from < catchUpBatches*catchUpRecords; {
		loop.Lock()
		a, err := p.Read(ReadAsk{From: from, BytesMax: catchUpAsk, MinOne: true})
		loop.Unlock()
		if err == nil {
			dst, err = a.Load(dst[:0])
		}
		if err != nil || len(dst) == 0 {
			b.Errorf("%d bytes at %d: %v", len(dst), from, err)
			return
		}
		from += catchUpRecords * model.Offset(len(dst)/(catchUpRecords*1024))
	}
}
