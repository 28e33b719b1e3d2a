package journal

import (
	"bytes"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/millrace-io/millrace/broker/disk"
)

// written makes a block as the writer does.
func written(t testing.TB, f *file, seq uint64, es []pb.Entry) []byte {
	t.Helper()
	j := &Journal{session: 7}
	b := j.newBatch(seq, nil) // bound to no file yet
	it := item{kind: kindBase, flags: hasBootstrap | hasSnapshot, entries: uint32(len(es)), name: name{5, 1},
		state: pb.State{Term: 2, Vote: 1, Commit: 3}, first: 1, last: 9, turn: 4, pos: uint32(len(b.buf))}
	b.buf = appendBlob(b.buf, []byte("bootstrap"), b.mix)
	b.buf = appendBlob(b.buf, nil, b.mix)
	for i := range es {
		b.buf = appendEntry(b.buf, &es[i], b.mix)
	}
	it.length = uint32(len(b.buf)) - it.pos
	b.items = []item{it}
	h := head{file: f.seq, seq: seq, session: 7, pos: page, body: uint32(len(b.buf) - headSize), items: 1, names: 1}
	size := int(disk.AlignUp(h.size()))
	b.rebind(f.mix)
	b.finish(&h, []name{{5, 1}}, size)
	return b.buf
}

func testFile() *file { return &file{seq: 3, mix: mix(7, 3)} }

func testEntries() []pb.Entry {
	return []pb.Entry{
		{Term: 1, Index: 2, Type: pb.ConfigChangeEntry, Key: 3, ClientID: 4, SeriesID: 5, RespondedTo: 6, Cmd: []byte("seven")},
		{Term: 1, Index: 3}, {Term: 1, Index: 4, Cmd: []byte{}}, {Term: 2, Index: 5, Cmd: bytes.Repeat([]byte("x"), 9000)},
	}
}

func TestBlockRoundTrip(t *testing.T) {
	f := testFile()
	content := append(make([]byte, page), written(t, f, 11, testEntries())...)
	b, ok := readBlock(content, f.seq, 7, page)
	if !ok || !b.whole(f.mix) || b.seq != 11 || len(b.items) != 1 || len(b.names) != 1 || b.names[0] != (name{5, 1}) {
		t.Fatalf("read back %+v, %v", b, ok)
	}
	it := &b.items[0]
	if it.state != (pb.State{Term: 2, Vote: 1, Commit: 3}) || it.first != 1 || it.last != 9 || it.turn != 4 {
		t.Errorf("item %+v", it)
	}
	blob, rest, err := nextBlob(b.share(it), f.mix)
	if err != nil || string(blob) != "bootstrap" {
		t.Errorf("blob %q, %v", blob, err)
	}
	if _, rest, err = nextBlob(rest, f.mix); err != nil {
		t.Fatal(err)
	}
	for _, want := range testEntries() {
		e, n, err := nextEntry(rest, f.mix)
		if err != nil || e.Index != want.Index || e.Key != want.Key || e.RespondedTo != want.RespondedTo ||
			!bytes.Equal(e.Cmd, want.Cmd) || (e.Cmd == nil) != (want.Cmd == nil) {
			t.Errorf("entry %+v, %v; want %+v", e, err, want)
		}
		rest = rest[n:]
	}
}

// Nothing of a block is taken for new in another place, file or session, and no
// byte of it changes unnoticed.
func TestBlockIsBound(t *testing.T) {
	f := testFile()
	good := append(make([]byte, page), written(t, f, 11, testEntries())...)
	if _, ok := readBlock(good, f.seq+1, 7, page); ok {
		t.Error("taken in another file")
	}
	if _, ok := readBlock(good, f.seq, 8, page); ok {
		t.Error("taken in another session")
	}
	if _, ok := readBlock(append(make([]byte, page), good...), f.seq, 7, 2*page); ok {
		t.Error("taken at another place")
	}
	b, _ := readBlock(good, f.seq, 7, page)
	if b.whole(mix(7, f.seq+1)) || b.whole(mix(8, f.seq)) {
		t.Error("its body is taken in another file or session")
	}
	for at := page; at < page+int(b.size()); at++ {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		if r, ok := readBlock(bad, f.seq, 7, page); ok && r.whole(f.mix) {
			t.Fatalf("byte %d of the block changed unnoticed", at-page)
		}
	}
}

// Whatever a device gives back is refused or read within its bounds.
func FuzzReadBlock(f *testing.F) {
	file := testFile()
	f.Add(written(f, file, 1, nil), true)
	f.Add(written(f, file, 11, testEntries()), false)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		content := append(make([]byte, page), b...)
		if sum && len(b) >= headSize { // past the checksum
			h := headOf(b)
			if h.size() <= int64(len(b)) {
				s := headSum(b, &h)
				content[page], content[page+1], content[page+2], content[page+3] = byte(s), byte(s>>8), byte(s>>16), byte(s>>24)
			}
		}
		r, ok := readBlock(content, file.seq, 7, page)
		if !ok {
			return
		}
		r.whole(file.mix)
		for i := range r.items {
			it := &r.items[i]
			rest := r.share(it)
			for range min(it.entries, 1000) {
				_, n, err := nextEntry(rest, file.mix)
				if err != nil {
					break
				}
				rest = rest[n:]
			}
		}
	})
}
