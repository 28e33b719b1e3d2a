package partition

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/disk"
)

// TestOnTheRealDisk goes once through everything that touches files.
func TestOnTheRealDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "topic", "0")
	o := Options{FS: disk.OS{}, Dir: dir, ID: testID, Config: Config{SegmentBytesMax: 2000, Compact: true, CacheBytesMax: -1}}
	open := func() *Partition {
		p, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := open()
	apply(t, p, Command{Kind: KindLead, Epoch: 1})
	flush := func() {
		t.Helper()
		j := p.FlushStart()
		if j == nil {
			t.Fatal("nothing to flush")
		}
		err := j.Run()
		p.FlushDone(j, err)
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		apply(t, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 3, 50)}})
		if i%20 == 19 {
			flush()
		}
	}
	before := p.Bytes()
	j := p.CompactStart(time.UnixMilli(1 << 40))
	if j == nil {
		t.Fatal("nothing to compact")
	}
	err := j.Run()
	if p.CompactDone(j, err); err != nil {
		t.Fatal(err)
	}
	flush()
	if p.Bytes() >= before/2 {
		t.Fatalf("%d bytes after compaction of %d", p.Bytes(), before)
	}
	want, err := readAll(t, p, 0, 500, false)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 1, 50)}})
	p.Abandon() // the process is killed: its last write is in the page cache, and behind the checkpoint
	p = open()
	if p.Applied() != 61 || len(p.Damage()) != 0 {
		t.Fatalf("applied %d, damage %v", p.Applied(), p.Damage())
	}
	got, err := readAll(t, p, 0, 500, false)
	if err != nil || len(got) != len(want) || got[len(got)-1] != want[len(want)-1] {
		t.Fatalf("%d records, %v; want %d", len(got), err, len(want))
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Destroy(o.FS, dir); err != nil {
		t.Fatal(err)
	}
}
