package partition

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/disk"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// TestStoredFormats pins the bytes of commands and checkpoints: what was stored
// once must be read for ever. A difference is a new format version.
func TestStoredFormats(t *testing.T) {
	const name = "testdata/formats.hex"
	p := storedPartition(t)
	var s strings.Builder
	for _, c := range sampleCommands() {
		s.WriteString("command " + c.Kind.String() + " " + hex.EncodeToString(c.Append(nil)) + "\n")
	}
	s.WriteString("checkpoint " + hex.EncodeToString(p.encodeCheckpoint(7)) + "\n")
	want, err := os.ReadFile(name)
	if *rewrite {
		err = os.WriteFile(name, []byte(s.String()), 0o644)
		want = []byte(s.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != string(want) {
		t.Fatalf("formats differ from %s:\n%s", name, s.String())
	}
	q := &Partition{o: Options{ID: testID}}
	if _, err := q.decodeCheckpoint(p.encodeCheckpoint(7)); err != nil {
		t.Fatal(err)
	}
}

// TestCheckpointBefore reads what the version before this wrote, which knew of no
// install.
func TestCheckpointBefore(t *testing.T) {
	raw, err := os.ReadFile("testdata/checkpoint3.hex")
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	p := storedPartition(t)
	q := &Partition{o: Options{ID: testID}}
	list, err := q.decodeCheckpoint(b)
	if err != nil {
		t.Fatal(err)
	}
	if q.Installed() != 0 || q.Applied() != p.Applied() || len(list) != len(p.segments) {
		t.Fatalf("installed %d, applied %d, %d segments", q.Installed(), q.Applied(), len(list))
	}
	if got, want := q.encodeWith(list, 7), p.encodeCheckpoint(7); !bytes.Equal(got, want) {
		t.Fatalf("it is\n%x, want\n%x", got, want)
	}
}

// storedPartition has one of everything that a checkpoint can hold.
func storedPartition(t *testing.T) *Partition {
	p := openOn(t, disk.NewMemory(), Config{SegmentBytesMax: 300})
	apply(t, p, Command{Kind: KindLead, Epoch: 2})
	spec := record.Plain(record.None)
	spec.ProducerID, spec.ProducerEpoch, spec.BaseSequence, spec.Transactional = 4, 1, 0, true
	var b record.Builder
	for range 2 {
		b.Reset(spec)
		if err := b.Add(1000, []byte("k"), []byte("v"), nil); err != nil {
			t.Fatal(err)
		}
		_, batch, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		marker, err := record.AppendMarker(nil, record.Marker{Producer: 4, ProducerEpoch: 1, Timestamp: 1001})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, p, Command{Kind: KindProduce, Epoch: 2, Batches: [][]byte{batch}})
		if spec.BaseSequence == 0 {
			apply(t, p, Command{Kind: KindMarker, Epoch: 2, Batches: [][]byte{marker}})
		}
		spec.BaseSequence++
	}
	apply(t, p, Command{Kind: KindActivate, Epoch: 2, Activate: Activate{Key: key(1), Activation: 5, Offset: 3}})
	apply(t, p, Command{Kind: KindSource, Epoch: 2, Source: Source{Key: key(1), Activation: 5, Seen: 5, From: 3, To: 9, Gap: 2, Verdicts: []model.Offset{4}}})
	apply(t, p, Command{Kind: KindTrim, Epoch: 2, LogStart: 1})
	return p
}

func TestNewerCheckpointIsNamed(t *testing.T) {
	fs := disk.NewMemory()
	p := openOn(t, fs, Config{})
	b := p.encodeCheckpoint(9)
	binary.LittleEndian.PutUint32(b[8:], checkpointVersion+1)
	if err := fs.MkdirAll(testDir); err != nil {
		t.Fatal(err)
	}
	if err := writeCheckpoint(fs, testDir, castagnoliSeal(b)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{FS: fs, Dir: testDir, ID: testID}); !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
}

func TestDestroy(t *testing.T) {
	fs := disk.NewMemory()
	p := openOn(t, fs, Config{})
	apply(t, p, Command{Kind: KindLead, Epoch: 1})
	apply(t, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 1, 10)}})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Destroy(fs, testDir); err != nil {
		t.Fatal(err)
	}
	if files := fs.Files("/"); len(files) != 0 {
		t.Fatalf("%v are left", files)
	}
	if p := openOn(t, fs, Config{}); p.Applied() != 0 {
		t.Fatal("it came back")
	}
}

// TestProducersAreBounded sees that those who wrote longest ago are forgotten, and
// those with a transaction never.
func TestProducersAreBounded(t *testing.T) {
	var ps producers
	spec := record.Plain(record.None)
	spec.ProducerEpoch, spec.BaseSequence = 0, 0
	var b record.Builder
	for i := range producersMax + 1 {
		spec.ProducerID, spec.Transactional = model.ProducerID(i), i == 0
		b.Reset(spec)
		b.SetLastOffsetDelta(0)
		_, batch, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		ps.note(batch, model.Offset(i))
	}
	if len(ps.byID) != producersMax-producersMax/8+1 || ps.byID[0] == nil || ps.byID[1] != nil || ps.byID[producersMax] == nil {
		t.Fatalf("%d producers are known", len(ps.byID))
	}
}

func TestCacheIsBounded(t *testing.T) {
	p := openOn(t, disk.NewMemory(), Config{CacheBytesMax: 3000})
	apply(t, p, Command{Kind: KindLead, Epoch: 1})
	for range 50 {
		apply(t, p, Command{Kind: KindProduce, Epoch: 1, Batches: [][]byte{plainBatch(t, 1, 500)}})
	}
	if n := p.CacheBytes(); n == 0 || n > 3000 {
		t.Fatalf("%d bytes are cached", n)
	}
	if got, err := readAll(t, p, 0, 1200, false); err != nil || len(got) != 50 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	p.CacheShrink(1000)
	if n := p.CacheBytes(); n > 2000 {
		t.Fatalf("%d bytes after shrinking", n)
	}
	p.CacheShrink(1 << 20)
	if p.CacheBytes() != 0 || p.cache.ring != nil {
		t.Fatal("the cache is not empty")
	}
	if got, err := readAll(t, p, 10, 1200, false); err != nil || len(got) != 40 {
		t.Fatalf("%d records, %v", len(got), err)
	}
}
