package journal

import (
	"log/slog"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
)

// BenchmarkDevice is a page, written and synced as the journal does.
func BenchmarkDevice(b *testing.B) {
	f := files{fs: disk.OS{}, dir: b.TempDir(), size: 64 << 20}
	file, err := f.prepareNext()
	if err != nil {
		b.Fatal(err)
	}
	defer file.close()
	block := disk.Aligned(page)
	pos := int64(page)
	for b.Loop() {
		if err := file.write(block, pos); err != nil {
			b.Fatal(err)
		}
		if pos += page; pos >= file.size {
			pos = page
		}
	}
}

// BenchmarkSave is one entry of 1 KiB at a time.
func BenchmarkSave(b *testing.B) {
	j, err := Open(Options{FS: disk.OS{}, Dir: b.TempDir(), FileBytes: 64 << 20, BytesMax: 1 << 30, Log: slog.New(slog.DiscardHandler), Fatal: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	cmd := make([]byte, 1024)
	index := uint64(0)
	for b.Loop() {
		index++
		err := j.SaveRaftState([]pb.Update{{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: index}, EntriesToSave: []pb.Entry{{Term: 1, Index: index, Cmd: cmd}}}}, 1)
		if err != nil {
			b.Fatal(err)
		}
		if index%10000 == 0 {
			if err := j.RemoveEntriesTo(1, 1, index); err != nil {
				b.Fatal(err)
			}
		}
	}
}
